"""The tools of each kind of session."""

from __future__ import annotations

import os
from collections.abc import Mapping

from variet.agent.sandbox import Sandbox
from variet.agent.servers import Servers
from variet.agent.tools.base import AnyTool, Toolbox
from variet.agent.tools.call_tool import CallTool
from variet.agent.tools.edit import Edit
from variet.agent.tools.list import List
from variet.agent.tools.plan import Plan
from variet.agent.tools.read import Read
from variet.agent.tools.search import Search
from variet.agent.tools.served import served_tools
from variet.agent.tools.shell import Shell
from variet.agent.tools.task import Send, Task
from variet.agent.tools.write import Write

# Names that models learnt elsewhere for the same thing.
ALIASES = {
    "read_file": "read", "view": "read", "cat": "read", "open": "read", "readfile": "read", "open_file": "read",
    "write_file": "write", "create_file": "write", "create": "write", "writefile": "write", "save_file": "write",
    "edit_file": "edit", "str_replace": "edit", "replace": "edit", "replace_in_file": "edit", "search_replace": "edit",
    "str_replace_editor": "edit", "update_file": "edit", "modify_file": "edit",
    "ls": "list", "list_dir": "list", "list_files": "list", "list_directory": "list", "glob": "list",
    "grep": "search", "search_files": "search", "find": "search", "rg": "search", "grep_search": "search",
    "bash": "shell", "run": "shell", "run_command": "shell", "execute": "shell", "execute_command": "shell",
    "terminal": "shell", "exec": "shell", "run_shell_command": "shell",
    "agent": "task", "subagent": "task", "delegate": "task", "call_mcp_tool": "call_tool", "use_mcp_tool": "call_tool",
    "todo": "plan", "todo_write": "plan", "todowrite": "plan", "update_plan": "plan",
}  # fmt: skip


def coding_tools(
    sandbox: Sandbox | None = None, servers: Servers | None = None, send: Send | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Toolbox:  # fmt: skip
    """A fresh set: the shell remembers what runs in the background, and where it runs. `environ`: of commands."""
    shell = Shell(sandbox, environ)
    return _box(CallTool(servers), Edit(), List(), Plan(), Read(), Search(), shell, Task(send), Write())


def looking_tools(sandbox: Sandbox | None = None, environ: Mapping[str, str] = os.environ) -> Toolbox:
    """Of a helper, which changes nothing."""
    return _box(List(), Read(), Search(), Shell(sandbox, environ))


def further_tools(servers: Servers | None = None) -> Toolbox:
    """Of a question: what the person's servers offer, and nothing of this machine."""
    return _box(CallTool(servers))


def assistant_tools(servers: Servers | None = None) -> Toolbox:
    """Of an assistant: the most used of Variet's own servers by name, and all others through `call_tool`."""
    servers = servers or Servers()
    return _box(CallTool(servers), *served_tools(servers))


def _box(*tools: AnyTool) -> Toolbox:
    return Toolbox({tool.name: tool for tool in tools}, ALIASES)
