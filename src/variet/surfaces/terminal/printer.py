"""Events as lines: what the model says goes to standard output, what happens to standard error. No cursor tricks but
one line of progress, and that only on a terminal, where no prompt shows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import IO

from rich.console import Console
from rich.markdown import Markdown
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from variet.agent.events import (
    ApprovalRequested,
    EventBase,
    MessageDone,
    MessageDropped,
    Notice,
    PlanChanged,
    Progress,
    TextDelta,
    TierChanged,
    ToolEnded,
    ToolStarted,
    TurnEnded,
    UsageTold,
)  # fmt: skip
from variet.surfaces.terminal.gauge import waiting
from variet.surfaces.terminal.markdown import Blocks, code_of
from variet.surfaces.terminal.question import Line
from variet.surfaces.terminal.recap import last_turns, shortened
from variet.surfaces.terminal.safe import safe
from variet.visible import one_line

_MARKS = {"ok": ("✓", "green"), "error": ("✗", "red"), "denied": ("⊘", "yellow"), "interrupted": ("■", "yellow")}
_LIMITS = {
    "steps": "it took too many steps", "output_tokens": "it wrote too much", "repeats": "it repeated itself",
    "check": "the check still fails",
    "empty": "it said nothing", "malformed": "it could not call a tool properly", "cut": "its answers were cut",
    "unnamed": "it did not say which file it writes", "flawed": "what it writes cannot run",
}  # fmt: skip
_BOXES = {"done": "☑", "active": "▶", "pending": "☐"}
_MOST_SHOWN = 6  # lines of a result


class Printer:
    """Of one run. `verbose`: results of tools whole. `blocks`: of a conversation: Markdown drawn block by block, no
    line of progress. `go_on`: the command that takes it up again; `undoes`: it may have changed files. `file`: where
    all of it goes, instead of standard output and error."""

    def __init__(
        self, *, verbose: bool = False, blocks: bool = False, go_on: str = "", undoes: bool = True,
        file: IO[str] | None = None,
    ) -> None:  # fmt: skip
        self._said = Console(file=file, soft_wrap=True, highlight=False, markup=False, emoji=False)
        self._done = Console(
            file=file, stderr=file is None, soft_wrap=True, highlight=False, markup=False, emoji=False
        )  # fmt: skip
        self._verbose = verbose
        self._go_on = go_on
        self._undoes = undoes
        self._blocks = Blocks() if blocks else None
        self._previewed: set[str] = set()  # approvals whose change was shown
        self._line_open = False
        self._progress_open = False
        self._last: UsageTold | None = None

    def show(self, event: EventBase) -> None:
        if not isinstance(event, Progress):
            self._end_progress()
        if event.parent_id is not None:
            self._of_helper(event)
            return
        if isinstance(event, TextDelta) and self._blocks is not None:
            self._draw(self._blocks.feed(event.text))
        elif isinstance(event, TextDelta):
            text = safe(event.text)
            self._said.print(text, end="")
            self._line_open = not text.endswith("\n") if text else self._line_open
        elif isinstance(event, MessageDone | MessageDropped):
            self._end_line()
        elif isinstance(event, ToolStarted):
            self._end_line()
            self._tell(f"→ {safe(event.summary or event.tool)}", "cyan")
        elif isinstance(event, ToolEnded):
            self._result(event)
        elif isinstance(event, PlanChanged):
            for entry in event.entries:
                self._tell(f"  {_BOXES[entry.state]} {safe(entry.text)}", "")
        elif isinstance(event, Progress):
            self._progress(event)
        elif isinstance(event, UsageTold):
            self._last = event
        elif isinstance(event, TierChanged):
            self._end_line()
            self._prose(event.words, "bold")
        elif isinstance(event, Notice):
            self._end_line()
            colour = {"error": "red", "warning": "yellow"}.get(event.level, "")
            self._prose(f"{event.level}: {event.text}" + (f" {event.next}" if event.next else ""), colour)
        elif isinstance(event, ApprovalRequested) and event.approval.sink == "write":
            self._previewed.add(event.approval.id)  # the surface asks, and shows the change
        elif isinstance(event, TurnEnded):
            self._end(event)

    def say(self, text: str, style: str = "") -> None:
        """Words of the surface itself."""
        self._end_line()
        self._prose(text, style)

    def recap(self, events: Sequence[EventBase]) -> None:
        """The last turns of a session that is taken up again."""
        turns, before = last_turns(events)
        if before:
            self.say(f"({before} turn{'s' * (before > 1)} before; variet sessions export shows all)", "dim")
        for turn in turns:
            self.say(f"› {one_line(turn.words, 2_000)}", "bold")
            if turn.calls:
                count = f"{len(turn.calls)} call{'s' * (len(turn.calls) > 1)}"
                failed = f", {turn.failed} failed" if turn.failed else ""
                self.say(f"→ {count}{failed}, at last: {turn.calls[-1]}", "cyan")
            if turn.answer:
                blocks = Blocks()
                self._draw([*blocks.feed(shortened(turn.answer)), *blocks.end()])

    def pairs(self, rows: Iterable[tuple[str, str]]) -> None:
        """Names, and beside each what it is."""
        self._end_line()
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for name, words in rows:
            grid.add_row(Text(name), Text(safe(words)))
        self._done.print(grid, soft_wrap=False)

    def lines(self, lines: Iterable[Line]) -> None:
        """Of a question."""
        self._end_line()
        for line in lines:
            self._tell(line.text, line.style)

    def patch(self, patch: str) -> None:
        for line in safe(patch).rstrip("\n").split("\n"):
            colour = "green" if line.startswith("+") else "red" if line.startswith("-") else "dim"
            self._tell(f"    {line}", colour)

    def _draw(self, blocks: list[str]) -> None:
        for block in blocks:
            fence = code_of(safe(block))
            if fence is None:
                drawn = Markdown(safe(block), code_theme="ansi_dark", hyperlinks=False)
                for line in self._said.render_lines(drawn, pad=False):
                    text = Text.assemble(*((safe(one.text), one.style or "") for one in line))  # of entities, too
                    text.rstrip()  # blanks to the edge of the screen would be copied, and fold when it gets narrower
                    self._said.print(text)
            else:  # to be copied: a line that is too long is folded by the terminal alone
                language, code = fence
                self._said.print("", Syntax("", language, theme="ansi_dark").highlight(code), sep="\n")

    def _of_helper(self, event: EventBase) -> None:
        """What a helper does, in a line each; its report comes as the result of the call that sent it."""
        if isinstance(event, ToolStarted):
            self._end_line()
            self._tell(f"  ↳ {event.agent_id.partition('-')[0]}: {safe(event.summary or event.tool)}", "dim cyan")
        elif isinstance(event, Progress):
            self._progress(event)

    def _result(self, event: ToolEnded) -> None:
        mark, colour = _MARKS[event.status]
        for diff in event.diffs if f"approval-{event.call_id}" not in self._previewed else ():
            self.patch("\n".join(diff.patch.split("\n")[2:]))
        lines = safe(event.content).splitlines()
        quiet = event.status == "ok" and not self._verbose
        shown = lines if self._verbose else lines[:1] if quiet else lines[-_MOST_SHOWN:]
        for at, line in enumerate(shown):
            self._tell(f"  {mark if at == 0 else ' '} {line[:160]}", colour if at == 0 else "dim")

    def _progress(self, event: Progress) -> None:
        if not self._done.is_terminal or self._blocks is not None:
            return
        self._done.print(f"\r\x1b[2K… {waiting(event)}", end="", style="dim")
        self._progress_open = True

    def _end_progress(self) -> None:
        if self._progress_open:
            self._done.print("\r\x1b[2K", end="")
            self._progress_open = False

    def _end_line(self) -> None:
        if self._blocks is not None:
            self._draw(self._blocks.end())
        if self._line_open:
            self._said.print()
            self._line_open = False

    def _end(self, event: TurnEnded) -> None:
        self._end_line()
        if event.reason == "limit":
            told = _LIMITS.get(event.detail, event.detail)
            self._tell(f"stopped: {told}", "yellow")
            alone = self._blocks is None
            on, undo = (f'{self._go_on} "..."', "variet sessions undo") if alone else ("say how", "/undo")
            back = f"; to take back what changed: {undo}" if self._undoes else ""
            self._prose(f"to go on: {on} (a stronger tier may manage){back}", "dim")
        elif event.reason == "cancelled":
            self._tell("interrupted", "yellow")
        usage = event.usage
        if self._last is not None and self._blocks is None:  # a conversation has it under its prompt
            share = f", {usage.cached / usage.prompt:.0%} read before" if usage.prompt else ""
            full = self._last.prompt + self._last.output
            gauge = f"context {full:,} of {self._last.limit:,} tokens" if self._last.limit else f"{full:,} tokens"
            self._tell(f"{self._last.tier}: {gauge}{share}; {usage.output:,} written", "dim")

    def _prose(self, text: str, style: str) -> None:
        """In a conversation folded between words; what is piped elsewhere is folded there."""
        self._done.print(Text(safe(text), style=style), soft_wrap=self._blocks is None)

    def _tell(self, line: str, style: str) -> None:
        """A line that people copy: a terminal folds it, and knows that it is one."""
        self._done.print(Text(line, style=style))
