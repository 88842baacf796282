"""What the terminal says at a limit leads on, whatever kind of conversation it was; no screen cuts a word."""

from __future__ import annotations

import io

import pytest

from variet.agent.events import MessageDone, Notice, TextDelta, TurnEnded
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


PROSE = "It adds now, and a sentence of several longer words is folded between them, on whatever screen it stands."


@pytest.mark.parametrize("columns", range(20, 101, 8))
def test_prose_is_folded_between_words_and_code_by_the_terminal_alone(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    screen = io.StringIO()
    printer = Printer(blocks=True, file=screen)
    code = "assert add(1, 2) == 3 and add(-1, 1) == 0 and add(2, 2) == 4 and add(0, 0) == 0"
    printer.show(TextDelta(message_id="m1", text=f"{PROSE}\n\n- {PROSE}\n\n```python\n{code}\n```\n"))
    printer.show(MessageDone(message_id="m1", content=()))
    printer.show(Notice(level="warning", code="x", text=PROSE))
    printer.say(PROSE)
    printer.pairs([("/trust", PROSE)])
    lines = screen.getvalue().splitlines()
    copied = [line for line in lines if "assert" in line]
    assert copied == [code]
    words = {*PROSE.split(), "•", "warning:", "/trust"}
    assert all(word in words for line in lines if line not in copied for word in line.split())
    assert all(len(line) <= columns for line in lines if line not in copied)
