"""Pure, but for reading the body: a request as it came, understood, or refused with what is wrong about it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qs

import orjson

from variet.engine import apis, shaping
from variet.engine.apis import Api
from variet.engine.attribution import without_attribution
from variet.engine.auto.choice import Choice
from variet.engine.config import EngineConfig, TierConfig
from variet.engine.conversation import Chain
from variet.engine.dialects import dialect_of
from variet.engine.dialects.base import CHAT_PATH, Dialect, NotUnderstood
from variet.engine.dialects.chat import as_templates_take_it
from variet.engine.downstream import Receive
from variet.engine.names import Names, Target, UnknownName
from variet.engine.problems import Problem
from variet.engine.record import Record

_DROPPED_FROM_CLIENT = {
    b"host", b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"authorization", b"x-api-key",
    b"accept-encoding", b"origin", b"referer", b"cookie", b"expect", b"x-conversation-id", b"te", b"upgrade",
    b"x-variet-request", b"x-variet-progress", b"x-variet-next", b"range", b"if-range", b"if-match", b"if-none-match",
    b"if-modified-since", b"if-unmodified-since",
}  # fmt: skip
_JSON = (b"content-type", b"application/json")
_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9._-]{0,63}")  # a letter first: the engine's own are numbers
_DEEPEST = 200  # what every JSON library on the way can write again


class Settings(Protocol):
    """The configuration in force; it changes when the owner reloads it."""

    config: EngineConfig
    names: Names

    def hint(self, name: str) -> None:
        """Somebody expects to need this tier or model next. Raises UnknownName."""
        ...

    def rescues(self, tier: TierConfig | None, model: str) -> bool:
        """Whether calls that the model writes as text are to become calls."""
        ...

    def choose(self, body: Mapping[str, Any], chain: Chain) -> Choice:
        """The tier for a request that leaves it to the engine."""
        ...

    def facts_of(self, record: Record) -> dict[str, Any]:
        """Where a request stands now, for whoever waits for it."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What the child is asked: other APIs' conversations become a chat on the way, all else stays what it is."""

    api: Api
    path: bytes
    body: dict[str, Any] | None
    dialect: Dialect | None = None


@dataclass(slots=True)
class Call:
    """A request, understood."""

    api: Api
    path: bytes  # with its query
    method: str
    headers: list[tuple[bytes, bytes]]
    body: dict[str, Any] | None  # parsed JSON, or None: then `raw` goes as it is
    raw: bytes
    target: Target
    stream: bool
    asked: Asked
    name: str  # what its client calls it; empty: nothing
    next: str  # the tier or model that its client expects to ask next; empty: unknown
    live: bool  # its client wants to hear at once how a stream fares, and takes its headers early for that
    attributed: bool = False  # a line that changes with each request was taken from its prompt


class Left(Exception):
    """The client went away before its request was whole."""


async def read_body(scope: MutableMapping[str, Any], receive: Receive, limit_mib: float) -> bytes:
    """The whole body. Raises Problem where it is too large, and Left."""
    limit = int(limit_mib * 1048576)
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    too_large = Problem(413, "body_too_large", f"the request is larger than {limit_mib:g} MiB ($.server.max_body_mib)")
    if declared.isdigit() and int(declared) > limit:
        raise too_large
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise Left
    if not message.get("more_body"):
        return body
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Left
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise too_large
    return b"".join(parts)


def understand(scope: MutableMapping[str, Any], raw: bytes, settings: Settings) -> Call:
    """Raises Problem for a request that no model should see."""
    path, method = scope["path"], scope["method"]
    if apis.is_refused(path):
        raise Problem(
            403,
            "path_not_relayed",
            f"{path} is never relayed: the engine owns slots, tools and addresses",
        )
    api = apis.find(path)
    if api is None:
        raise Problem(404, "unknown_path", f"the engine serves no {path}; see /engine/docs and docs/engine.md")
    if method not in api.methods:  # before a lease: what the child would only refuse must not swap a model
        raise Problem(405, "method_not_allowed", f"{path} takes {' or '.join(sorted(api.methods))}, not {method}")
    query: bytes = scope["query_string"]
    headers = [pair for pair in scope["headers"] if pair[0] not in _DROPPED_FROM_CLIENT]
    sent = dict(scope["headers"])
    form = api.side_kind == "transcription" and sent.get(b"content-type", b"").startswith(b"multipart/form-data")
    given = _parse(raw, sent) if method == "POST" and raw and not form else None
    if isinstance(given, list) and not api.takes_list:
        raise Problem(400, "invalid_json", "the body must be a JSON object, not list")
    if given is not None and shaping.depth_of(given) > _DEEPEST:
        raise Problem(400, "invalid_json", f"the body is nested deeper than {_DEEPEST} levels")
    body = given if isinstance(given, dict) else None
    if given is not None:
        headers = [*(pair for pair in headers if pair[0] != b"content-type"), _JSON]
    if api.required and (body or {}).get(api.required) in (None, []):
        raise Problem(400, "missing_field", f"{path} needs {api.required!r}, not empty")
    name = _named_model(body, raw, scope)
    attributed = False
    if body is not None:
        attributed = api.conversation and settings.config.server.drop_attribution and without_attribution(body)
    try:
        target = settings.names.resolve(name, api.side_kind)
    except UnknownName as error:
        known = ", ".join(error.known)
        raise Problem(404, "model_not_found", f"there is no model {error.name!r} here; there are: {known}") from None
    whole_path = path.encode() + (b"?" + query if query else b"")
    asked = _asked(api, whole_path, body)
    if asked.body is not None and not settings.config.server.allow_media_urls:
        _refuse_addresses(asked.body)
    return Call(
        api=api,
        path=whole_path,
        asked=asked,
        method=method,
        headers=headers,
        body=body,
        raw=raw,
        target=target,
        stream=bool(body and body.get("stream") is True),
        name=_name(sent),
        next=sent.get(b"x-variet-next", b"").decode("latin-1").strip(),
        live=sent.get(b"x-variet-progress", b"").strip().lower() == b"live",
        attributed=attributed,
    )


