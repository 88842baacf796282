"""The one face of the agent: prompts that wait, readers that leave, a cancel in any state, a log that tells all."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent import call, decision, of, open_session, scripted, turn
from variet.agent import sessions
from variet.agent.conversation import Conversation, run_prompt
from variet.agent.events import (
    ApprovalRequested,
    ApprovalResolved,
    ChangesUndone,
    EventBase,
    MessageDone,
    Notice,
    PromptDropped,
    PromptQueued,
    TextDelta,
    TitleChanged,
    ToolEnded,
    TurnEnded,
    TurnStarted,
)
from variet.agent.state import State
from variet.errors import ConversationBusy, SessionError, VarietError

pytestmark = pytest.mark.usefixtures("home")

EDIT = call("edit", path="sums.py", old="a - b", new="a + b")


class Reader:
    """Of a conversation, from here on."""

    def __init__(self, conversation: Conversation) -> None:
        self.seen: list[EventBase] = []
        self._reading = asyncio.create_task(self._read(conversation))

    async def _read(self, conversation: Conversation) -> None:
        async for event in conversation.events(conversation.state.seq, again=True):
            self.seen.append(event)

    async def until(self, kind: type[Any], count: int = 1) -> Any:
        """The event of this kind, once there are so many."""
        async with asyncio.timeout(20):
            while len(found := of(self.seen, kind)) < count:
                await asyncio.sleep(0.005)
        return found[-1]

    async def end(self) -> None:
        """Once the conversation is closed."""
        await asyncio.wait_for(self._reading, 20)

    def leave(self) -> None:
        self._reading.cancel()


@contextlib.asynccontextmanager
async def conversing(
    folder: Path, work: Path, script: Any, **settings: Any
) -> AsyncIterator[tuple[Conversation, Reader, Any]]:
    async with scripted(folder, script) as server:
        conversation = await open_session(server.url, work, **settings)
        try:
            yield conversation, Reader(conversation), server
        finally:
            await conversation.close()


def state_of_log(conversation: Conversation) -> State:
    """As somebody finds it who has nothing but the log."""
    header, events = sessions.read(conversation.header.id)
    return State.of(header, conversation.session.stored[header.profile].model, events)


def assert_log_tells_all(conversation: Conversation) -> None:
    found, known = state_of_log(conversation), conversation.state
    assert replace(found, seq=0, context_tokens=0) == replace(known, seq=0, context_tokens=0, progress=None)


async def test_prompts_wait_for_the_turn_and_are_worked_on_in_their_order(tmp_path: Path, work: Path) -> None:
    answers = [{"say": "word " * 5, "gap_ms": 20}, {"say": "two", "expect": "^second$"},
               {"say": "three", "expect": "^third$"}]  # fmt: skip
    async with conversing(tmp_path, work, answers) as (conversation, reader, _):
        ids = [conversation.submit(words, surface="test") for words in ("first", "second", "third")]
        assert [one.text for one in conversation.state.queue] == ["second", "third"]
        assert_log_tells_all(conversation)
        await reader.until(TurnEnded, 3)
        begun = of(reader.seen, TurnStarted)
        assert [one.prompt_id for one in begun] == ids and {one.surface for one in begun} == {"test"}
        assert [one.reason for one in of(reader.seen, TurnEnded)] == ["done"] * 3
        assert conversation.state.queue == () and conversation.state.turns == 3
        assert_log_tells_all(conversation)


async def test_a_cancel_ends_the_turn_and_drops_what_waits_behind_it(tmp_path: Path, work: Path) -> None:
    async with conversing(tmp_path, work, [{"say": "word " * 500, "gap_ms": 20}, {"say": "ok"}]) as found:
        conversation, reader, server = found
        conversation.submit("first")
        behind = conversation.submit("second")
        await reader.until(TextDelta)
        conversation.cancel()
        assert (await reader.until(TurnEnded)).reason == "cancelled"
        assert [(one.prompt_id, one.reason) for one in of(reader.seen, PromptDropped)] == [(behind, "cancelled")]
        assert_log_tells_all(conversation)
        assert of(await turn(conversation, "third"), TurnEnded)[0].reason == "done"
        assert len(await server.bodies()) == 2


async def test_a_reader_who_leaves_ends_nothing(tmp_path: Path, work: Path) -> None:
    answers = [{"say": "word " * 20, "gap_ms": 20}, {"say": "again"}]
    async with conversing(tmp_path, work, answers) as (conversation, reader, _):
        leaving = run_prompt(conversation, "go")
        async for event in leaving:
            if isinstance(event, TextDelta):
                break
        await leaving.aclose()
        assert (await reader.until(TurnEnded)).reason == "done"
        late = [event async for event in _until_end(conversation)]
        assert [event for event in late if isinstance(event, TextDelta)] == []
        assert of(late, MessageDone)[0].content[0].text == "word " * 20


async def _until_end(conversation: Conversation) -> AsyncIterator[EventBase]:
    async for event in conversation.events(0):
        yield event
        if isinstance(event, TurnEnded):
            return


async def test_two_surfaces_see_the_same_and_one_answers_what_the_other_is_asked(tmp_path: Path, work: Path) -> None:
    async with conversing(tmp_path, work, [EDIT, {"say": "Done."}], mode="ask") as (conversation, one, _):
        other = Reader(conversation)
        conversation.submit("fix add", surface="terminal")
        asked = await one.until(ApprovalRequested)
        assert await other.until(ApprovalRequested) == asked
        assert conversation.pending() == (asked.approval,)
        assert conversation.decide(decision(asked, "approve")) == "ok"
        assert conversation.decide(decision(asked, "reject")) == "already_decided"
        for reader in (one, other):
            assert (await reader.until(ApprovalResolved)).state == "approved"
            await reader.until(TurnEnded)
        assert one.seen == other.seen and conversation.pending() == ()
        assert "a + b" in (work / "sums.py").read_text()


async def test_a_surface_that_leaves_while_its_person_is_asked_leaves_the_question(tmp_path: Path, work: Path) -> None:
    async with conversing(tmp_path, work, [EDIT, {"say": "Done."}], mode="ask") as (conversation, one, _):
        conversation.submit("fix add")
        asked = await one.until(ApprovalRequested)
        one.leave()
        await asyncio.sleep(0.05)
        assert conversation.pending() == (asked.approval,) and conversation.working
        back = Reader(conversation)
        conversation.decide(decision(asked, "approve"))
        assert (await back.until(TurnEnded)).reason == "done"


async def test_what_was_taken_back_is_an_event_and_the_model_hears_of_it_once(tmp_path: Path, work: Path) -> None:
    answers = [EDIT, {"say": "Done."}, {"say": "I see.", "expect": "took changes back.*sums.py"},
               {"say": "ok", "expect": "^and now$"}]  # fmt: skip
    async with conversing(tmp_path, work, answers) as (conversation, reader, server):
        await turn(conversation, "fix add")
        undone = await conversation.undo()
        assert undone.restored == ("sums.py",) and "a - b" in (work / "sums.py").read_text()
        assert (await reader.until(ChangesUndone)).restored == ("sums.py",)
        assert_log_tells_all(conversation)
        name = conversation.header.id
        await conversation.close()
        again = await open_session(server.url, work, resume=name)
        assert of(await turn(again, "what now"), TurnEnded)[0].reason == "done"
        assert of(await turn(again, "and now"), TurnEnded)[0].reason == "done"
        await again.close()


async def test_a_title_is_the_first_words_until_a_person_names_it(tmp_path: Path, work: Path) -> None:
    async with conversing(tmp_path, work, [{"say": "ok"}]) as (conversation, reader, _):
        await turn(conversation, "fix  the\nparser")
        assert conversation.state.title == sessions.listed()[0].title == "fix the parser"
        conversation.rename("  Parser,\n again ")
        assert (await reader.until(TitleChanged)).title == "Parser, again"
        assert conversation.state.title == sessions.listed()[0].title == "Parser, again"
        with pytest.raises(SessionError):
            conversation.rename(" \n ")
        assert_log_tells_all(conversation)


@pytest.mark.parametrize("ask", ["undo", "compact", "tier"])
async def test_what_must_not_happen_beside_a_turn_is_refused(tmp_path: Path, work: Path, ask: str) -> None:
    async with conversing(tmp_path, work, [{"say": "word " * 20, "gap_ms": 20}]) as (conversation, reader, _):
        acts = {
            "undo": conversation.undo,
            "compact": conversation.compact,
            "tier": lambda: conversation.set_tier("fast"),
        }
        conversation.submit("go")
        await reader.until(TextDelta)
        with pytest.raises(ConversationBusy, match="Stop it first"):
            await acts[ask]()  # type: ignore[operator]
        assert (await reader.until(TurnEnded)).reason == "done"


async def test_a_prompt_that_comes_during_a_compaction_waits_for_it(tmp_path: Path, work: Path) -> None:
    answers = [{"say": "ok"}, {"say": "A summary of it all.", "gap_ms": 20}, {"say": "on", "expect": "A summary of it"}]
    async with conversing(tmp_path, work, answers) as (conversation, reader, server):
        await turn(conversation, "one")
        compacting = asyncio.create_task(conversation.compact())
        await asyncio.sleep(0)
        conversation.submit("two")
        assert of(reader.seen, PromptQueued) or conversation.state.queue
        await compacting
        await reader.until(TurnEnded, 2)
        assert len(await server.bodies()) == 3


async def test_a_compaction_that_is_stopped_says_so(tmp_path: Path, work: Path) -> None:
    answers = [{"say": "ok"}, {"say": "word " * 500, "gap_ms": 20}, {"say": "ok"}]
    async with conversing(tmp_path, work, answers) as (conversation, reader, _):
        await turn(conversation, "one")
        compacting = asyncio.create_task(conversation.compact())
        await reader.until(TextDelta, 2)
        conversation.cancel()
        with pytest.raises(VarietError, match="stopped"):
            await compacting
        assert of(await turn(conversation, "two"), TurnEnded)[0].reason == "done"


# --- at every event ---

ANSWERS = [call("read", path="sums.py"), EDIT, call("shell", command="echo x > made"), {"say": "Done."}]


async def test_a_cancel_at_any_event_ends_the_turn_and_the_next_one_works(tmp_path: Path) -> None:
    count, at = 100, 0
    while at < count:
        folder = tmp_path / str(at)
        work = folder / "work"
        work.mkdir(parents=True)
        (work / "sums.py").write_text("def add(a, b):\n    return a - b\n")
        async with conversing(folder, work, [*ANSWERS, *[{"say": "ok"}] * 4], mode="ask", rules=()) as found:
            conversation, seen = found[0], list[EventBase]()
            async for event in run_prompt(conversation, "go"):
                seen.append(event)
                if len(seen) == at + 1:
                    conversation.cancel()
                if isinstance(event, ApprovalRequested):
                    conversation.decide(decision(event, "approve"))
            assert isinstance(seen[-1], TurnEnded) and len(of(seen, TurnEnded)) == 1
            assert conversation.pending() == () and not conversation.working
            assert_log_tells_all(conversation)
            open_calls = conversation.runtime.rendering.open_calls
            assert open_calls == [] and len(of(seen, ToolEnded)) >= len(of(seen, ApprovalRequested))
            count = count if seen[-1].reason == "cancelled" else at
            if seen[-1].reason == "cancelled":
                again = await turn(conversation, "again", lambda event: decision(event, "approve"))
                assert isinstance(again[-1], TurnEnded) and again[-1].reason == "done"
        at += 1
    assert at > 15


async def test_a_close_at_any_event_leaves_a_session_that_goes_on(tmp_path: Path) -> None:
    at, closed = 0, True
    while closed:
        folder = tmp_path / str(at)
        work = folder / "work"
        work.mkdir(parents=True)
        (work / "sums.py").write_text("def add(a, b):\n    return a - b\n")
        async with scripted(folder, {"answers": [*ANSWERS, {"say": "ok"}]}) as server:
            conversation, count, closed = await open_session(server.url, work, mode="ask", rules=()), 0, False
            async for event in run_prompt(conversation, "go"):
                count += 1
                if count == at + 1:
                    if conversation.working:
                        conversation.submit("it waits")
                    await conversation.close()
                    closed = True
                elif isinstance(event, ApprovalRequested):
                    conversation.decide(decision(event, "approve"))
            if not closed:
                await conversation.close()
            _, events = sessions.read(conversation.header.id)
            assert State.of(conversation.header, "m", events).queue == ()
            again = await open_session(server.url, work, resume=conversation.header.id)
            assert again.pending() == () and again.state.turns == 1 and not again.state.working
            await again.close()
        at += 1
    assert at > 15


# --- what cannot be ---


async def test_a_log_that_cannot_be_written_ends_the_turn_and_its_readers_hear_of_it(
    tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with conversing(tmp_path, work, [{"say": "ok"}, {"say": "ok"}]) as (conversation, reader, _):
        append = conversation.session.append

        def full(event: EventBase) -> None:
            if isinstance(event, MessageDone | Notice | TurnEnded):
                raise SessionError("cannot be written: No space left on device", next_step="Make room on the disk")
            append(event)

        monkeypatch.setattr(conversation.session, "append", full)
        conversation.submit("go")
        end = await reader.until(TurnEnded)
        assert (end.reason, end.detail) == ("error", "session")
        assert "No space left" in of(reader.seen, Notice)[-1].text
        monkeypatch.setattr(conversation.session, "append", append)
        assert of(await turn(conversation, "again"), TurnEnded)[0].reason == "done"


async def test_a_defect_ends_its_turn_alone(tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with conversing(tmp_path, work, [{"say": "ok"}]) as (conversation, reader, server):
        monkeypatch.setattr(conversation.runtime.rendering, "body", lambda _: 1 / 0)
        conversation.submit("go")
        end = await reader.until(TurnEnded)
        assert (end.reason, end.detail) == ("error", "defect")
        assert "ZeroDivisionError" in of(reader.seen, Notice)[-1].text
        monkeypatch.undo()
        assert of(await turn(conversation, "again"), TurnEnded)[0].reason == "done"
        assert json.loads((await server.bodies())[0])["messages"][-1]["content"] == "again"


async def test_a_prompt_and_a_close_in_one_breath(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [{"say": "ok"}] * 3) as server:
        conversation = await open_session(server.url, work)
        reader = Reader(conversation)
        await turn(conversation, "one")
        conversation.submit("two")
        conversation.submit("three")
        await asyncio.wait_for(conversation.close(), 10)
        await reader.end()
        assert [one.reason for one in of(reader.seen, TurnEnded)] == ["done", "cancelled"]
        assert [one.reason for one in of(reader.seen, PromptDropped)] == ["closed"]
        with pytest.raises(SessionError, match="closed"):
            conversation.submit("four")
        assert len(await server.bodies()) == 1


@pytest.mark.parametrize("leave", ["wait", "cancel", "close"])
async def test_a_disk_that_is_full_ends_a_turn_and_what_waits_behind_it(
    tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch, leave: str
) -> None:
    async with conversing(tmp_path, work, [{"say": "word " * 100, "gap_ms": 10}, {"say": "ok"}]) as found:
        conversation, reader, _ = found
        conversation.submit("one")
        behind = conversation.submit("two")
        await reader.until(TextDelta)

        def full(line: bytes) -> None:
            raise SessionError("cannot be written: No space left on device", next_step="Make room on the disk")

        before = len(conversation.session.events)
        with monkeypatch.context() as patch:
            patch.setattr(conversation.session, "_line", full)
            if leave == "cancel":
                conversation.cancel()
            elif leave == "close":
                await asyncio.wait_for(conversation.close(), 10)
            assert (await reader.until(TurnEnded)).detail == "session"
            dropped = await reader.until(PromptDropped)
            reasons = {"wait": "error", "cancel": "cancelled", "close": "closed"}
            assert (dropped.prompt_id, dropped.reason) == (behind, reasons[leave])
            assert len(conversation.session.events) == before, "what is not written is not there"
            assert conversation.state.queue == () and not conversation.working
        if leave == "close":
            sessions.resume(conversation.header.id).close()
        else:
            assert of(await turn(conversation, "three"), TurnEnded)[0].reason == "done"


async def test_a_prompt_that_could_not_be_queued_can_be_sent_again(
    tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with conversing(tmp_path, work, [{"say": "word " * 30, "gap_ms": 10}, {"say": "two"}]) as found:
        conversation, reader, _ = found
        conversation.submit("one")
        await reader.until(TextDelta)
        with monkeypatch.context() as patch:
            patch.setattr(conversation.session, "_line", lambda _: (_ for _ in ()).throw(SessionError("full")))
            with pytest.raises(SessionError):
                conversation.submit("two", prompt_id="p2")
        assert conversation.state.queue == ()
        assert [conversation.submit("two", prompt_id="p2") for _ in range(3)] == ["p2"] * 3
        await reader.until(TurnEnded, 2)
        assert len(of(reader.seen, TurnStarted)) == 2


async def test_words_for_a_turn_that_has_ended_are_a_prompt(tmp_path: Path, work: Path) -> None:
    answers = [{"say": "one"}, {"say": "two", "expect": "^late$"}]
    async with conversing(tmp_path, work, answers) as (conversation, reader, _):
        await turn(conversation, "go")
        conversation.steer("late")
        assert (await reader.until(TurnEnded, 2)).reason == "done"
        assert of(reader.seen, TurnStarted)[-1].input == "late"


async def test_what_comes_after_the_close_is_refused_in_words(tmp_path: Path, work: Path) -> None:
    async with scripted(tmp_path, [{"say": "ok"}]) as server:
        conversation = await open_session(server.url, work)
        await conversation.close()
        for act in (lambda: conversation.set_mode("plan"), lambda: conversation.rename("x"),
                    lambda: conversation.submit("x"), lambda: conversation.steer("x")):  # fmt: skip
            with pytest.raises(SessionError, match="being closed"):
                act()
        for work_of in (conversation.compact, conversation.undo):
            with pytest.raises(SessionError, match="being closed"):
                await work_of()
        conversation.cancel()
        await conversation.close()


async def test_a_name_that_is_no_text_is_taken_back_and_told(tmp_path: Path, work: Path) -> None:
    answers = [
        call("shell", command="printf x > $'caf\\xe9.txt'"),
        {"say": "ok"},
        {"say": "ok", "expect": "caf.\\.txt"},
    ]
    async with conversing(tmp_path, work, answers) as (conversation, reader, _):
        await turn(conversation, "go")
        assert len(list(work.iterdir())) == 2
        await conversation.undo()
        assert [one.name for one in work.iterdir()] == ["sums.py"]
        assert "\udce9" not in str((await reader.until(ChangesUndone)).restored)
        assert of(await turn(conversation, "what now"), TurnEnded)[0].reason == "done"
