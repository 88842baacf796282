"""opening.py: clients get the stream that they would have got without progress, and the record hears it all."""

from __future__ import annotations

import json
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_assembly import Pieces
from variet.engine.opening import Opening
from variet.engine.record import Record


def event(data: dict[str, Any] | str, kind: str = "") -> bytes:
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    return (f"event: {kind}\n" if kind else "").encode() + f"data: {text}\n\n".encode()


def told(total: int, cache: int, processed: int) -> dict[str, Any]:
    return {"prompt_progress": {"total": total, "cache": cache, "processed": processed, "time_ms": 1}}


ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": None}, "finish_reason": None}]}
# A text that looks like progress must not be taken for it.
WORD = {"choices": [{"index": 0, "delta": {"content": '"prompt_progress":{"total":1}\n\n'}, "finish_reason": None}]}
CHAT = [event(ROLE), event(WORD), event("[DONE]")]
CHAT_READS = [event({**ROLE, **told(50, 40, 40)}), event({**ROLE, **told(50, 40, 50)})]
PING = b":\n\n"  # what llama-server says every thirty seconds while it reads
NATIVE = [event({"content": "Hi", "tokens": [5], "stop": False})]
NATIVE_READS = [event({"content": "", "tokens": [0], "stop": False, **told(50, 0, 50)})]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited")


def read(raw: bytes, cuts: list[int], *, shown: bool = False) -> tuple[bytes, Record]:
    record = Record(1, "/", "", "m")
    opening = Opening(Pieces(raw, cuts), record, shown=shown)

    async def all_of_it() -> bytes:
        await opening.begun()
        parts = []
        while part := await opening.read():
            parts.append(part)
        return b"".join(parts)

    return run(all_of_it()), record


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"".join([*CHAT_READS, *CHAT]), b"".join(CHAT)),
        (b"".join([*NATIVE_READS, *NATIVE]), b"".join(NATIVE)),
        (b"".join([PING, CHAT_READS[0], PING, PING, CHAT_READS[1], *CHAT]), b"".join(CHAT)),
        (b"".join([PING, *CHAT[:2], PING, CHAT[2]]), b"".join([*CHAT[:2], PING, CHAT[2]])),
        (b"".join(CHAT), b"".join(CHAT)),
        (b'data: {"error": {"message": "no"}}\n\n', b'data: {"error": {"message": "no"}}\n\n'),
        (b"what is no stream", b"what is no stream"),
    ],
)
@given(cuts=st.lists(st.integers(0, 10_000), max_size=20))
def test_the_client_sees_the_stream_it_would_have_got(raw: bytes, expected: bytes, cuts: list[int]) -> None:
    assert read(raw, cuts)[0] == expected


@given(cuts=st.lists(st.integers(0, 10_000), max_size=20))
def test_the_record_hears_how_far_the_prompt_is(cuts: list[int]) -> None:
    _, record = read(b"".join([*CHAT_READS, *CHAT]), cuts)
    assert (record.prompt_tokens, record.cached_tokens, record.read_tokens) == (50, 40, 50)
    assert record.pieces == len(CHAT)


@given(cuts=st.lists(st.integers(0, 10_000), max_size=20))
def test_a_client_that_asked_for_progress_gets_it(cuts: list[int]) -> None:
    for raw in (b"".join([*CHAT_READS, *CHAT]), b"".join([*NATIVE_READS, *NATIVE])):
        got, record = read(raw, cuts, shown=True)
        assert got == raw
        assert record.read_tokens == 50


def test_nothing_of_the_answer_is_out_while_the_prompt_is_read() -> None:
    """Headers follow the first bytes: they must not go out for progress alone."""

    class Silent(Pieces):
        async def read(self) -> bytes:
            piece = await super().read()
            if not piece:
                raise InterruptedError
            return piece

    record = Record(1, "/", "", "m")
    opening = Opening(Silent(b"".join(CHAT_READS), []), record, shown=False)
    with pytest.raises(InterruptedError):
        run(opening.begun())
    assert record.read_tokens == 50
