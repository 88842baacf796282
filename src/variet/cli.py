"""`variet ...`: the table of commands. Thin: a command's module is imported only when it runs."""

from __future__ import annotations

import importlib
import os
import sys

import click

from variet import __version__

# name -> (module, one line of help); each module holds a click command of that name.
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("variet.commands.up", "Start Variet Engine on this machine."),
    "code": ("variet.commands.code", "Let the coding agent work in this folder."),
    "ask": ("variet.commands.ask", "Ask a question."),
    "acp": ("variet.commands.acp", "Serve the coding agent to an editor."),
    "host": ("variet.commands.host", "Look after the process that keeps conversations open."),
    "sessions": ("variet.commands.sessions", "List the agent's sessions."),
    "connect": ("variet.commands.connect", "Let other coding clients use this engine."),
    "mcp": ("variet.commands.mcp", "Serve the assistant's tools to any client that speaks MCP."),
    "approvals": ("variet.commands.approvals", "Decide what is done in your name."),
    "auth": ("variet.commands.auth", "Sign in to Google, for mail and calendar."),
    "audit": ("variet.commands.audit", "Show what was asked for, decided and done."),
    "broker": ("variet.commands.broker", "Look after the process that holds your keys."),
    "rules": ("variet.commands.rules", "Say what the agent may always do, or never."),
    "status": ("variet.commands.status", "Show tiers, models, memory and queue."),
    "swap": ("variet.commands.control", "Make a tier resident; what must give way does."),
    "load": ("variet.commands.control", "Load a tier beside the others, if it fits."),
    "unload": ("variet.commands.control", "Unload a tier's model after its answers are done."),
    "prefetch": ("variet.commands.control", "Read a tier's file into memory ahead of its load."),
    "explain": ("variet.commands.explain", "Show which tier `auto` takes for a prompt, and why."),
    "reload": ("variet.commands.control", "Take the changed configuration in."),
    "logs": ("variet.commands.control", "Show the end of the engine's or a model's log."),
    "context": ("variet.commands.context", "List and forget conversations that are kept on disk."),
    "bench": ("variet.commands.bench", "Measure each tier beside what is expected of it."),
    "plan": ("variet.commands.plan", "Show where each tier will run, and why."),
    "pull": ("variet.commands.pull", "Fetch model files."),
    "pair": ("variet.commands.pair", "Let another machine use this engine, or use another's."),
    "key": ("variet.commands.key", "Make, list and remove API keys."),
    "service": ("variet.commands.service", "Run the engine as a service of this machine."),
    "doctor": ("variet.commands.doctor", "Check this machine and say what to mend."),
    "config": ("variet.commands.config", "Check the configuration, find it, print its schema."),
    "dev": ("variet.commands.dev", "Tools for whoever develops with Variet."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from difflib import get_close_matches

        near = (
            [] if not args or args[0] in COMMANDS or args[0].startswith("-") else get_close_matches(args[0], COMMANDS)
        )
        if near:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


EXAMPLES = """\b
Examples:
  variet up                      start the engine with small real models
  variet status                  what runs, what waits, what memory is left
  variet swap deep-coder         bring a tier in now
"""


@click.group(cls=_LazyGroup, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="variet")
def variet() -> None:
    """Variet: a locally hosted AI assistant; this command runs its engine and talks to it."""


def main() -> None:
    """Entry point: one line for an expected error, exit code 1; 130 for Ctrl-C."""
    from variet.errors import VarietError

    try:
        variet(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except VarietError as error:
        click.echo(f"variet: {error}", err=True)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "variet":
            raise
        told = "`make setup-client` installs the workstation's commands; without a clone: pip install 'variet[agent]'"
        click.echo(f"variet: this is not installed here ({error.name} is missing). {told}", err=True)
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            raise
        where = " (VARIET_HOME and VARIET_MODELS say where Variet keeps things)" if "VARIET_HOME" in os.environ else ""
        click.echo(f"variet: {error.filename}: {error.strerror}{where}", err=True)
        sys.exit(1)
