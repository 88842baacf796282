"""Pure: arguments of a call as a model wrote them, mended where that leaves no doubt (json-repair)."""

from __future__ import annotations

import json
from typing import Any

_DECODER = json.JSONDecoder(strict=False)  # small models put line ends into strings as they are


def is_object(written: str) -> bool:
    """Whether it is a JSON object by the letter."""
    try:
        value = json.loads(written, parse_constant=_no_constant)
        return isinstance(value, dict) and sound(value) == value
    except (ValueError, RecursionError):
        return False


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def sound(value: Any) -> Any:
    """Without halves of surrogate pairs: JSON's escapes can say them, UTF-8 cannot; neither log nor request could."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, list):
        return [sound(one) for one in value]
    if isinstance(value, tuple):
        return tuple(sound(one) for one in value)
    if isinstance(value, dict):
        return {sound(key): sound(one) for key, one in value.items()}
    return value


def arguments_of(written: str) -> tuple[dict[str, Any] | None, bool]:
    """(arguments, whether they were mended). None: there is no telling what was meant."""
    args, mended = _read(written)
    return (sound(args), mended) if args is not None else (None, mended)


def _closed(text: str) -> bool:
    """Whether it is one object from its first character to its last. What was cut off is never made up for: half a file
    would be written, half a command run."""
    depth = 0
    for at, one in enumerate(text):
        depth += (one == "{") - (one == "}")
        if depth == 0:
            return one == "}" and at == len(text) - 1
    return False


def _read(written: str) -> tuple[dict[str, Any] | None, bool]:
    text = written.strip()
    if not text:
        return {}, False
    try:
        value = _DECODER.decode(text)
        if isinstance(value, str):  # JSON within JSON
            value = _DECODER.decode(value)
        return (value, False) if isinstance(value, dict) else (None, False)
    except (ValueError, RecursionError):
        pass
    from json_repair import repair_json

    if not _closed(text):
        return None, False
    try:
        mended = repair_json(text, return_objects=True)
    except (ValueError, RecursionError):
        return None, False
    return (mended, True) if isinstance(mended, dict) and mended else (None, False)
