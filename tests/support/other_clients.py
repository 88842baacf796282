"""Other people's coding clients, pinned in bench/clients and installed by `make clients`, in a home of their own."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "bench" / "clients"
_NODE = FOLDER / "node_modules"
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
_SYSTEM = {"win32": "windows"}.get(sys.platform, sys.platform)
_ARCH = {"x86_64": "x64", "AMD64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
# No package's own install script is run, so that programs are taken from where they lie.
_PLACES = {
    "opencode": _NODE / f"opencode-{_SYSTEM}-{_ARCH}" / "bin",
    "qwen-code": _NODE / ".bin",
    "claude-code": _NODE / "@anthropic-ai" / f"claude-code-{_SYSTEM}-{_ARCH}",
    "codex": _NODE / ".bin",
    "aider": FOLDER / ".aider" / "bin",
}
CLIENTS = tuple(_PLACES)
Answer = dict[str, Any]
_OLD, _NEW = 'return "Hello"', 'return "Hello, world"'
_FOLDER = r"""(/[^ \n'"<>]*/scratch)"""
_AIDER = f"""\
greeting.py
```python
<<<<<<< SEARCH
    {_OLD}
=======
    {_NEW}
>>>>>>> REPLACE
```
"""


def _call(name: str, **arguments: Any) -> Answer:
    return {"calls": [{"name": name, "arguments": arguments}]}


_FILE = "<folder>/greeting.py"
_SED = 'sed -i \'s/"Hello"/"Hello, world"/\' greeting.py'
# What a model says in each client's own terms: it reads, it edits, it looks with a command.
_STEPS: dict[str, list[Answer]] = {
    "opencode": [
        _call("read", filePath=_FILE),
        _call("edit", filePath=_FILE, oldString=_OLD, newString=_NEW),
        _call("bash", command="cat greeting.py", description="look"),
    ],
    "qwen-code": [
        _call("read_file", file_path=_FILE),
        _call("edit", file_path=_FILE, old_string=_OLD, new_string=_NEW),
        _call("run_shell_command", command="cat greeting.py", description="look", is_background=False),
    ],
    "claude-code": [
        _call("Read", file_path=_FILE),
        _call("Edit", file_path=_FILE, old_string=_OLD, new_string=_NEW),
        _call("Bash", command="cat greeting.py", description="look"),
    ],
    "codex": [
        _call("exec_command", cmd="cat greeting.py"),
        _call("exec_command", cmd=_SED),
        _call("exec_command", cmd="cat greeting.py"),
    ],
}


def steps(client: str) -> list[Answer]:
    """It reads, edits, runs a command that must show what was edited, and is done."""
    read, edit, look = _STEPS[client]
    return [read, {**edit, "expect": "Hello"}, look, {"say": "Done.", "expect": "Hello, world"}]


def script(client: str, **second: Any) -> Answer:
    """A model that does the task of `variet connect --check`; `second`: fields of what it says second."""
    if client == "aider":  # its own examples come first, as a conversation; all it wants is one answer
        return {"context_length": 65536, "repeat": True, "answers": [{"say": _AIDER, **second}]}
    read, edit, *rest = steps(client)
    before = [{"say": "?"}] if client == "qwen-code" else []  # it puts a word into the model's mouth
    return _script([*before, read, {**edit, **second}, *rest])


def reaching_out(client: str, command: str) -> Answer:
    """A model that edits, and then runs something that is nobody's wish."""
    read, edit, look = steps(client)[:3]
    call = json.loads(json.dumps(look).replace("cat greeting.py", command))
    before = [{"say": "?"}] if client == "qwen-code" else []
    return _script([*before, read, edit, call, {"say": "Done."}])


def _script(answers: list[Answer]) -> Answer:
    task = {"when": "greeting[.]py", "by_turn": True, "repeat": True, "words": {"folder": _FOLDER}, "answers": answers}
    title = {"when": "title generator", "by_turn": True, "repeat": True, "answers": [{"say": "A greeting"}]}
    return {"context_length": 65536, "conversations": [title, task, {"repeat": True, "answers": [{"say": "Yes."}]}]}


def environment(client: str, home: Path) -> dict[str, str]:
    """Of a person with an empty home who has this client (or none of them: ""). What is not on loopback meets a proxy
    that is not there; Qwen Code asks a proxy for loopback, too, and is told to keep its statistics instead. Codex wants
    a home that is not in the folder for temporary files."""
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    folders = {f"XDG_{name}_HOME": str(home / f".{name.lower()}") for name in ("DATA", "CACHE", "STATE")}
    closed = "" if client == "qwen-code" else "http://127.0.0.1:9"
    return {
        "PATH": os.pathsep.join(filter(None, (str(_PLACES.get(client, "")), os.environ["PATH"]))),
        "HOME": str(home), **folders,
        "XDG_CONFIG_HOME": str(home / ".config"), "TMPDIR": str(home / "tmp"),
        "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
        **dict.fromkeys(_PROXIES, closed), "DISABLE_TELEMETRY": "1", "QWEN_TELEMETRY_ENABLED": "0",
        "OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }  # fmt: skip
