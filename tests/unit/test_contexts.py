"""Who holds which slot, when a request is refused, leaves, or comes late: against a child of a few lines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from pathlib import Path
from typing import Any, cast

import pytest

from tests.unit.test_snapshots import chain
from variet.engine.backends.base import LaunchSpec, StateMemory
from variet.engine.contexts import Contexts, Happening, Prepared
from variet.engine.conversation import NOTHING, Chain
from variet.engine.fleet import Lease
from variet.engine.record import Record
from variet.engine.snapshots import Snapshot, Snapshots
from variet.engine.upstream import Upstream

SHIPS, SHOES, KINGS = chain("sys", "ships"), chain("sys", "shoes"), chain("other", "kings")


class Child:
    """Answers saves and restores at once; `tokens` says how many a slot has. A word of a prompt is a token to it, and a
    save ends with `appendix`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.done, self.tokens = folder, list[str](), {0: 1_000, 1: 1_000}
        self.waits: asyncio.Event | None = None
        self.status = 200
        self.appendix = b""
        self.words: list[str] = []

    async def ask(self, method: str, path: bytes, headers: Any, body: bytes) -> Child:
        if not path.startswith(b"/slots/"):
            self._said = json.dumps(self._say(path, json.loads(body))).encode()
            return self
        slot, action = int(path.split(b"/")[2].split(b"?")[0]), path.rpartition(b"=")[2].decode()
        name = json.loads(body)["filename"]
        self.done.append(f"{action} {slot}")
        if action == "save":
            (self.folder / name).write_bytes(b"x" * 1_000 + self.appendix)
        self._said = json.dumps({"n_saved": self.tokens[slot]}).encode()
        if self.waits is not None:
            await self.waits.wait()
        return self

    def _say(self, path: bytes, body: dict[str, Any]) -> dict[str, Any]:
        if path == b"/apply-template":
            turns = [f"<{turn['role']}> {turn['content']}" for turn in body["messages"]]
            return {"prompt": " ".join([*turns, "<assistant>"])}
        if path == b"/tokenize":
            words = body["content"].split()
            self.words += [word for word in dict.fromkeys(words) if word not in self.words]
            return {"tokens": [self.words.index(word) for word in words]}
        assert path == b"/completion" and body["n_predict"] == 0
        self.done.append(f"rewind {body['id_slot']} to {len(body['prompt'])}")
        assert body["stream"] and body["return_progress"], "else it is read to its end when it is given up"
        self.tokens[body["id_slot"]] = len(body["prompt"])
        return {"stop": True}

    async def read_all(self) -> bytes:
        return self._said

    def close(self) -> None:
        pass


class Scene:
    """Contexts over one child of two slots."""

    def __init__(self, folder: Path, memory: StateMemory = "plain") -> None:
        self.happened: list[Happening] = []
        self.snapshots = Snapshots(folder / "snapshots", 1 << 30, 0)
        self.contexts = Contexts(self.snapshots, self.happened.append)
        self.child = Child(self.snapshots.place("m"))
        self.upstream = cast(Upstream, self.child)
        self.contexts.opened(1, LaunchSpec("m", "b", (), {}, True, 60, "k", memory), self.upstream)
        self._requests = 0

    def lease(self, slot: int | None = 0, *, alone: bool = True) -> Lease:
        self._requests += 1
        return Lease(self._requests, "m", 1, slot, 2, alone, self.upstream, 0.0, 0.0)

    async def talk(
        self, of: Chain, *, slot: int = 0, lasting: bool = True, tokens: int = 1_000, cached: int = 0
    ) -> Prepared:
        lease = self.lease(slot)
        prepared = await self.contexts.prepare(lease, of, lasting=lasting)
        self.answer(lease, of, lasting=lasting, tokens=tokens, cached=cached)
        return prepared

    def answer(self, lease: Lease, of: Chain, *, lasting: bool = True, tokens: int = 1_000, cached: int = 0) -> None:
        record = Record(lease.request_id, "/v1/chat/completions", "", "m", prompt_tokens=tokens, cached_tokens=cached)
        self.contexts.answered(lease, of, record, lasting=lasting)
        self.contexts.left(lease, read=True)  # as the relay does in the end, in any case

    def kept(self) -> list[tuple[str, ...]]:
        return sorted(one.chain.digests for one in self.snapshots)

    def files(self) -> int:
        return len(list(self.child.folder.glob("*.kv")))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_who_is_displaced_is_saved_and_comes_back(scene: Scene) -> None:
    await scene.talk(SHIPS)
    await scene.talk(KINGS)
    assert scene.kept() == [SHIPS.digests]
    back = await scene.talk(SHIPS, cached=950)
    assert back.restored and back.tokens == 1_000
    assert [one.outcome for one in scene.happened] == ["saved", "saved", "restored", "held"]
    await scene.contexts.keep(1, 5)
    assert scene.child.done == ["save 0", "save 0", "restore 0", "save 0"]


