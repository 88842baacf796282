"""Talks to a running engine for the commands; variet.connection says to which."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx

from variet import connection
from variet.errors import TrustError, VarietError

_SILENCE_S = 60.0  # an events stream of the engine says something every 15


def engine_url() -> str:
    return connection.find().url


def call(method: str, path: str, body: dict[str, Any] | None = None, *, timeout_s: float | None = 10) -> httpx.Response:
    """One request to the engine. Raises ConnectionFailed, TrustError, or VarietError with the engine's own words."""
    engine = connection.find()
    with client(engine, timeout_s) as http:
        try:
            answer = http.request(method, path, json=body)
        except httpx.TransportError as error:
            raise connection.unreachable(engine.url, error) from None
    _check(answer, engine.url)
    return answer


def events(path: str) -> Iterator[tuple[str, Any]]:
    """Server-sent events of the engine as (kind, data), until it ends them. Raises what `call` raises."""
    engine = connection.find()
    with client(engine, _SILENCE_S) as http:
        try:
            with http.stream("GET", path, headers={"accept": "text/event-stream"}) as answer:
                if answer.status_code >= 400:
                    answer.read()
                    _check(answer, engine.url)
                kind = ""
                for line in answer.iter_lines():
                    field, _, value = line.partition(": ")
                    if field == "event":
                        kind = value
                    elif field == "data":
                        yield kind, json.loads(value)
        except httpx.TransportError as error:
            raise connection.unreachable(engine.url, error) from None


def _check(answer: httpx.Response, url: str) -> None:
    if answer.status_code == 401:
        raise TrustError(words(answer), where=url, next_step="Pair with it, or set VARIET_API_KEY")
    if answer.status_code == 403:
        raise TrustError(words(answer), where=url, next_step="Its owner can allow that: `variet pair --admin`")
    if answer.status_code >= 400:
        raise VarietError(words(answer), where=url)


def client(engine: connection.Connection, timeout_s: float | None = 10) -> httpx.Client:
    """An HTTP client that trusts and knows what `engine` says; proxies of the environment are not asked."""
    timeout = httpx.Timeout(timeout_s, connect=5)
    return httpx.Client(
        base_url=engine.url, headers=engine.headers(), verify=engine.tls(), timeout=timeout, trust_env=False
    )


def words(answer: httpx.Response) -> str:
    """What the engine said about an error."""
    try:
        body = answer.json()
    except ValueError:
        return f"the engine answered {answer.status_code}"
    detail = body.get("detail") or body.get("error") or body
    if isinstance(detail, dict):
        detail = detail.get("message", detail)
    return str(detail)
