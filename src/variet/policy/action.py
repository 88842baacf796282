"""Pure: an action that a model wants, the facts it is judged by, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from variet.policy.shell import Parsed

# The last four are the assistant's: to look at what is the person's, to ask a search engine, to ask for an address,
# to do something in the person's name (assistant.py says which tool does which).
SinkKind = Literal["read", "write", "shell", "network", "tool", "think", "look", "search", "page", "act"]
Mode = Literal["plan", "ask", "auto-edit", "full"]
MODES: tuple[Mode, ...] = ("plan", "ask", "auto-edit", "full")


@dataclass(frozen=True, slots=True)
class Sink:
    """Where an action ends: paths, a command, a host, a foreign tool. `inside`: all of it within the workspace.

    `network`: a command that wants it. `guarded`: it would change what runs code by itself later (hooks, configuration
    of a repository, rules of agents). Of a foreign tool, `looks`: it says that it changes nothing; `changed`: it says
    something else of itself than when it was allowed; `allowed`: the person allowed it where they configured it;
    `brokered`: it is Variet's own, and its broker asks a person where it must. Of a file, `protected`: why a person is
    asked before it is written, in any mode (read-only, other names).
    """

    kind: SinkKind
    targets: tuple[str, ...] = ()
    inside: bool = True
    guarded: bool = False
    network: bool = False
    command: Parsed | None = None
    looks: bool = False
    changed: bool = False
    allowed: bool = False
    brokered: bool = False
    protected: str = ""


@dataclass(frozen=True, slots=True)
class Action:
    tool: str
    sink: Sink
    mode: Mode
    client: str = "variet"


@dataclass(frozen=True, slots=True)
class Rule:
    """A person's standing answer. `pattern`: of a shell command its first words, of a path a glob, of others a name;
    empty: all of that tool. `exact`: that command, file or name alone, as it was seen; `network`: of commands that want
    it, too. `reason`: for the model."""

    id: str
    tool: str
    pattern: str
    answer: Literal["allow", "ask", "deny"]
    reason: str = ""
    exact: bool = False
    network: bool = True


@dataclass(frozen=True, slots=True)
class Taint:
    """What stands against letting words out, of one client and this action; unknown is the worst.

    `private`: it has read what is the person's alone. Of an address: `named`, it stood letter by letter in what was
    read; `hit`, a search engine gave it; `host_before`, one gave its host before anything private was read; `typed`,
    the person wrote it; `hit_before`, a search gave it before anything private was read; `visits`, pages of its site,
    and `visits_of_all`, pages at all, that were asked for since. Of a query: `foreign`, it has a word that the person
    did not type in this conversation, and that stood in no public text from before; `frequent`, its words are only ones
    that every text has.
    """

    private: bool = True
    named: bool = False
    hit: bool = False
    host_before: bool = False
    typed: bool = False
    hit_before: bool = False
    visits: int = 1_000
    visits_of_all: int = 1_000
    foreign: bool = True
    frequent: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """`trusted`: the person trusts this folder; `sandboxed`: commands run where they can do no harm outside it."""

    rules: tuple[Rule, ...] = ()
    person_present: bool = True
    trusted: bool = True
    sandboxed: bool = False
    taint: Taint = Taint()


@dataclass(frozen=True, slots=True)
class Verdict:
    answer: Literal["allow", "ask", "deny"]
    rule_id: str
    reason: str