async def test_a_question_asked_again_for_another_answer_is_held(scene: Scene) -> None:
    """The old answer was in the state, too: nobody promised that it would be read again."""
    for _ in range(3):
        lease = scene.lease()
        await scene.contexts.prepare(lease, SHIPS, lasting=True)
        record = Record(lease.request_id, "/", "", "m", prompt_tokens=46, output_tokens=1_200, cached_tokens=45)
        scene.contexts.answered(lease, SHIPS, record, lasting=True)
        await scene.talk(KINGS, cached=950)
    outcomes = [one.outcome for one in scene.happened]
    assert "held" in outcomes and "did not hold" not in outcomes


@pytest.mark.parametrize("end", ["refused", "left"])
async def test_what_must_not_be_kept_is_not_kept_under_another_s_name(scene: Scene, end: str) -> None:
    """The slot still holds the private conversation when the request that follows in it comes to nothing."""
    await scene.talk(SHIPS, lasting=False)
    lease = scene.lease()
    await scene.contexts.prepare(lease, SHOES, lasting=True)
    if end == "refused":
        scene.answer(lease, SHOES, tokens=0)
    else:
        scene.contexts.left(lease, read=False)
    await scene.contexts.keep(1, 5)
    assert not scene.kept() and not scene.files() and not scene.child.done


async def test_a_refused_request_costs_nobody_the_slot(scene: Scene) -> None:
    await scene.talk(SHIPS)
    lease = scene.lease()
    await scene.contexts.prepare(lease, SHIPS, lasting=True)
    scene.answer(lease, SHIPS, tokens=0)
    await scene.contexts.keep(1, 5)
    assert scene.kept() == [SHIPS.digests]


async def test_a_slot_under_way_is_nobody_s_yet(scene: Scene) -> None:
    await scene.talk(SHIPS)
    await scene.contexts.prepare(scene.lease(), KINGS, lasting=True)
    await scene.contexts.keep(1, 5)
    assert scene.kept() == [SHIPS.digests], "saved as it was displaced, and nothing since"


async def test_an_end_that_comes_late_touches_no_other_request(scene: Scene) -> None:
    slow, quick = scene.lease(), scene.lease()
    await scene.contexts.prepare(slow, SHIPS, lasting=True)
    record = Record(slow.request_id, "/", "", "m", prompt_tokens=1_000)
    scene.contexts.answered(slow, SHIPS, record, lasting=True)
    await scene.contexts.prepare(quick, KINGS, lasting=True)  # while the first client still reads
    scene.contexts.left(slow, read=True)
    scene.answer(quick, KINGS)
    await scene.contexts.keep(1, 5)
    assert scene.kept() == sorted([SHIPS.digests, KINGS.digests])


async def test_a_cut_save_leaves_nothing_behind(scene: Scene) -> None:
    await scene.talk(SHIPS)
    scene.child.waits = asyncio.Event()
    asked = asyncio.ensure_future(scene.contexts.prepare(scene.lease(), KINGS, lasting=True))
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait([asked])
    assert scene.files() == 1 and not scene.kept(), "the child wrote it all the same"
    scene.contexts.closed(1)
    assert scene.files() == 0


async def test_a_request_that_comes_during_a_keep_takes_its_slot(scene: Scene) -> None:
    """A child is asked after a sleep, and what it holds is saved before: it may be used meanwhile."""
    await scene.talk(SHIPS)
    await scene.talk(KINGS, slot=1)
    scene.child.waits = asyncio.Event()
    keeping = asyncio.ensure_future(scene.contexts.keep(1, 5))
    await asyncio.sleep(0)
    scene.contexts.overwritten(1, 1)
    scene.child.waits.set()
    await keeping
    assert scene.kept() == [SHIPS.digests]


