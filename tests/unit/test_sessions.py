"""A session's log: whole lines, one writer, nothing lost but what was torn."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from variet.agent import sessions
from variet.agent.events import CallPart, MessageDone, Notice, TextPart, ToolEnded, ToolStarted, TurnEnded, TurnStarted
from variet.agent.sessions import Session, Stored
from variet.errors import SessionError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VARIET_HOME", str(tmp_path / "home"))


def fresh(cwd: Path) -> Session:
    return sessions.create(cwd, "fast", Stored(profile="native", model="m", system="s", request={"tools": []}))


def begun(session: Session) -> None:
    call = CallPart(call_id="c1", tool="shell", args={"command": "x"})
    other = CallPart(call_id="c2", tool="read", args={"path": "y"})
    for seq, event in enumerate(
        [TurnStarted(input="do it"), MessageDone(message_id="m", content=(TextPart(text="\u2028 ok"), call, other)),
         ToolStarted(call_id="c1", tool="shell", kind="execute", args={})], 1
    ):  # fmt: skip
        session.append(event.model_copy(update={"seq": seq, "turn_id": "t1"}))


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    session = fresh(tmp_path)
    begun(session)
    session.close()
    header, events = sessions.read(session.header.id)
    assert header == session.header and events == session.events
    again = sessions.resume(session.header.id)
    assert again.stored == session.stored
    again.close()


def test_calls_without_an_end_are_told_as_interrupted_once(tmp_path: Path) -> None:
    session = fresh(tmp_path)
    begun(session)
    session.close()
    again = sessions.resume(session.header.id)
    ends = [event for event in again.events if isinstance(event, ToolEnded)]
    assert [(one.call_id, one.status) for one in ends] == [("c1", "interrupted"), ("c2", "interrupted")]
    assert isinstance(again.events[-1], TurnEnded) and again.next_seq == 7
    again.close()
    third = sessions.resume(session.header.id)
    assert len(third.events) == len(again.events)
    third.close()


def test_a_line_torn_at_any_byte_is_dropped_and_writing_goes_on(tmp_path: Path) -> None:
    session = fresh(tmp_path)
    begun(session)
    session.append(TurnEnded(reason="done", seq=4))
    session.close()
    log = session.folder / "log.jsonl"
    whole = log.read_bytes()
    last = whole.rstrip(b"\n").rindex(b"\n") + 1
    for cut in range(last, len(whole)):
        log.write_bytes(whole[:cut])
        again = sessions.resume(session.header.id)
        again.append(Notice(code="x", text="y", seq=again.next_seq))
        again.close()
        assert isinstance(sessions.read(session.header.id)[1][-1], Notice), cut


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    session = fresh(tmp_path)
    begun(session)
    with pytest.raises(SessionError, match="in use"):
        sessions.resume(session.header.id)
    assert sessions.read(session.header.id)[1], "but everybody may read"
    session.close()
    sessions.resume(session.header.id).close()


def test_a_session_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    session = fresh(tmp_path)
    session.close()
    assert sessions.find(session.header.id[:12]) == session.folder
    for wrong in ("nope", "", "../x"):
        with pytest.raises(SessionError):
            sessions.find(wrong)


def test_the_log_is_for_its_owner_alone(tmp_path: Path) -> None:
    session = fresh(tmp_path)
    session.close()
    assert (session.folder / "log.jsonl").stat().st_mode & 0o077 == 0
    assert session.folder.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    session = fresh(tmp_path)
    session._file.close()
    session._file = os.fdopen(os.open("/dev/full", os.O_RDWR), "ab", buffering=0)
    with pytest.raises(SessionError, match="Make room"):
        session.append(Notice(code="x", text="y"))
    session.close()


def test_lists_show_the_first_words_and_the_latest_first(tmp_path: Path) -> None:
    for words in ("one", "two"):
        session = fresh(tmp_path)
        session.append(TurnStarted(input=words))
        session.close()
        os.utime(session.folder / "log.jsonl", (1 + len(words), 1 + (words == "two")))
    assert [one.title for one in sessions.listed()] == ["two", "one"]
    assert sessions.latest(tmp_path) == sessions.listed()[0].header.id
    assert sessions.latest(tmp_path / "elsewhere") is None
