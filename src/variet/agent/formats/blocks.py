"""For the smallest models: whole files and commands in fences, as they write them by themselves; no JSON, no schemas.

A fence is a file where its path stands on the line before it, or behind the language; a fence of bash is a command.
Results come back as the person's words. Whole-file edits are what such models manage best (facts and numbers:
docs/decisions/022).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from variet.agent.events import CallPart, MessageDone, TextPart, ToolEnded
from variet.agent.formats.base import Draft, Message, Understood
from variet.agent.formats.splice import defines_less, imported_from, names_of, same_program, splice, with_imports
from variet.agent.tools import lint
from variet.agent.tools.base import Toolbox
from variet.agent.workspace import Workspace
from variet.errors import ToolFailed

HOW = """\
To write a file, give its path on a line of its own, then ALL of its content in a fence:

<path>
```<language>
<content>
```

To run a command:

```bash
<command>
```

You get the results as the next message. When all is done, answer in words, without any fence."""

UNNAMED = (
    "Nothing was written: which file is that? Give its path on the line before the fence, and all of its content in "
    "the fence. If all is done, answer without any fence."
)
_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([^\n`]*)$")
_COMMANDS = frozenset({"bash", "sh", "shell", "console", "zsh", "terminal", "cmd"})
_DECOR = re.compile(r"^[\s#>*_`\-]*(?:(?:file(?:name)?|path)\s*[:=]\s*)?[`*_\"']*", re.IGNORECASE)
_BARE = frozenset({"Makefile", "Dockerfile", "LICENSE", "README"})
_NAME = re.compile(r"[\w.@+-]*\.[A-Za-z][\w+-]{0,14}")
_PATH = re.compile(r"[\w./\\@+-]+")


@dataclass(frozen=True, slots=True)
class Block:
    """`path`: of a file, else empty; `language` as written; `whole`: the fence ends. `begin`, `end`: in the text."""

    path: str
    language: str
    body: str
    whole: bool
    begin: int = 0
    end: int = 0


class Blocks:
    name = "blocks"
    check_failed = (
        "The check fails. Say why, which file is wrong, and the lines of code to put there. Then write the corrected "
        "{files}: its path, and all of it in a fence. Do not write the tests."
    )
    unwritten = (
        "Nothing was written. Now write the corrected {files}: its path, and all of its content in a fence. Do not "
        "write the tests."
    )
    idle = (
        "Nothing was changed in this turn: all files are as they were. Now write the file that is to be changed: its "
        "path, and all of its content in a fence. If none is to be changed, say so."
    )
    small = True

    def __init__(self, *, guided: bool = True) -> None:
        self.guided = guided

    def system(self, prompt: str, tools: Toolbox) -> str:
        return f"{prompt}\n\n{HOW}"

    def request(self, tools: Toolbox) -> dict[str, Any]:
        return {"timings_per_token": True}  # an answer that is cut would else tell no usage

    def sieve(self, tools: Toolbox) -> _Everything:
        return _Everything()

    def enough(self, text: str, *, checked: bool, guided: bool = False) -> int | None:
        """Behind the first command: such models go on with what they think it says. And before one that follows a
        file, where a check does. Behind the one file that was asked for."""
        if "```" not in text[-40:]:
            return None
        blocks = blocks_of(text)
        if guided:
            return blocks[0].end if blocks and blocks[0].whole else None
        command = next((one for one in blocks if one.language in _COMMANDS and not one.path), None)
        if command is None:
            return None
        if checked and any(one.whole and one.begin < command.begin for one in blocks):
            return command.begin
        return command.end if command.whole else None

    def understand(self, draft: Draft, tools: Toolbox, workspace: Workspace, new_id: Callable[[], str]) -> Understood:
        blocks = blocks_of(draft.text)
        calls: list[CallPart] = []
        wrong = ""
        for block in blocks:
            if not block.whole and draft.finish == "length":
                continue  # half a file is no file
            try:
                written = _file(block, workspace)
            except _NoPlace as nowhere:
                wrong = wrong or str(nowhere)
                continue
            if written is not None and (flaw := _flaw(*written, workspace)):
                wrong = wrong or flaw
            elif written is not None:
                calls.append(_call(new_id(), "write", {"path": written[0], "content": written[1]}))
            elif block.language in _COMMANDS and (command := _command(block.body)):
                calls.append(_call(new_id(), "shell", {"command": command}))
        if wrong:
            return Understood(draft.text, tuple(calls), draft.text if calls else None, nudge=wrong, code="flawed")
        if not calls and any(not block.path and block.body for block in blocks):
            return Understood(draft.text, nudge=UNNAMED, code="unnamed")
        return Understood(draft.text, tuple(calls), draft.text if calls else None)

    def answer(self, message: MessageDone) -> Message:
        text = "".join(part.text for part in message.content if isinstance(part, TextPart))
        return {"role": "assistant", "content": message.raw if message.raw is not None else text}

    def results(self, results: Sequence[tuple[CallPart, ToolEnded]]) -> list[Message]:
        told = "\n\n".join(f"{_title(call)}\n{end.content}" for call, end in results)
        return [{"role": "user", "content": told}]


class _NoPlace(Exception):
    """A piece of a file that cannot be put into it, for the model."""


class _Everything:
    """People see the files as they are written."""

    def feed(self, text: str) -> str:
        return text

    def end(self) -> tuple[str, list[Any]]:
        return "", []


def blocks_of(text: str) -> list[Block]:
    """All fences of an answer, with the path that stands before or in them."""
    blocks: list[Block] = []
    before, fence, info = "", "", ""
    body: list[str] = []
    at = begin = 0
    for line in text.split("\n"):
        match, start = _FENCE.match(line), at
        at += len(line) + 1
        if not fence:
            if match:
                fence, info, body, begin = match[1], match[2].strip(), [], start
            elif line.strip():
                before = line
            continue
        if match and match[1].startswith(fence) and not match[2]:
            blocks.append(_block(before, info, body, begin, min(at, len(text)), whole=True))
            before, fence = "", ""
        elif match and match[2] and len(body) == 1 and not info and path_of(body[0]):  # a path in a fence of its own
            before, info, body = body[0], match[2].strip(), []
        else:
            body.append(line)
    if fence:
        blocks.append(_block(before, info, body, begin, len(text), whole=False))
    return blocks


def _block(before: str, info: str, body: list[str], begin: int, end: int, *, whole: bool) -> Block:
    language, _, rest = info.replace(":", " ", 1).partition(" ")
    path = "" if language.lower() in _COMMANDS else path_of(rest) or path_of(language) or path_of(before)
    if path == language:
        language = ""
    return Block(path, language.lower(), "\n".join(body).rstrip("\n") + "\n" if body else "", whole, begin, end)


def _file(block: Block, workspace: Workspace) -> tuple[str, str] | None:
    """(path, all that it shall hold), a piece of Python put where it belongs; None where it is no file."""
    if block.path:
        defined = names_of(block.body)
        if defined and all(name.startswith("test_") for name in defined) and (home := _home_of(block.body, workspace)):
            return home, block.body  # the tests again, under another name
        try:
            path = workspace.resolve(block.path)
            if not path.exists():
                path = _meant(path, block, workspace)
            held = workspace.read(path).text
        except (ToolFailed, OSError):  # a new file, or none that there can be
            held, shown = None, block.path
        else:
            shown = workspace.show(path)
        return shown, _completed(shown, held, block.body, workspace) if shown.endswith(".py") else block.body
    if block.language not in ("python", "py", ""):
        return None
    home = _home_of(block.body, workspace)
    whole = splice(workspace.read(workspace.resolve(home)).text, block.body) if home else None
    return None if whole is None else (home, whole)


def _completed(shown: str, held: str | None, body: str, workspace: Workspace) -> str:
    """All of a file of Python, of which a piece may have been written: one that has less, imports from the file itself,
    or leaves out what others import. With the imports that it lacks, where there is no doubt; as it was where nothing
    that runs is different."""
    module = lint.module_of(shown)
    text = body
    if held is not None:
        lost = names_of(held) - names_of(body)
        own = bool(imported_from(body, module))
        missed = bool(names_of(body)) and any(
            imported_from(other, module) & lost for name, other in workspace.python_files() if name != shown
        )
        if own or missed or defines_less(held, body):
            text = splice(held, body, module, append=own or missed) or ""
            if not text:
                raise _NoPlace(
                    f"{shown} was not written: that is a piece of it, without one place. Write all of the file."
                )
        if same_program(held, text):
            return held
    return with_imports(text, lint.missing_imports(workspace, workspace.resolve(shown), text))


def _flaw(name: str, content: str, workspace: Workspace) -> str:
    """Why a file must not be written: with it nothing could run. What was wrong before may stay."""
    try:
        path = workspace.resolve(name)
        held = workspace.read(path).text if path.exists() else None
    except (ToolFailed, OSError):
        return ""
    if path.suffix != ".py":
        return ""  # nothing else is known for sure
    told = lint.complaints(path, content, held)
    if told:
        return f"{name} was not written: {lint.with_homes(told[:1], workspace, path)[0]}"
    lost = names_of(held or "") - names_of(content)
    if lost and not names_of(content):
        return f"{name} was not written: it would lose {', '.join(sorted(lost))}. Write all of the file."
    return ""


def _meant(path: Path, block: Block, workspace: Workspace) -> Path:
    """The one file of that name elsewhere, where no folder was told, or one that is not there for names that are."""
    same = workspace.named(path.name)
    if len(same) != 1:
        return path
    if "/" not in block.path:
        return same[0]
    known = not path.parent.exists() and names_of(block.body) & names_of(workspace.read(same[0]).text)
    return same[0] if known else path


def _home_of(body: str, workspace: Workspace) -> str:
    """The one file that defines what this piece of Python defines; empty where there is none, or several."""
    defined = names_of(body)
    homes = [path for path, text in workspace.python_files() if defined & names_of(text)] if defined else []
    return homes[0] if len(homes) == 1 else ""


def path_of(line: str) -> str:
    """The path that a line consists of, but for decoration; empty where it is prose."""
    bare = _DECOR.sub("", line.strip()).strip().rstrip(":*_`\"' )").removesuffix("(new)").strip()
    name = PurePosixPath(bare.replace("\\", "/")).name
    if not bare or not _PATH.fullmatch(bare) or not (name in _BARE or _NAME.fullmatch(name)):
        return ""
    return bare


def _command(body: str) -> str:
    """Behind prompts, where there are any: the other lines are what the model thinks that the command says."""
    lines = body.split("\n")
    typed = [line[2:] for line in lines if line.startswith("$ ")]
    return "\n".join(typed or lines).strip()


def _call(call_id: str, tool: str, args: dict[str, Any]) -> CallPart:
    return CallPart(call_id=call_id, tool=tool, args=args, written=json.dumps(args))


def _title(call: CallPart) -> str:
    if call.tool == "shell":
        return f"$ {call.args.get('command', '')}"
    return f"{call.tool} {call.args.get('path', '')}:"