async def test_a_slot_that_holds_less_than_thought_is_not_saved_over_better(scene: Scene) -> None:
    await scene.talk(SHIPS)
    await scene.talk(KINGS)
    await scene.talk(SHIPS, cached=1_000)
    scene.child.tokens[0] = 2
    await scene.contexts.keep(1, 5)
    good = next(one for one in scene.snapshots if one.chain == SHIPS)
    assert good.tokens == 1_000 and scene.happened[-1].outcome == "save failed"


async def test_what_was_put_over_a_conversation_is_known(scene: Scene) -> None:
    await scene.talk(SHIPS)
    scene.contexts.overwritten(1, 0)
    await scene.contexts.keep(1, 5)
    assert not scene.kept()
    await scene.talk(SHIPS, slot=1)
    await scene.contexts.prepare(scene.lease(1), NOTHING, lasting=True)  # a fill-in-the-middle, an embedding
    assert scene.kept() == [SHIPS.digests], "saved before it"


async def test_a_lost_folder_fails_no_request(scene: Scene) -> None:
    await scene.talk(SHIPS)
    shutil.rmtree(scene.snapshots.folder)
    prepared = await scene.contexts.prepare(scene.lease(), KINGS, lasting=True)
    assert not prepared.restored and scene.happened[-1].outcome == "save failed"


async def test_beside_other_answers_only_quick_saves_are_made(scene: Scene) -> None:
    await scene.talk(SHIPS)
    await scene.talk(KINGS)  # measures how quick a save is
    model = scene.contexts.book.of("k", "m")
    model.speeds = model.speeds.saved(1_000, 1_000, 60_000).saved(1_000, 1_000, 60_000).read(1_000, 1e9)
    before = len(scene.child.done)
    await scene.contexts.prepare(scene.lease(alone=False), SHOES, lasting=True)
    assert "save 0" not in scene.child.done[before:], "others would have stood still for long"


# --- models that remember otherwise ---

ASKED = {"messages": [{"role": "user", "content": "ships " * 198}]}  # 200 words with who speaks and who is to answer
CUT = 199  # all but the last token: a model must read one to answer


async def ask(scene: Scene, of: Chain, asked: dict[str, Any], *, tokens: int = 200) -> Prepared:
    lease = scene.lease()
    prepared = await scene.contexts.prepare(lease, of, lasting=True)
    record = Record(lease.request_id, "/", "", "m", prompt_tokens=tokens, output_tokens=50)
    scene.child.tokens[0] = tokens + 50
    scene.contexts.answered(lease, of, record, lasting=True, asked=asked)
    return prepared


@pytest.mark.parametrize("memory", ["recurrent", "full window"])
async def test_a_state_that_cannot_be_cut_is_rewound_before_it_is_saved(tmp_path: Path, memory: StateMemory) -> None:
    scene = Scene(tmp_path, memory)
    await ask(scene, SHIPS, ASKED)
    await scene.contexts.keep(1, 5)
    assert scene.child.done == [f"rewind 0 to {CUT}", "save 0"]
    assert [one.tokens for one in scene.snapshots] == [CUT]
    edited = chain("sys", "ships and more")
    assert not (await ask(scene, edited, ASKED)).restored, "it serves only what goes on from all of it"
    longer = chain("sys", "ships", "answer", "go on")
    scene.contexts.overwritten(1, 0)
    assert (await ask(scene, longer, ASKED)).restored


async def test_nothing_is_saved_early_or_where_the_slot_s_tokens_are_not_known(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "recurrent")
    await ask(scene, SHIPS, ASKED)
    await scene.contexts.keep(1, 5, resting=True)
    assert not scene.child.done, "rewinding would cost a live conversation its last answer"
    await ask(scene, SHIPS, ASKED, tokens=777)  # an image, perhaps
    await scene.contexts.keep(1, 5)
    assert not scene.child.done and not scene.files()


