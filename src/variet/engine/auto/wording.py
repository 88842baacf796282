"""Pure: what a person wrote in a request, as the rules of `auto` see it. No word of it is kept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_MOST_CHARACTERS = 4000  # of a message: half from its beginning, half from its end, where people ask
_FENCED = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
# What coding clients put around a person's words: reminders, the state of an editor, rules of a project.
_TAGS = "system-reminder|environment_(?:details|context)|user_instructions|attached_files|editor_context"
_ADDED = re.compile(rf"<({_TAGS})>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_CODE = re.compile(
    r"^\s*(?:Traceback \(most|File \"|#\d+ |at \w[\w.$]*\(|def \w+\(|class \w+|import [\w.]+;?\s*$|from \w+ import|"
    r"function \w+\(|const \w+ =|let \w+ =|public |private |#include|SELECT .+ FROM|\w+Error: |for \w+ in .+;)",
    re.MULTILINE,
)
_FILE = re.compile(
    r"\b[\w./-]+\.(?:py|pyi|js|jsx|ts|tsx|go|rs|c|cc|cpp|h|hpp|java|kt|cs|rb|php|swift|sql|sh|vue|toml)\b"
)
_NOT_A_WORD = re.compile(r"[^\w']+")


@dataclass(frozen=True)
class Wording:
    """One message of a person, and what else the request says."""

    message: str
    tools: bool = False
    effort: str = ""

    @cached_property
    def _prose(self) -> str:
        text = _FENCED.sub(" ", self.message)
        half = _MOST_CHARACTERS // 2
        return text if len(text) <= _MOST_CHARACTERS else f"{text[:half]} {text[-half:]}"

    @cached_property
    def text(self) -> str:
        """Its words in lower case, a space before and after each; code between fences left out."""
        return f" {_NOT_A_WORD.sub(' ', self._prose.lower()).strip()} "

    @cached_property
    def word_set(self) -> frozenset[str]:
        return frozenset(self.text.split())

    @cached_property
    def words(self) -> int:
        return len(self.text.split())

    @cached_property
    def code(self) -> bool:
        return "```" in self.message or _CODE.search(self._prose) is not None

    @cached_property
    def files(self) -> int:
        """How many files of source code it names."""
        return len(set(_FILE.findall(self._prose)))


def wordings(body: Mapping[str, Any]) -> list[Wording]:
    """What a person wrote, oldest first; empty for a request without words (numbers, tool results alone)."""
    tools, effort = bool(body.get("tools")), _effort(body)
    texts = (_ADDED.sub(" ", text).strip() for text in _said(body))
    return [Wording(text, tools, effort) for text in texts if text]


def has_images(body: Mapping[str, Any]) -> bool:
    """Whether a model without eyes could not answer it."""
    return any(
        isinstance(part, dict) and part.get("type") in ("image", "image_url", "input_image")
        for turn in _turns(body)
        for part in _parts(turn)
    )


def _turns(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    said = body.get("messages", body.get("input"))
    return [turn for turn in said if isinstance(turn, dict)] if isinstance(said, list) else []


def _parts(turn: Mapping[str, Any]) -> list[Any]:
    content = turn.get("content")
    return content if isinstance(content, list) else []


def _said(body: Mapping[str, Any]) -> Iterator[str]:
    for field in ("prompt", "input"):
        if isinstance(body.get(field), str):
            yield body[field]
    for turn in _turns(body):
        if turn.get("role") != "user":
            continue
        content = turn.get("content")
        if isinstance(content, str):
            yield content
        elif isinstance(content, list):
            parts = [part for part in content if isinstance(part, dict)]
            yield "\n".join(part["text"] for part in parts if isinstance(part.get("text"), str))


def _effort(body: Mapping[str, Any]) -> str:
    """How hard the client asks the model to think: `low`, `medium`, `high`; empty where it does not say."""
    reasoning = body.get("reasoning")
    said = body.get("reasoning_effort") or (reasoning.get("effort") if isinstance(reasoning, dict) else None)
    return said if isinstance(said, str) else ""
