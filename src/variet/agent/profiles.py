"""How a model is spoken to, as data: which format, which sampling. Chosen when a session starts, frozen with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

from variet.agent.formats.base import Format
from variet.agent.formats.blocks import Blocks
from variet.agent.formats.native import Native
from variet.errors import SessionError


@dataclass(frozen=True, slots=True)
class Profile:
    """`evidence`: what it rests on."""

    name: str
    form: Callable[[], Format]
    sampling: Mapping[str, Any] = field(default_factory=dict)
    evidence: str = ""


PROFILES = {
    one.name: one
    for one in (
        Profile("native", Native, evidence="Models trained for tools, under a template that llama-server knows."),
        Profile("blocks", Blocks, {"temperature": 0.2}, "Qwen2.5-Coder-1.5B."),
    )
}


# Names of models whose format is known; the first that matches counts.
_SUITED = (
    ("*qwen2.5-coder-0.5b*", "blocks"), ("*qwen2.5-coder-1.5b*", "blocks"), ("*smollm*", "blocks"),
    ("*gemma-3-270m*", "blocks"), ("*gemma3-270m*", "blocks"),
)  # fmt: skip


def suited(model: str) -> str:
    """The profile for a model, by its name."""
    return next((chosen for pattern, chosen in _SUITED if fnmatch(model.lower(), pattern)), "native")


def profile(name: str) -> Profile:
    """Raises SessionError for a name that is none."""
    if name not in PROFILES:
        raise SessionError(f"there is no profile {name!r}", next_step=f"There are: {', '.join(PROFILES)}")
    return PROFILES[name]
