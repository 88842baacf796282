"""The broker's memory, in SQLite: actions that wait, a person's rules and approvers, what each client has read.

One process owns it. Each change is on disk before the call returns, for what is done with it cannot be taken back.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from variet import paths
from variet.approval import Approval, State
from variet.errors import VarietError
from variet.policy.action import Rule

_VERSION = 1
_MOST_CHANGES = 100
_MOST_PRINTS = 200_000  # words of public text, of one conversation
_TABLES = """
CREATE TABLE approvals(
  id TEXT PRIMARY KEY, asked_sha256 TEXT NOT NULL, payload BLOB, notes TEXT NOT NULL DEFAULT '{}', decided_ms INTEGER,
  approval TEXT NOT NULL, state TEXT NOT NULL, client TEXT NOT NULL, created_ms INTEGER NOT NULL);
CREATE INDEX approvals_state ON approvals(state, client);
CREATE TABLE changes(seq INTEGER PRIMARY KEY AUTOINCREMENT, approval_id TEXT NOT NULL, state TEXT NOT NULL);
CREATE TABLE rules(id TEXT PRIMARY KEY, tool TEXT NOT NULL, pattern TEXT NOT NULL, answer TEXT NOT NULL);
CREATE TABLE approvers(
  name TEXT PRIMARY KEY, kind TEXT NOT NULL, salt BLOB NOT NULL, hash BLOB NOT NULL, created_ms INTEGER NOT NULL);
CREATE TABLE conversations(hash BLOB PRIMARY KEY, client TEXT NOT NULL, created_ms INTEGER NOT NULL);
CREATE TABLE reading(
  client TEXT NOT NULL, conversation TEXT NOT NULL, private_at INTEGER, full INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY(client, conversation)) WITHOUT ROWID;
CREATE TABLE prints(
  client TEXT NOT NULL, conversation TEXT NOT NULL, kind TEXT NOT NULL, print BLOB NOT NULL, at INTEGER NOT NULL,
  PRIMARY KEY(client, conversation, kind, print)) WITHOUT ROWID;
