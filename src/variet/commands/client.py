"""Talks to a running engine for the commands. VARIET_ENGINE_URL and VARIET_API_KEY override what is configured."""

from __future__ import annotations

import os
from typing import Any

import httpx

from variet.errors import ConnectionFailed, TrustError, VarietError

DEFAULT_URL = "http://127.0.0.1:8000"


def engine_url() -> str:
    return os.environ.get("VARIET_ENGINE_URL", DEFAULT_URL).rstrip("/")


def call(method: str, path: str, body: dict[str, Any] | None = None, *, timeout_s: float | None = 10) -> httpx.Response:
    """One request to the engine. Raises ConnectionFailed, TrustError, or VarietError with the engine's own words."""
    url = engine_url()
    key = os.environ.get("VARIET_API_KEY")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx.request(
            method,
            url + path,
            json=body,
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=5),
            trust_env=False,
        )
    except httpx.TransportError as error:
        raise ConnectionFailed(
            f"no engine answers ({error})",
            where=url,
            next_step="Start one with `variet up`, or set VARIET_ENGINE_URL",
        ) from None
    if answer.status_code in (401, 403):
        raise TrustError(_words(answer), where=url, next_step="Set VARIET_API_KEY to a key with that right")
    if answer.status_code >= 400:
        raise VarietError(_words(answer), where=url)
    return answer


def _words(answer: httpx.Response) -> str:
    try:
        body = answer.json()
    except ValueError:
        return f"the engine answered {answer.status_code}"
    detail = body.get("detail") or body.get("error") or body
    if isinstance(detail, dict):
        detail = detail.get("message", detail)
    return str(detail)
