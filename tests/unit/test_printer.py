"""What the terminal says at a limit leads on, whatever kind of conversation it was."""

from __future__ import annotations

import pytest

from variet.agent.events import TurnEnded
from variet.agent.kinds import KINDS
from variet.surfaces.terminal.printer import Printer


@pytest.mark.parametrize(
    ("name", "go_on"),
    [("code", "variet code --continue"), ("ask", "variet ask --continue"),
     ("assistant", "variet ask --assistant --continue")],
)  # fmt: skip
def test_a_limit_names_the_command_that_goes_on(name: str, go_on: str, capsys: pytest.CaptureFixture[str]) -> None:
    kind = KINDS[name]
    Printer(go_on=kind.go_on, undoes=kind.coding).show(TurnEnded(reason="limit", detail="repeats"))
    told = capsys.readouterr().err
    assert f'to go on: {go_on} "..."' in told and ("variet sessions undo" in told) is (name == "code")