def _name(headers: Mapping[bytes, bytes]) -> str:
    name = headers.get(b"x-variet-request", b"")
    if name and not _NAME.fullmatch(name):
        raise Problem(
            400,
            "invalid_request_name",
            "x-variet-request takes 1 to 64 letters, digits, dots, dashes and underscores, a letter first",
        )
    return name.decode()


def _refuse_addresses(body: dict[str, Any]) -> None:
    address = shaping.fetched_address(body)
    if address is not None:
        raise Problem(
            400, "media_url_refused",
            f"the model server would fetch {address[:100]!r} itself; send the data inline (data:...), "
            "or the owner sets $.server.allow_media_urls",
        )  # fmt: skip


def _asked(api: Api, path: bytes, body: dict[str, Any] | None) -> Asked:
    try:
        dialect = dialect_of(api.family, body) if body is not None else None
        if dialect is None and body is not None and api.templated:
            body = as_templates_take_it(body)
    except NotUnderstood as error:
        raise Problem(400, f"invalid_{api.family}", str(error)) from None
    except (TypeError, AttributeError, KeyError):
        raise Problem(400, f"invalid_{api.family}", "`tool_choice` or `tools` are not what the API wants") from None
    if dialect is None:
        return Asked(api, path, body)
    if not api.conversation:  # its tokens are only counted, and told in words that all clients know
        return Asked(apis.CHAT_COUNT, CHAT_PATH + b"/input_tokens", dialect.chat)
    return Asked(apis.CHAT, CHAT_PATH, dialect.chat, dialect)


def _parse(raw: bytes, headers: dict[bytes, bytes]) -> dict[str, Any] | list[Any]:
    """The JSON object or list of a body, whatever its content type says. Raises Problem for anything else."""
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise Problem(415, "encoding_not_supported", "send the body without Content-Encoding")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as strict:
        try:
            body = _sound(json.loads(raw))  # integers beyond 64 bits, halves of surrogate pairs
            orjson.dumps(body)
        except (ValueError, RecursionError, TypeError):
            raise Problem(400, "invalid_json", f"the body is not JSON: {strict}") from None
    if not isinstance(body, dict | list):
        raise Problem(400, "invalid_json", f"the body must be a JSON object, not {type(body).__name__}")
    return body


def _sound(body: Any) -> Any:
    """With U+FFFD for each half of a surrogate pair, as a client sends it that cut a text in the middle of an emoji."""
    told = json.dumps(body, ensure_ascii=False)
    return json.loads(told.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def _named_model(body: dict[str, Any] | None, raw: bytes, scope: MutableMapping[str, Any]) -> str | None:
    """`model` from the JSON body, a form's field, or the query."""
    if body is not None and body.get("model") is not None:
        if not isinstance(body["model"], str):
            raise Problem(400, "invalid_model", "`model` must be a string")
        return body["model"] or None
    if body is None and raw:
        form = _form_field(raw, b"model")
        if form:
            return form
    query: bytes = scope["query_string"]
    values = parse_qs(query.decode("latin-1")).get("model") if query else None
    return values[0] if values else None


def _form_field(raw: bytes, name: bytes) -> str | None:
    """The value of a simple field of a multipart form (RFC 7578)."""
    found = re.search(rb"""[;\s]name="?""" + re.escape(name) + rb"""["\s;]""", raw)
    if found is None:
        return None
    start = raw.find(b"\r\n\r\n", found.start())
    end = raw.find(b"\r\n", start + 4)
    return raw[start + 4 : end].decode("utf-8", "replace").strip() if 0 <= start < end else None
