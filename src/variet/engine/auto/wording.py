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
    r"^[ \t]{0,80}(?:Traceback \(most|File \"|#\d{1,4} |at \w[\w.$]{0,200}\(|def \w+\(|class \w+|"
    r"import [\w.]+;?[ \t]*$|from [\w.]+ import|function \w+\(|const \w+ =|let \w+ =|public |private |#include|"
    r"SELECT [^\n]{1,300} FROM|\w{1,60}Error: |for \w+ in [^\n]{1,300};)",
    re.MULTILINE,
)
_NO_PATH = re.compile(r"[^\w./-]+")
_CODE_FILES = (
    ".py", ".pyi", ".js", ".jsx", ".ts", ".tsx", ".go", ".rs", ".c", ".cc", ".cpp", ".h", ".hpp", ".java", ".kt", ".cs",
    ".rb", ".php", ".swift", ".sql", ".sh", ".vue", ".toml",
)  # fmt: skip
_READ_FIELDS = ("system", "instructions", "tools", "messages", "input", "prompt")
_LONG = 2000  # characters without a space: no text, but a picture in letters
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
        dotted = " ".join(word for word in self._prose.split() if "." in word)
        words = (word.rstrip(".") for word in _NO_PATH.split(dotted))
        return len({word for word in words if word.endswith(_CODE_FILES)})


def wordings(body: Mapping[str, Any]) -> list[Wording]:
    """What a person wrote, oldest first; empty for a request without words (numbers, tool results alone)."""
    tools, effort = bool(body.get("tools")), _effort(body)
    texts = (_ADDED.sub(" ", text).strip() for text in _said(body))
    return [Wording(text, tools, effort) for text in texts if text]


def readable_bytes(body: Mapping[str, Any]) -> int:
    """Bytes of what a model reads as text, nearly: pictures and sounds inside are left out."""
    return sum(_readable(body[field]) for field in _READ_FIELDS if field in body)


def _readable(value: Any) -> int:
    if isinstance(value, str):
        return 0 if len(value) > _LONG and " " not in value[:_LONG] else len(value)
    if isinstance(value, dict):
        return sum(len(key) + _readable(inner) for key, inner in value.items())
    return sum(map(_readable, value)) if isinstance(value, list) else 0


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
