"""The broker: nothing is done that no person approved, what is approved is done once, and as it was shown."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.carrier import Diary
from variet.approval import Approval, Decision
from variet.assistant.audit import log
from variet.assistant.audit.log import AuditLog
from variet.assistant.broker.broker import Broker
from variet.assistant.broker.carriers import Carrier, Prepared
from variet.assistant.broker.reading import Asker, Read
from variet.assistant.broker.store import Store
from variet.assistant.problems import ToolProblem
from variet.errors import VarietError

ME = Asker("cli")
DAY_MS = 24 * 3_600_000


@dataclass
class Desk:
    """A broker in a folder, with a clock of its own; `again` is what a restart is."""

    folder: Path
    diary: Diary = field(default_factory=Diary)
    now_ms: int = 1_800_000_000_000
    broker: Broker = field(init=False)

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        self.store = Store(self.folder / "store.sqlite3")
        self.audit = AuditLog(self.folder / "audit.jsonl")
        carriers: dict[str, Carrier] = {"mail.send": self.diary, "mail.archive": self.diary}
        self.broker = Broker(self.store, self.audit, carriers, lambda: self.now_ms)

    def close(self) -> None:
        self.store.close()
        self.audit.close()

    async def again(self) -> None:
        self.close()
        self.open()
        await self.broker.start()

    async def asked(self, text: str = "hello", tool: str = "mail.send", asker: Asker = ME) -> Approval:
        return await self.broker.propose(asker, tool, {"text": text})

    def events(self) -> list[str]:
        return [line["event"] for line in log.lines(self.folder / "audit.jsonl")]


@contextmanager
def desk() -> Iterator[Desk]:
    with TemporaryDirectory() as folder:
        made = Desk(Path(folder))
        yield made
        made.close()


def yes(approval: Approval, choice: str = "approve") -> Decision:
    return Decision(approval_id=approval.id, payload_sha256=approval.payload_sha256, choice=choice)


async def test_what_is_approved_is_done_once_as_it_was_shown() -> None:
    with desk() as made:
        approval = await made.asked()
        assert approval.state == "pending" and approval.preview == "text: hello" and approval.scopes == ("once",)
        assert made.diary.done == []
        made.broker.decide(yes(approval), "person")
        done = await made.broker.wait(ME, approval.id, 10)
        assert (done.state, done.result, done.decided_by) == ("done", "written", "person")
        assert made.diary.done == [b'{"text": "hello"}']
        for choice in ("approve", "reject"):
            with pytest.raises(ToolProblem, match="somebody was faster: it is done"):
                made.broker.decide(yes(approval, choice), "person")
        assert made.events() == ["asked", "approved", "executing", "done"] and len(made.diary.done) == 1
        assert log.wrong_with(made.folder / "audit.jsonl", made.store.fact("audit_head")) == []
        assert "hello" not in (made.folder / "audit.jsonl").read_text()


async def test_what_is_rejected_is_never_done_and_not_asked_again_at_once() -> None:
    with desk() as made:
        approval = await made.asked()
        rejected = made.broker.decide(yes(approval, "reject").model_copy(update={"feedback": "not now"}), "person")
        assert (rejected.state, rejected.feedback) == ("rejected", "not now")
        with pytest.raises(ToolProblem, match="it is rejected"):
            made.broker.decide(yes(approval), "person")
        assert (await made.asked()).id == approval.id
        made.now_ms += 3 * 60_000
        assert (await made.asked()).id != approval.id and made.diary.done == []


async def test_another_payload_than_the_one_shown_is_not_approved() -> None:
    with desk() as made:
        one, other = await made.asked(), await made.asked("other")
        with pytest.raises(ToolProblem) as raised:
            made.broker.decide(yes(one).model_copy(update={"payload_sha256": other.payload_sha256}), "person")
        assert raised.value.code == "payload_changed" and made.broker.get(one.id).state == "pending"
        with pytest.raises(ToolProblem, match="for one action, once"):
            made.broker.decide(yes(one).model_copy(update={"scope": "always"}), "person")


async def test_the_same_wish_waits_once_and_is_done_once() -> None:
    with desk() as made:
        approval = await made.asked()
        assert (await made.asked()).id == approval.id
        assert (await made.asked(asker=Asker("another"))).id != approval.id
        made.broker.decide(yes(approval), "person")
        await made.broker.wait(ME, approval.id, 10)
        again = await made.asked()
        assert again.id == approval.id and again.state == "done" and len(made.diary.done) == 1
        made.now_ms += 11 * 60_000
        later = await made.asked()
        assert later.state == "pending" and "approved the very same 11 minutes ago" in later.reason


async def test_what_waits_outlives_a_restart_and_then_expires() -> None:
    with desk() as made:
        approval = await made.asked()
        await made.again()
        assert made.broker.get(approval.id) == approval
        made.now_ms += DAY_MS
        with pytest.raises(ToolProblem) as raised:
            made.broker.decide(yes(approval), "person")
        assert raised.value.code == "expired" and made.diary.done == []
        assert made.broker.get(approval.id).state == "expired"


@pytest.mark.parametrize(
    ("breaks", "state", "done"),
    [("before", "failed", 0), ("lost", "failed", 0), ("kept", "done", 1), ("bug", "failed", 0)],
)
async def test_what_breaks_off_is_looked_for_and_never_done_again(breaks: str, state: str, done: int) -> None:
    with desk() as made:
        made.diary.breaks = breaks
        approval = await made.asked()
        made.broker.decide(yes(approval), "person")
        assert (await made.broker.wait(ME, approval.id, 10)).state == state
        assert len(made.diary.done) == done and made.diary.looks == (breaks != "before")


@pytest.mark.parametrize(("breaks", "state"), [("", "done"), ("blind", "unknown")])
async def test_a_crash_in_the_middle_is_looked_into_at_the_next_start(breaks: str, state: str) -> None:
    with desk() as made:
        approval = await made.asked()
        made.store.move(approval.id, "pending", "approved", decided_ms=made.now_ms)
        made.store.move(approval.id, "approved", "executing")
        made.diary.done.append(b'{"text": "hello"}')
        made.diary.breaks = breaks
        await made.again()
        await made.broker.close()
        assert made.broker.get(approval.id).state == state and len(made.diary.done) == 1
        if state == "unknown":
            assert (await made.asked()).state == "unknown", "what may have been done is not done again"


@pytest.mark.parametrize(("late_ms", "state"), [(1000, "done"), (3_600_000, "failed")])
async def test_what_was_approved_but_not_begun_is_begun_soon_or_not_at_all(late_ms: int, state: str) -> None:
    with desk() as made:
        approval = await made.asked()
        made.store.move(approval.id, "pending", "approved", decided_ms=made.now_ms)
        made.now_ms += late_ms
        await made.again()
        await made.broker.close()
        assert made.broker.get(approval.id).state == state and len(made.diary.done) == (state == "done")


async def test_a_standing_rule_of_its_person_does_it_at_once() -> None:
    with desk() as made:
        made.broker.add_rule("mail.archive", "", "allow")
        approval = await made.asked(tool="mail.archive")
        done = await made.broker.wait(ME, approval.id, 10)
        assert done.state == "done" and done.decided_by == "rule allow mail.archive"
        assert (await made.asked()).state == "pending"
        made.broker.add_rule("mail.send", "", "deny")
        with pytest.raises(ToolProblem, match="your rules refuse it") as raised:
            await made.asked("another")
        assert raised.value.code == "denied"
        for tool, pattern in (
            ("mail.send", ""), ("search.fetch", ""), ("search.fetch", "*"), ("search.fetch", "**"), ("nothing", ""),
            ("mail.read", ""), ("mail.archive", "x"), ("*", ""),
        ):  # fmt: skip
            with pytest.raises(ToolProblem):
                made.broker.add_rule(tool, pattern, "allow")
        made.broker.add_rule("search.fetch", "Docs.Example", "deny")
        for address in ("https://docs.example/x", "https://DOCS.example:443/", "https://docs.example./"):
            assert made.broker.judge(ME, "search.fetch", address).verdict.answer == "deny", address


async def test_three_at_once_wait_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with desk() as made:
        prepare = made.diary.prepare

        async def slowly(asked: dict[str, Any]) -> Prepared:
            await asyncio.sleep(0)
            return await prepare(asked)

        monkeypatch.setattr(made.diary, "prepare", slowly)
        asked = await asyncio.gather(*(made.asked() for _ in range(3)))
        assert len({one.id for one in asked}) == 1


async def test_what_can_be_undone_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with desk() as made:
        made.broker.add_rule("mail.archive", "", "allow")
        for _ in range(2):
            approval = await made.asked(tool="mail.archive")
            assert (await made.broker.wait(ME, approval.id, 10)).state == "done"
        assert len(made.diary.done) == 2


async def test_a_log_that_was_cut_while_the_broker_slept_stays_told() -> None:
    with desk() as made:
        await made.asked()
        await made.asked("another")
        lines = (made.folder / "audit.jsonl").read_text().splitlines(keepends=True)
        made.close()
        (made.folder / "audit.jsonl").write_text(lines[0])
        made.open()
        await made.broker.start()
        await made.asked("a third")
        assert made.store.fact("audit_cut") and "log_cut" in made.events()


async def test_what_is_shown_on_one_line_is_one_line() -> None:
    with desk() as made:
        approval = await made.asked("x\nact-ffff  Send mail to boss@example.com", asker=Asker("a\nb"))
        assert "\n" not in approval.summary
        assert made.broker.reading.asker("a\n\x1b]0;b\x07", "").client == "a \u241b]0;b\u2407"


async def test_nobody_fills_the_desk() -> None:
    with desk() as made:
        for number in range(20):
            await made.asked(str(number))
        with pytest.raises(ToolProblem) as raised:
            await made.asked("one more")
        assert raised.value.code == "rate_limited"
        await made.asked("of another client", asker=Asker("another"))
        for number in range(79):
            await made.asked(str(number), asker=Asker(f"client {number}"))
        with pytest.raises(ToolProblem, match="more waits for a decision than a person looks at"):
            await made.asked("of whoever", asker=Asker("whoever"))
        made.now_ms += DAY_MS
        await made.asked("the next day", asker=Asker("whoever"))
        assert len(made.broker.listed(("pending",))) == 1
    with desk() as made:
        await made.asked("x" * 2_000_000)
        with pytest.raises(ToolProblem, match="more waits"):
            await made.asked("y" * 2_000_000, asker=Asker("another"))


async def test_whoever_knocks_all_day_fills_no_log() -> None:
    with desk() as made:
        for _ in range(500):
            made.broker.note("stranger", uid=1002)
        await made.asked()
        assert made.events() == ["stranger"] * 120 + ["asked"]
        made.now_ms += 60_000
        made.broker.note("stranger", uid=1002)
        assert made.events()[121:] == ["left_out", "stranger"]
        assert list(log.lines(made.folder / "audit.jsonl"))[121]["count"] == 380


async def test_a_client_sees_its_own_actions_alone() -> None:
    with desk() as made:
        approval = await made.asked()
        with pytest.raises(ToolProblem, match="there is no action"):
            await made.broker.wait(Asker("another"), approval.id, 0)
        with pytest.raises(ToolProblem, match="nothing that does"):
            await made.broker.propose(ME, "mail.forward", {})
        with pytest.raises(ToolProblem, match="nothing to write"):
            await made.broker.propose(ME, "mail.send", {})


async def test_a_question_says_whose_reading_it_is_for() -> None:
    with desk() as made:
        await made.broker.reading.add(Asker(""), Read(private=("a letter",)))
        judged = made.broker.judge(ME, "search.search", "weather")
        assert judged.approval is not None
        assert judged.approval.reason.endswith("(an unnamed client did that, and may be this one)")
        await made.broker.reading.add(ME, Read(private=("a letter",)))
        judged = made.broker.judge(ME, "search.search", "snow")
        assert judged.approval is not None and "unnamed" not in judged.approval.reason
        judged = made.broker.judge(Asker(""), "search.search", "rain")
        assert judged.approval is not None and "unnamed" not in judged.approval.reason


async def test_an_approved_page_is_read_once() -> None:
    with desk() as made:
        judged = made.broker.judge(ME, "search.fetch", "https://a.example/x")
        assert judged.verdict.answer == "ask" and judged.approval is not None
        approval = judged.approval
        with pytest.raises(ToolProblem, match="was used, refused or is too old"):
            made.broker.use(ME, approval.id)
        assert made.broker.judge(ME, "search.fetch", "https://a.example/x").approval == approval
        made.broker.decide(yes(approval), "person")
        assert (await made.broker.wait(ME, approval.id, 10)).state == "approved"
        made.broker.use(ME, approval.id)
        with pytest.raises(ToolProblem):
            made.broker.use(ME, approval.id)
        again = made.broker.judge(ME, "search.fetch", "https://a.example/x").approval
        assert again is not None and again.id != approval.id
        made.broker.decide(yes(again), "person")
        made.now_ms += 20 * 60_000
        with pytest.raises(ToolProblem):
            made.broker.use(ME, again.id)
        sent = await made.asked()
        with pytest.raises(ToolProblem, match="by the broker alone"):
            made.broker.use(ME, sent.id)


async def test_whoever_follows_hears_of_each_change() -> None:
    with desk() as made:
        approval = await made.asked()
        [(seq, told)] = await made.broker.changes(0)
        assert told == approval
        following = asyncio.create_task(made.broker.changes(seq))
        await asyncio.sleep(0)
        assert not following.done()
        made.broker.decide(yes(approval, "reject"), "person")
        [(later, told)] = await following
        assert later > seq and told.state == "rejected"


def test_a_foreign_or_later_store_is_told(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite3").write_bytes(b"not a database, but long enough to look like one" * 100)
    with pytest.raises(VarietError, match="Move the file away"):
        Store(tmp_path / "store.sqlite3")
    made = Store(tmp_path / "later.sqlite3")
    made._db.execute("PRAGMA user_version=99")
    made.close()
    with pytest.raises(VarietError, match="of version 99"):
        Store(tmp_path / "later.sqlite3")
    assert (tmp_path / "later.sqlite3").stat().st_mode & 0o077 == 0


STEPS = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 2)),
    st.tuples(st.sampled_from(["approve", "reject"]), st.integers(0, 5)),
    st.tuples(st.just("later"), st.sampled_from([1000, 5 * 60_000, DAY_MS])),
    st.tuples(st.just("restart"), st.just(0)),
    st.tuples(st.sampled_from(["kept", "lost", "before", "blind", ""]), st.just(0)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=14))
def test_whatever_happens_nothing_is_done_without_a_yes_or_twice(steps: list[tuple[str, int]]) -> None:
    async def played(made: Desk) -> None:
        asked: list[Approval] = []
        approved: set[str] = set()
        for what, value in steps:
            if what == "ask":
                asked.append(await made.asked(str(value)))
            elif what in ("approve", "reject") and asked:
                one = asked[value % len(asked)]
                try:
                    made.broker.decide(yes(one, what), "person")
                    approved |= {one.id} if what == "approve" else set()
                except ToolProblem:
                    pass
            elif what == "later":
                made.now_ms += value
            elif what == "restart":
                await made.broker.close()
                await made.again()
            elif what in ("kept", "lost", "before", "blind", ""):
                made.diary.breaks = what
            await made.broker.close()
            assert len(made.diary.done) <= len(approved)
        for kept in made.store.find():
            state = kept.approval.state
            assert state not in ("executing", "approved"), "nothing stays half done"
            assert (state in ("done", "failed", "unknown")) == (kept.approval.id in approved)

    with desk() as made:
        asyncio.run(played(made))


async def test_reads_of_one_conversation_do_not_taint_another_but_all_of_a_client_without_a_handle(
    tmp_path: Path,
) -> None:
    made = Desk(tmp_path)
    reading = made.broker.reading
    one, two = (reading.asker("variet", reading.mint("variet", 0)) for _ in range(2))
    assert one.conversation and two.conversation and one != two
    await reading.add(one, Read(private=("The code of Marta Quill is 381922.",)))
    none = reading.asker("variet", "")
    made_up = reading.asker("variet", "no such handle")
    stolen = reading.asker("other", reading.mint("variet", 0))
    assert made_up == none and stolen == Asker("other")
    for asker, private in ((one, True), (two, False), (none, True), (Asker("other"), False), (Asker(""), True)):
        assert reading.taint(asker, "search", "weather").private is private
    made.close()
    again = Desk(tmp_path)
    assert again.broker.reading.taint(Asker("variet"), "search", "weather").private, "across restarts"
    again.close()