async def test_a_template_that_changes_its_mind_shortens_what_is_kept(tmp_path: Path) -> None:
    """As Qwen's does, which leaves earlier thinking out once the person speaks again."""
    scene = Scene(tmp_path, "recurrent")
    said = scene.child._say

    def fickle(path: bytes, body: dict[str, Any]) -> dict[str, Any]:
        if path == b"/apply-template" and len(body["messages"]) == 5:
            body = {
                "messages": [{**body["messages"][0]}, {"role": "assistant", "content": "short"}, *body["messages"][2:]]
            }
        return said(path, body)

    scene.child._say = fickle  # type: ignore[method-assign]
    thinking = {"role": "assistant", "content": "thinks " * 100}
    asked = {"messages": [ASKED["messages"][0], thinking, {"role": "user", "content": "go on"}]}
    tokens = 199 + 101 + 3 + 1
    await ask(scene, SHIPS, asked, tokens=tokens)
    await scene.contexts.keep(1, 5)
    assert scene.child.done == ["rewind 0 to 200", "save 0"], "up to the answer that is rendered anew"


async def test_a_build_that_saves_checkpoints_needs_no_rewind(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "recurrent")
    scene.child.appendix = b"SCKP\1\0\0\0" + bytes(100)
    await ask(scene, SHIPS, ASKED)
    await scene.contexts.keep(1, 5)
    await scene.contexts.settle()
    scene.child.done.clear()
    await ask(scene, KINGS, ASKED)
    await scene.contexts.keep(1, 5)
    assert scene.child.done == ["save 0"]


@pytest.mark.parametrize("saves_checkpoints", [True, False])
async def test_a_window_is_kept_only_by_a_build_that_saves_what_it_needs(
    tmp_path: Path, saves_checkpoints: bool
) -> None:
    scene = Scene(tmp_path, "window")
    scene.child.appendix = b"SCKP\1\0\0\0" if saves_checkpoints else b""
    await ask(scene, SHIPS, ASKED)
    await scene.contexts.keep(1, 5)
    await scene.contexts.settle()
    assert scene.files() == int(saves_checkpoints)
    assert scene.contexts.book.unfit() == ([] if saves_checkpoints else ["m"])
    scene.child.done.clear()
    await ask(scene, KINGS, ASKED)
    await scene.contexts.keep(1, 5)
    assert scene.child.done == (["save 0"] if saves_checkpoints else [])


async def test_what_will_be_restored_is_checked_while_its_model_loads(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.talk(SHIPS)
    await scene.contexts.keep(1, 5)
    await scene.contexts.settle()
    looked: list[str] = []
    is_whole = scene.snapshots.is_whole

    def look(one: Snapshot) -> bool:
        looked.append(one.id)
        return is_whole(one)

    monkeypatch.setattr(scene.snapshots, "is_whole", look)
    scene.contexts.expect("m", SHIPS)
    assert not looked, "its model is up"
    scene.contexts.closed(1)
    for _ in range(3):
        scene.contexts.expect("m", SHIPS)
    while not looked:
        await asyncio.sleep(0.001)
    scene.contexts.opened(1, LaunchSpec("m", "b", (), {}, True, 60, "k"), scene.upstream)
    assert (await scene.talk(SHIPS, cached=950)).restored
    assert len(looked) == 1


async def test_a_save_does_not_sweep_away_another_that_is_under_way(scene: Scene) -> None:
    await scene.talk(SHIPS, slot=0)
    await scene.talk(KINGS, slot=1)
    scene.child.waits = asyncio.Event()
    saving = asyncio.create_task(scene.contexts.keep(1, 5))
    other = asyncio.create_task(scene.contexts.prepare(scene.lease(1), SHOES, lasting=True))
    await asyncio.sleep(0)
    scene.child.waits.set()
    await asyncio.gather(saving, other)
    assert [one.outcome for one in scene.happened] == ["saved", "saved"]


async def test_a_model_whose_rewinds_fail_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(tmp_path, "recurrent")
    await ask(scene, SHIPS, ASKED)

    async def fails(*_: Any) -> int | None:
        raise TimeoutError

    monkeypatch.setattr("variet.engine.contexts.rewind", fails)
    for _ in range(3):
        await scene.contexts.keep(1, 5)
    assert [one.outcome for one in scene.happened] == ["save failed", "save failed"]
    assert scene.contexts.book.unfit() == ["m"]


async def test_a_client_that_leaves_during_a_rewind_is_no_fault_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, "recurrent")
    await ask(scene, SHIPS, ASKED)

    async def waits(*_: Any) -> int | None:
        await asyncio.Event().wait()
        return None

    monkeypatch.setattr("variet.engine.contexts.rewind", waits)
    for _ in range(3):
        keeping = asyncio.create_task(scene.contexts.keep(1, 5))
        await asyncio.sleep(0)
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
    assert scene.contexts.book.unfit() == []
