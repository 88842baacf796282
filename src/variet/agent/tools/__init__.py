"""The tools of a coding session."""

from __future__ import annotations

from variet.agent.sandbox import Sandbox
from variet.agent.tools.base import AnyTool, Toolbox
from variet.agent.tools.edit import Edit
from variet.agent.tools.list import List
from variet.agent.tools.plan import Plan
from variet.agent.tools.read import Read
from variet.agent.tools.search import Search
from variet.agent.tools.shell import Shell
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
    "todo": "plan", "todo_write": "plan", "todowrite": "plan", "update_plan": "plan",
}  # fmt: skip


def coding_tools(sandbox: Sandbox | None = None) -> Toolbox:
    """A fresh set: the shell remembers what runs in the background, and where it runs."""
    tools: list[AnyTool] = [Edit(), List(), Plan(), Read(), Search(), Shell(sandbox), Write()]
    return Toolbox({tool.name: tool for tool in tools}, ALIASES)
