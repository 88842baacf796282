"""Pure: the paths of llama-server that the engine knows, and what each needs.

An allow-list: a path that is not here is answered 404 by the engine itself and disturbs no model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Family = Literal["chat", "completions", "responses", "messages", "native"]
SideKind = Literal["embedding", "rerank", "transcription"]


@dataclass(frozen=True, slots=True)
class Api:
    """One path: whose error shapes it speaks, whether it occupies a slot, which field bounds its answer."""

    family: Family
    needs_slot: bool = True
    limit_fields: tuple[str, ...] = ()  # the first is set where a tier caps answers and the client named none
    streams_usage: bool = False  # takes stream_options.include_usage
    side_kind: SideKind | None = None  # which side model answers where no model is named
    admin_post: bool = False
    required: str | None = None  # a field without which there is no answer: refused before a model is loaded for it
    methods: frozenset[str] = frozenset({"POST"})
    conversation: bool = False  # its requests grow by appending, so their prefix chain finds their slot
    templated: bool = False  # its messages are written by the model's template
    takes_list: bool = False  # its body may be a list, which goes through as it is


CHAT = Api("chat", limit_fields=("max_tokens", "max_completion_tokens"), streams_usage=True, conversation=True,
           required="messages", templated=True)  # fmt: skip
CHAT_COUNT = Api("chat", needs_slot=False, required="messages", templated=True)
_TEXT = Api("completions", limit_fields=("max_tokens", "n_predict"), streams_usage=True, conversation=True)
_NATIVE = Api("native", limit_fields=("n_predict",), conversation=True)
_RESPONSES = Api("responses", limit_fields=("max_output_tokens",), conversation=True, required="input", templated=True)
_MESSAGES = Api("messages", limit_fields=("max_tokens",), conversation=True, required="messages", templated=True)
_EMBED = Api("native", side_kind="embedding")
_RANK = Api("native", side_kind="rerank")
_AUDIO = Api("native", side_kind="transcription")
_LOOK = Api("native", needs_slot=False)
_SETTINGS = Api("native", needs_slot=False, admin_post=True, methods=frozenset({"GET", "HEAD", "POST"}))
_ADAPTERS = replace(_SETTINGS, takes_list=True)

APIS: dict[str, Api] = {
    "/v1/chat/completions": CHAT,
    "/chat/completions": CHAT,
    "/v1/completions": _TEXT,
    "/completions": _NATIVE,
    "/completion": _NATIVE,
    "/infill": _NATIVE,
    "/v1/responses": _RESPONSES,
    "/responses": _RESPONSES,
    "/v1/messages": _MESSAGES,
    "/v1/messages/count_tokens": Api("messages", needs_slot=False, required="messages", templated=True),
    "/v1/chat/completions/input_tokens": CHAT_COUNT,
    "/v1/chat/completions/control": Api("chat", needs_slot=False),
    "/v1/responses/input_tokens": Api("responses", needs_slot=False, required="input", templated=True),
    "/v1/embeddings": _EMBED,
    "/embeddings": _EMBED,
    "/embedding": _EMBED,
    "/v1/rerank": _RANK,
    "/v1/reranking": _RANK,
    "/rerank": _RANK,
    "/reranking": _RANK,
    "/v1/audio/transcriptions": _AUDIO,
    "/tokenize": _LOOK,
    "/detokenize": _LOOK,
    "/apply-template": Api("native", needs_slot=False, templated=True),
    "/props": _SETTINGS,
    "/lora-adapters": _ADAPTERS,
}

# Served by llama-server, never by the engine: they run tools, fetch addresses, or touch slots that the scheduler owns.
REFUSED = ("/tools", "/cors-proxy", "/slots", "/v1/stream")


def find(path: str) -> Api | None:
    return APIS.get(path.rstrip("/") or "/")


def is_refused(path: str) -> bool:
    return path.startswith(REFUSED)


def family_of(path: str) -> Family:
    """Whose error shape a path gets, known or not."""
    api = find(path)
    if api is not None:
        return api.family
    return "messages" if path.startswith("/v1/messages") else "chat"
