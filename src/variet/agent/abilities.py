"""What models were seen to do when they were tried, kept in the state folder: a file each, so that nobody overwrites
what another process found."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from variet import paths
from variet.agent.model import ModelFacts

log = logging.getLogger("variet.agent")
_VERSION = 1  # changes with what is tried

# What the template does with reasoning of earlier answers: shows it for good; shows it for good if told so; drops it at
# a person's next words; drops it, and without any nothing changes that was read; has no place for it.
Reasoning = Literal["kept", "preserved", "dropped", "switched_off", "ignored"]


class Abilities(BaseModel):
    """None: it was not tried. `calls`: it calls a tool that it is told to call; `schema_held`: its answers follow a
    schema that they must; `goes_on`: it goes on with an answer that was begun for it."""

    model_config = ConfigDict(frozen=True)

    reasoning: Reasoning = "ignored"
    calls: bool | None = None
    schema_held: bool | None = None
    goes_on: bool | None = None


def known(facts: ModelFacts, *, coding: bool) -> Abilities | None:
    """Of a model under this name; None: it was never tried. `coding`: with tools to call; a question has none."""
    try:
        return Abilities.model_validate_json(_file(facts, coding=coding).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or damaged
        return None


def keep(facts: ModelFacts, found: Abilities, *, coding: bool) -> None:
    """Where it cannot be written, the model is tried again next time."""
    try:
        paths.write_whole(_file(facts, coding=coding), found.model_dump_json() + "\n")
    except OSError as error:
        log.warning("what %s can do could not be kept: %s", facts.name, error)


def _file(facts: ModelFacts, *, coding: bool) -> Path:
    """By engine, tier and model, and what the tier forces upon it. Another file of the model is another one."""
    key = json.dumps([_VERSION, facts.name, facts.model, facts.identity, coding])
    return paths.state_dir() / "abilities" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
