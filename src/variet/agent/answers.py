"""Asks a model for its next answer, tells it piece by piece, and asks again where it breaks off."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from variet.agent.events import (
    MessageDone,
    MessageDropped,
    Notice,
    Progress,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    TextPart,
    Usage,
    UsageTold,
)  # fmt: skip
from variet.agent.formats.base import Draft, Understood
from variet.agent.formats.guide import Guide
from variet.agent.journal import Journal
from variet.agent.model import CallPiece, Finished, Piece, ReasoningPiece, TextPiece, Waiting
from variet.agent.runtime import Runtime
from variet.errors import AnswerFailed, ContextFull, StreamBroken

log = logging.getLogger("variet.agent")

_FENCED = re.compile(r"^```\w", re.MULTILINE)
_PAUSES_S = (0.5, 2.0, 5.0, 10.0)  # before an answer that broke off is asked for again


class Answers:
    """Of one agent. `total`: tokens of this turn; `used_tokens`: of the context, as of the last answer; `partial`: what
    was said of an answer that is under way."""

    def __init__(self, runtime: Runtime, journal: Journal) -> None:
        self._runtime = runtime
        self._tell = journal.record
        self.total = Usage()
        self.used_tokens = 0
        self.partial = Draft()
        self._unguided = False  # the server takes no schema, or no answer that was begun

    async def next(
        self, sampling: Mapping[str, Any], *, way: Guide | None = None, summary: bool = False
    ) -> tuple[Draft, Understood]:
        """One answer, asked for again where it breaks off. `sampling`: of this answer, instead of the session's; `way`:
        where it is led to, if the server can. Raises AnswerFailed."""
        runtime = self._runtime
        for attempt in range(runtime.limits.tries):
            message_id = f"m{self._runtime.session.next_seq}"
            try:
                draft = await self._ask(message_id, sampling, None if self._unguided else way)
            except (StreamBroken, AnswerFailed) as error:
                last = attempt + 1 == runtime.limits.tries
                if way is not None and not self._unguided and error.refuses_request and not last:
                    log.info("no guided answers: %s", error)
                    self._tell(MessageDropped(message_id=message_id, reason=error.what))
                    self._unguided = True
                    continue
                answered = self.used_tokens > 0
                again = isinstance(error, StreamBroken) or (error.code == "unreachable" and answered)
                if isinstance(error, ContextFull) or not again or last:
                    raise
                self._tell(MessageDropped(message_id=message_id, reason=error.what))
                pause_s = _pause_s(error, attempt)
                told = f"{error.what}; asking again in {pause_s:g} s"
                self._tell(Notice(level="warning", code="retry", text=told))
                await asyncio.sleep(pause_s)
                continue
            understood = (
                Understood(draft.text)
                if summary
                else runtime.form.understand(draft, runtime.tools, runtime.workspace, self._new_call_id())
            )
            reasoning = [ReasoningPart(text=draft.reasoning)] if draft.reasoning else []
            text = [TextPart(text=understood.text)] if understood.text else []
            content = (*reasoning, *text, *understood.calls)
            self.partial = Draft()
            self._tell(MessageDone(message_id=message_id, content=content, raw=understood.raw, finish=draft.finish))
            return draft, understood
        raise AssertionError("the last try raises")

    def _new_call_id(self) -> Callable[[], str]:
        """Nine letters and digits: Mistral's templates refuse any other."""
        seq, count = self._runtime.session.next_seq, itertools.count(1)
        return lambda: f"c{seq:06}{next(count):02}"

    async def _ask(self, message_id: str, sampling: Mapping[str, Any], way: Guide | None) -> Draft:
        runtime = self._runtime
        body = {**runtime.rendering.body(runtime.facts.name), **sampling}
        opening = await self._opening(body, way) if way is not None else ""
        self.partial = draft = Draft()
        sieve = runtime.form.sieve(runtime.tools)

        def said(text: str) -> None:
            if text:
                self._tell(TextDelta(message_id=message_id, text=text))

        if opening:
            body["messages"] = [*body["messages"], {"role": "assistant", "content": opening}]
            draft.text = opening
            said(sieve.feed(opening))
        async with contextlib.aclosing(runtime.model.answer(body)) as stream:  # type: ignore[type-var]
            async for piece in _without(opening, stream):
                if isinstance(piece, TextPiece):
                    cut = runtime.form.enough(
                        draft.text + piece.text, checked=bool(runtime.check), guided=bool(opening)
                    )
                    if cut is not None:
                        said(sieve.feed(piece.text[: max(0, cut - len(draft.text))]))
                        said(sieve.end()[0])
                        draft.text, draft.finish = (draft.text + piece.text)[:cut], "stop"
                        if piece.usage is not None:
                            self._count(Finished("stop", piece.usage, known=True))
                        break
                    draft.text += piece.text
                    said(sieve.feed(piece.text))
                elif isinstance(piece, ReasoningPiece):
                    draft.reasoning += piece.text
                    self._tell(ReasoningDelta(message_id=message_id, text=piece.text))
                elif isinstance(piece, CallPiece):
                    draft.take(piece.index, piece.name, piece.arguments)
                elif isinstance(piece, Waiting):
                    self.tell_progress(piece.facts)
                elif isinstance(piece, Finished):
                    draft.finish = piece.finish
                    said(sieve.end()[0])
                    self._count(piece)
        if opening and _FENCED.search(draft.text, len(opening)):
            log.info("a server does not go on with answers that were begun")
            self._unguided, draft.text = True, draft.text[len(opening) :]
        return draft

    async def _opening(self, body: dict[str, Any], way: Guide) -> str:
        """How the answer of a guided model begins; empty where it cannot be guided. Raises AnswerFailed."""
        if not way.asks:
            return way.opening("")
        text = ""
        async with contextlib.aclosing(self._runtime.model.answer({**body, **way.request})) as stream:  # type: ignore[type-var]
            async for piece in stream:
                if isinstance(piece, TextPiece):
                    text += piece.text
                elif isinstance(piece, Waiting):
                    self.tell_progress(piece.facts)
                elif isinstance(piece, Finished):
                    self._count(piece)
        try:
            return way.opening(text)
        except ValueError as error:
            log.info("a model was not held to a schema: %s", error)
            return ""

    def tell_progress(self, facts: Mapping[str, Any]) -> None:
        known = {name: facts.get(name) for name in ("percent", "position", "left_ms", "reason")}
        if facts["stage"] in ("queue", "pull", "load", "restore", "prefill"):
            self._tell(Progress(stage=facts["stage"], tier=self._runtime.facts.name, **known))

    def _count(self, piece: Finished) -> None:
        self.total = self.total + piece.usage
        if piece.known:
            self.used_tokens = piece.usage.prompt + piece.usage.output
        told = UsageTold(
            **piece.usage.model_dump(), limit=self._runtime.facts.context_tokens,
            tier=piece.tier or self._runtime.facts.name, model=piece.model or self._runtime.facts.model,
        )  # fmt: skip
        self._tell(told)


async def _without(opening: str, pieces: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
    """An answer that was begun for the model: some servers repeat that beginning, others do not."""
    held = ""
    async for piece in pieces:
        if opening and isinstance(piece, TextPiece):
            held += piece.text
            if len(held) < len(opening) and opening.startswith(held):
                continue
            piece, opening = TextPiece(held.removeprefix(opening), piece.usage), ""
        elif opening and held and isinstance(piece, Finished):
            yield TextPiece(held)
        yield piece


def _pause_s(error: AnswerFailed, attempt: int) -> float:
    told = error.code.removeprefix("retry_after:")
    if error.code.startswith("retry_after:") and told.isdigit():
        return min(60.0, float(told))
    return _PAUSES_S[min(attempt, len(_PAUSES_S) - 1)]
