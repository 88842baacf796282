"""One request to Google's APIs, with a token that is renewed when it ends, and errors in words.

Reads are tried again where that may help. Writes never are: one that broke off may have been done (Uncertain).
https://developers.google.com/workspace/gmail/api/guides/handle-errors
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx

from variet.assistant.broker.carriers import Uncertain
from variet.assistant.problems import ToolProblem

_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_WAITS_S = (0.5, 2.0)
_LONGEST_WAIT_S = 10.0
_MOST_BYTES = 40 * 1024 * 1024
_RATE = ("rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "dailyLimitExceeded", "concurrentLimit")

TokenSource = Callable[[str], Awaitable[str]]
"""A token that works; given one that Google did not take any more, another."""


class GoogleApi:
    def __init__(self, base: str, token: TokenSource) -> None:
        self._base = base
        self._token = token
        self._http = httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def get(self, path: str, **params: Any) -> dict[str, Any]:
        """Raises ToolProblem."""
        waits = list(_WAITS_S)
        while True:
            try:
                return _told(await self._asked("GET", path, params, None, {}))
            except (httpx.TransportError, _Again) as problem:
                wanted_s = problem.wait_s if isinstance(problem, _Again) else 0
                if not waits or wanted_s > _LONGEST_WAIT_S:
                    raise _given_up(problem) from None
                await asyncio.sleep(max(wanted_s, waits.pop(0)))

    async def post_to_read(self, path: str, body: Any) -> dict[str, Any]:
        """Of the few that read by POST. Raises ToolProblem."""
        try:
            return await self.write("POST", path, body)
        except Uncertain as broke:
            raise ToolProblem("unavailable", str(broke)) from None

    async def write(
        self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None, **params: Any
    ) -> dict[str, Any]:
        """Once. Raises ToolProblem where it was surely not done, Uncertain where it may have been."""
        try:
            answer = await self._asked(method, path, params, body, dict(headers or {}))
            try:
                return _told(answer)
            except ToolProblem as problem:
                if answer.status_code < 300:  # it was done, whatever was said of it
                    raise Uncertain(str(problem)) from None
                raise
        except httpx.ConnectError as error:
            raise _given_up(error) from None
        except httpx.TransportError as error:
            raise Uncertain(f"the line to Google broke: {type(error).__name__}") from None
        except _Again as again:
            if again.status >= 500:
                raise Uncertain(f"Google answered with HTTP {again.status}") from None
            raise _given_up(again) from None

    async def _asked(
        self, method: str, path: str, params: Mapping[str, Any], body: Any, headers: dict[str, str]
    ) -> httpx.Response:
        given = {name: value for name, value in params.items() if value is not None}
        token = await self._token("")
        for last in (False, True):
            request = self._http.build_request(
                method, f"{self._base}{path}", params=given, json=body,
                headers={**headers, "authorization": f"Bearer {token}", "accept-encoding": "gzip"},
            )  # fmt: skip
            answer = await self._limited(await self._http.send(request, stream=True))
            if answer.status_code != 401 or last:
                return answer
            token = await self._token(token)
        raise AssertionError

    async def _limited(self, answer: httpx.Response) -> httpx.Response:
        """Read whole, but for one that is larger than anything there is."""
        held = bytearray()
        try:
            async for part in answer.aiter_bytes():
                held += part
                if len(held) > _MOST_BYTES:
                    raise TooLarge
        finally:
            await answer.aclose()
        plain = {
            name: value for name, value in answer.headers.items() if name not in ("content-encoding", "content-length")
        }
        return httpx.Response(answer.status_code, headers=plain, content=bytes(held), request=answer.request)


class TooLarge(ToolProblem):
    """More than is read of one answer."""

    def __init__(self) -> None:
        super().__init__("unsupported_type", f"Google's answer is larger than {_MOST_BYTES // 2**20} MiB")


class _Again(Exception):
    """What may work later."""

    def __init__(self, status: int, wait_s: float) -> None:
        self.status = status
        self.wait_s = wait_s


def _told(answer: httpx.Response) -> dict[str, Any]:
    status = answer.status_code
    if status == 204:
        return {}
    if status < 300:
        try:
            told = answer.json()
        except ValueError:
            raise ToolProblem("unavailable", "Google's answer cannot be read") from None
        if not isinstance(told, dict):
            raise ToolProblem("unavailable", "Google's answer has another shape than it should")
        return told
    reason, message = _error_of(answer)
    if status == 429 or (status == 403 and reason in _RATE):
        wait = answer.headers.get("retry-after", "")
        raise _Again(429, float(wait) if wait.isdecimal() else 0)
    if status >= 500:
        raise _Again(status, 0)
    if status == 401:
        raise ToolProblem("reauth_required", "Google does not take the sign-in", "Run: variet auth google")
    if status == 403 and reason in ("insufficientPermissions", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"):
        raise ToolProblem("insufficient_scope", "the sign-in does not cover this", "Run: variet auth google")
    if status == 403:
        raise ToolProblem("denied", f"Google refuses: {message}")
    if status in (404, 410):
        raise ToolProblem("not_found", "there is no such thing (any more)")
    if status in (409, 412):
        raise ToolProblem("conflict", "it was changed meanwhile", "Look at it again")
    raise ToolProblem("bad_request", f"Google refuses: {message}")


def _error_of(answer: httpx.Response) -> tuple[str, str]:
    """(reason, message): https://cloud.google.com/apis/design/errors and the older shape in one."""
    try:
        error = answer.json()["error"]
        first = (error.get("errors") or error.get("details") or [{}])[0]
        return str(first.get("reason", "")), str(error.get("message", ""))[:300]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return "", f"HTTP {answer.status_code}"


def _given_up(problem: Exception) -> ToolProblem:
    if isinstance(problem, _Again) and problem.status == 429:
        wait = f"Wait {problem.wait_s:.0f} s" if problem.wait_s else "Wait a minute"
        return ToolProblem("rate_limited", "Google wants fewer requests", wait)
    if isinstance(problem, _Again):
        return ToolProblem("unavailable", f"Google does not work now (HTTP {problem.status})")
    if isinstance(problem, httpx.TimeoutException):
        return ToolProblem("timeout", "Google does not answer")
    return ToolProblem("unavailable", f"Google cannot be reached: {type(problem).__name__}")
