"""Pure: what goes wrong with a request, in the error shape of the API it came by.

Shapes: OpenAI `{"error": {...}}`, Anthropic `{"type": "error", "error": {...}}`, and the in-stream events of each.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from variet.engine.apis import Family

_TYPES = {  # status -> (OpenAI type, Anthropic type)
    400: ("invalid_request_error", "invalid_request_error"),
    401: ("authentication_error", "authentication_error"),
    403: ("permission_error", "permission_error"),
    404: ("invalid_request_error", "not_found_error"),
    405: ("invalid_request_error", "invalid_request_error"),
    413: ("invalid_request_error", "request_too_large"),
    415: ("invalid_request_error", "invalid_request_error"),
    429: ("rate_limit_error", "rate_limit_error"),
    503: ("unavailable_error", "overloaded_error"),
}

TOO_LONG = "exceed_context_size_error"  # llama-server's
UNKNOWN = "upstream_error"
_SIZES = re.compile(r"(\d+) tokens\D*(\d+) tokens")  # as llama-server tells them: wanted, there are


@dataclass(frozen=True)
class Problem(Exception):
    """An answer that is an error: status, a stable code for programs, a sentence for people."""

    status: int
    code: str
    message: str
    retry_after_s: float | None = None

    @property
    def kind(self) -> str:
        """OpenAI's type of it."""
        return _TYPES.get(self.status, ("server_error", ""))[0]

    def headers(self) -> list[tuple[bytes, bytes]]:
        result = [(b"content-type", b"application/json")]
        if self.retry_after_s is not None:
            result.append((b"retry-after", str(max(1, round(self.retry_after_s))).encode()))
        if self.status == 401:
            result.append((b"www-authenticate", b"Bearer"))
        return result

    def body(self, family: Family) -> bytes:
        return json.dumps(self.shape(family)).encode()

    def event(self, family: Family) -> bytes:
        """The same as an event of a stream that is already under way."""
        if family == "messages":
            return b"event: error\ndata: " + json.dumps(self.shape(family)).encode() + b"\n\n"
        return b"data: " + json.dumps(self.shape(family)).encode() + b"\n\n"

    def shape(self, family: Family) -> dict[str, object]:
        """The error as an API says it."""
        openai, anthropic = _TYPES.get(self.status, ("server_error", "api_error"))
        if family == "messages":
            return {"type": "error", "error": {"type": anthropic, "message": self._for_anthropic()}}
        if self.code == TOO_LONG:
            told = {"message": self._for_openai(), "type": openai, "param": "messages"}
            return {"error": {**told, "code": "context_length_exceeded"}}
        return {"error": {"message": self.message, "type": openai, "param": None, "code": self.code}}

    def _for_anthropic(self) -> str:
        """Claude Code makes a conversation shorter at these words of Anthropic's, and ends at any others."""
        if self.code != TOO_LONG:
            return self.message
        sizes = _SIZES.search(self.message)
        return f"prompt is too long: {sizes[1]} tokens > {sizes[2]} maximum" if sizes else "prompt is too long"

    def _for_openai(self) -> str:
        """At OpenAI's words clients make a conversation shorter; some know llama-server's, which follow. OpenClaude
        0.1.8 looks for `prompt is too long`, 0.29 for the category in brackets, else its turn ends."""
        sizes = _SIZES.search(self.message)
        if sizes is None:
            return self.message
        most = f"This model's maximum context length is {sizes[2]} tokens."
        words = f"prompt is too long [openai_category=context_overflow], the {self.message}"
        return f"{most} However, your messages resulted in {sizes[1]} tokens: {words}"