CREATE TABLE clock(at INTEGER NOT NULL);
INSERT INTO clock VALUES(0);
CREATE TABLE facts(name TEXT PRIMARY KEY, value BLOB NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """An action as it is kept. `payload`: exactly what would be done; `notes`: what a carrier wrote down on its way."""

    approval: Approval
    asked_sha256: str
    payload: bytes
    notes: dict[str, Any]
    decided_ms: int | None


@dataclass(frozen=True, slots=True)
class Approver:
    """Who may decide: a person's PIN or a surface's secret, salted and hashed."""

    name: str
    kind: str
    salt: bytes
    hash: bytes
    created_ms: int


class Store:
    """Raises VarietError where the file is not one of ours, or of a later version."""

    def __init__(self, file: Path) -> None:
        paths.private_dir(file.parent)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))  # nobody else's from the first
        self._db = sqlite3.connect(file, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA secure_delete=ON")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                self._db.executescript(f"BEGIN;{_TABLES}PRAGMA user_version={_VERSION};COMMIT;")
            elif version != _VERSION:
                raise VarietError(f"it is of version {version}, this Variet knows {_VERSION}", where=str(file))
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise VarietError(
                f"the broker's store cannot be read: {error}", where=str(file),
                next_step="Move the file away to begin anew: what waits, your rules and your PIN are forgotten then"
                " (where it is installed, sudo .venv/bin/variet broker pin sets a new one)",
            ) from None  # fmt: skip
        except VarietError:
            self._db.close()
            raise
        self.key = self._fact("key") or self._made("key", secrets.token_bytes(32))

    def close(self) -> None:
        self._db.close()

    # --- actions ---

    def add(self, approval: Approval, asked_sha256: str, payload: bytes) -> None:
        with self._whole():
            self._db.execute(
                "INSERT INTO approvals(id, asked_sha256, payload, approval, state, client, created_ms)"
                " VALUES(?,?,?,?,?,?,?)",
                (approval.id, asked_sha256, payload, approval.model_dump_json(), approval.state, approval.client,
                 approval.created_ms),
            )  # fmt: skip
            self._tell(approval)

    def get(self, approval_id: str) -> Kept | None:
        row = self._db.execute(
            "SELECT approval, asked_sha256, payload, notes, decided_ms FROM approvals WHERE id=?", (approval_id,)
        ).fetchone()
        return _kept(row) if row else None

    def find(self, states: Sequence[State] = (), client: str = "", asked_sha256: str = "", most: int = 500
    ) -> list[Kept]:  # fmt: skip
        """Newest first; of any state and client where none is named."""
        wheres = ["1"]
        values: list[str] = []
        if states:
            wheres.append(f"state IN ({','.join('?' * len(states))})")
            values += states
        for name, value in (("client", client), ("asked_sha256", asked_sha256)):
            if value:
                wheres.append(f"{name}=?")
                values.append(value)
        rows = self._db.execute(
            "SELECT approval, asked_sha256, payload, notes, decided_ms FROM approvals WHERE "
            f"{' AND '.join(wheres)} ORDER BY created_ms DESC, rowid DESC LIMIT ?", (*values, most),
        )  # fmt: skip
        return [_kept(row) for row in rows]

    def due(self, now_ms: int) -> list[Kept]:
        """What waits, or was approved and not used, for longer than it may."""
        rows = self._db.execute(
            "SELECT approval, asked_sha256, payload, notes, decided_ms FROM approvals WHERE state IN"
            " ('pending', 'approved') AND json_extract(approval, '$.expires_ms') <= ?", (now_ms,),
        )  # fmt: skip
        return [_kept(row) for row in rows]

    def waiting(self) -> tuple[int, int]:
        """(how many actions wait, how many bytes they are as they are shown), of all clients."""
        row = self._db.execute(
            "SELECT COUNT(*), COALESCE(SUM(LENGTH(CAST(approval AS BLOB))), 0) FROM approvals WHERE state='pending'"
        ).fetchone()
        return int(row[0]), int(row[1])

    def move(self, approval_id: str, come_from: State, to: State, decided_ms: int | None = None, **changes: Any
    ) -> Approval | None:  # fmt: skip
        """Compare and set: None where it was not in that state any more."""
        with self._whole():
            kept = self.get(approval_id)
            if kept is None or kept.approval.state != come_from:
                return None
            moved = kept.approval.model_copy(update={"state": to, **changes})
            self._db.execute(
                "UPDATE approvals SET state=?, approval=?, decided_ms=COALESCE(?, decided_ms) WHERE id=?",
                (to, moved.model_dump_json(), decided_ms, approval_id),
            )
            self._tell(moved)
        return moved

    def note(self, approval_id: str, notes: dict[str, Any]) -> None:
        self._db.execute("UPDATE approvals SET notes=? WHERE id=?", (json.dumps(notes), approval_id))

    def forget_before(self, created_ms: int) -> None:
        """Of what is over: what it said goes, with its row."""
        with self._whole():
            self._db.execute(
                "DELETE FROM approvals WHERE created_ms<? AND state NOT IN ('pending','approved','executing')",
                (created_ms,),
            )
            self._db.execute("DELETE FROM changes WHERE approval_id NOT IN (SELECT id FROM approvals)")

    def changes(self, after: int) -> list[tuple[int, Approval]]:
        """(seq, as it is now) of what changed since, each once, oldest first; the first of them where they are many."""
        rows = self._db.execute(
            "SELECT MAX(c.seq), a.approval FROM changes c JOIN approvals a ON a.id=c.approval_id WHERE c.seq>?"
            f" GROUP BY a.id ORDER BY 1 LIMIT {_MOST_CHANGES}", (after,),
        )  # fmt: skip
        return [(row[0], Approval.model_validate_json(row[1])) for row in rows]

    def seq(self) -> int:
        return int(self._db.execute("SELECT COALESCE(MAX(seq), 0) FROM changes").fetchone()[0])

    # --- what its person said ---

    def rules(self) -> tuple[Rule, ...]:
        rows = self._db.execute("SELECT id, tool, pattern, answer FROM rules ORDER BY rowid")
        return tuple(Rule(*row) for row in rows)

    def add_rule(self, rule: Rule) -> None:
        self._db.execute("INSERT INTO rules VALUES(?,?,?,?)", (rule.id, rule.tool, rule.pattern, rule.answer))

    def drop_rule(self, rule_id: str) -> bool:
        return self._db.execute("DELETE FROM rules WHERE id=?", (rule_id,)).rowcount > 0

    def approvers(self) -> list[Approver]:
        return [Approver(*row) for row in self._db.execute("SELECT * FROM approvers ORDER BY created_ms")]

    def put_approver(self, approver: Approver) -> None:
        values = (approver.name, approver.kind, approver.salt, approver.hash, approver.created_ms)
        self._db.execute("INSERT OR REPLACE INTO approvers VALUES(?,?,?,?,?)", values)

    def drop_approver(self, name: str) -> bool:
        return self._db.execute("DELETE FROM approvers WHERE name=?", (name,)).rowcount > 0

    # --- what was read ---

    def mint(self, handle_hash: bytes, client: str, now_ms: int) -> None:
        self._db.execute("INSERT INTO conversations VALUES(?,?,?)", (handle_hash, client, now_ms))

    def minted(self, handle_hash: bytes) -> str | None:
        """The client that a conversation's handle was made for."""
        row = self._db.execute("SELECT client FROM conversations WHERE hash=?", (handle_hash,)).fetchone()
        return row[0] if row else None

    def read(
        self, client: str, conversation: str, kind: str, prints: Iterable[bytes], *, private: bool = False
    ) -> None:
        """Adds what was read; of each thing, the first time counts."""
        with self._whole():
            at = self._db.execute("SELECT COALESCE(MAX(at), 0) + 1 FROM clock").fetchone()[0]
            self._db.execute("UPDATE clock SET at=?", (at,))
            self._db.execute(
                "INSERT INTO reading VALUES(?,?,?,?) ON CONFLICT DO UPDATE SET"
                " private_at=COALESCE(private_at, excluded.private_at)",
                (client, conversation, at if private else None, False),
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO prints VALUES(?,?,?,?,?)",
                ((client, conversation, kind, one, at) for one in prints),
            )
            where, values = _within(client, conversation)
            count = self._db.execute(f"SELECT COUNT(*) FROM prints WHERE kind='public' AND {where}", values).fetchone()[
                0
            ]
            if count > _MOST_PRINTS:  # words that are not known ask: that is only less convenient
                self._db.execute(f"DELETE FROM prints WHERE kind='public' AND {where}", values)

    def private(self, client: str, conversation: str) -> bool:
        return self._private_at(client, conversation) is not None

    def private_own(self, client: str, conversation: str) -> bool:
        """The same, without what an unnamed client has read."""
        where, values = _within(client, conversation)
        row = self._db.execute(
            f"SELECT 1 FROM reading WHERE {where} AND client=? AND private_at IS NOT NULL", (*values, client)
        ).fetchone()
        return row is not None

    def known(self, client: str, conversation: str, kind: str, prints: Iterable[bytes], *, before: bool = False
    ) -> set[bytes]:  # fmt: skip
        """Which of these were read. `before`: before anything private was."""
        where, values = _within(client, conversation)
        private_at = self._private_at(client, conversation) if before else None
        found = set()
        for one in prints:
            row = self._db.execute(
                f"SELECT MIN(at) FROM prints WHERE kind=? AND print=? AND {where}", (kind, one, *values)
            ).fetchone()
            if row[0] is not None and (private_at is None or row[0] < private_at):
                found.add(one)
        return found

    def readers(self) -> list[tuple[str, bool]]:
        """(client, whether it read anything private), by name."""
        rows = self._db.execute("SELECT client, MAX(private_at) FROM reading GROUP BY client ORDER BY client")
        return [(row[0], row[1] is not None) for row in rows]

    def forget_reader(self, client: str) -> bool:
        with self._whole():
            self._db.execute("DELETE FROM prints WHERE client=?", (client,))
            return self._db.execute("DELETE FROM reading WHERE client=?", (client,)).rowcount > 0

    # --- small things ---

    def fact(self, name: str) -> str:
        found = self._fact(name)
        return found.decode() if found else ""

    def put_fact(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO facts VALUES(?,?)", (name, value.encode()))

    def _fact(self, name: str) -> bytes | None:
        row = self._db.execute("SELECT value FROM facts WHERE name=?", (name,)).fetchone()
        return bytes(row[0]) if row else None

    def _made(self, name: str, value: bytes) -> bytes:
        self._db.execute("INSERT INTO facts VALUES(?,?)", (name, value))
        return value

    def _private_at(self, client: str, conversation: str) -> int | None:
        """When the first private thing was read, by the count of readings: clocks can be set back."""
        where, values = _within(client, conversation)
        row = self._db.execute(f"SELECT MIN(private_at) FROM reading WHERE {where}", values).fetchone()
        return None if row[0] is None else int(row[0])

    def _tell(self, approval: Approval) -> None:
        self._db.execute("INSERT INTO changes(approval_id, state) VALUES(?,?)", (approval.id, approval.state))

    def _whole(self) -> _Transaction:
        return _Transaction(self._db)


class _Transaction:
    """All of it or nothing; within another, part of that."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._outer = False

    def __enter__(self) -> None:
        self._outer = not self._db.in_transaction
        if self._outer:
            self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        if self._outer:
            self._db.execute("ROLLBACK" if kind else "COMMIT")


def _within(client: str, conversation: str) -> tuple[str, tuple[str, ...]]:
    """What counts for a call: a conversation's own where it has one; else all of its client; else all. What was read
    without a name or a handle counts for everybody of whom it may have been."""
    if conversation:
        return "client IN (?, '') AND conversation IN (?, '')", (client, conversation)
    return ("client IN (?, '')", (client,)) if client else ("1", ())


def _kept(row: Sequence[Any]) -> Kept:
    return Kept(Approval.model_validate_json(row[0]), row[1], bytes(row[2] or b""), json.loads(row[3]), row[4])
