"""Modes and tiers of a session, as an editor shows them for a person to choose from."""

from __future__ import annotations

from typing import Any

from acp import RequestError, schema

from variet.agent.state import State
from variet.policy.action import MODES, Mode
from variet.tiers import TIERS

_MODES: dict[Mode, tuple[str, str]] = {
    "plan": ("Plan", "Reads and plans; changes nothing"),
    "ask": ("Ask", "Asks before each edit and command"),
    "auto-edit": ("Edit", "Edits this folder without asking; asks for commands"),
    "full": ("Full", "Runs commands in the sandbox without asking, too"),
}


def modes(state: State) -> schema.SessionModeState:
    available = [schema.SessionMode(id=one, name=_MODES[one][0], description=_MODES[one][1]) for one in MODES]
    return schema.SessionModeState(current_mode_id=state.mode, available_modes=available)


def options(state: State) -> list[Any]:
    """Mode and tier, as settings of the session."""
    choices = [schema.SessionConfigSelectOption(value=one, name=_MODES[one][0], description=_MODES[one][1])
               for one in MODES]  # fmt: skip
    names = [*TIERS, *([state.tier] if state.tier not in TIERS else [])]
    tiers = [schema.SessionConfigSelectOption(value=one, name=one) for one in names]
    return [
        schema.SessionConfigOptionSelect(
            type="select", id="mode", name="Mode", category="mode", current_value=state.mode, options=choices
        ),
        schema.SessionConfigOptionSelect(
            type="select", id="tier", name="Tier", category="model", current_value=state.tier, options=tiers
        ),
    ]


def options_update(state: State) -> schema.ConfigOptionUpdate:
    return schema.ConfigOptionUpdate(session_update="config_option_update", config_options=options(state))


def mode_of(name: str) -> Mode:
    """Raises RequestError where there is no such mode."""
    mode = next((one for one in MODES if one == name), None)
    if mode is None:
        raise RequestError.invalid_params({"mode_id": f"there is no mode {name!r}; there are: {', '.join(MODES)}"})
    return mode
