"""Another user of this machine, as whom root runs a program."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine, with every group they are in."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: Path
    shell: str = ""

    @classmethod
    def of(cls, name: str) -> Account:
        """Raises KeyError where there is none."""
        import pwd

        found = pwd.getpwnam(name)
        groups = tuple(os.getgrouplist(name, found.pw_gid))
        return cls(name, found.pw_uid, found.pw_gid, groups, Path(found.pw_dir), found.pw_shell)

    def run(
        self, command: Sequence[str], typed: str = "", environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """As this user, with a bare environment. Root can. Raises OSError where they cannot even start it."""
        return subprocess.run(
            command, input=typed, capture_output=True, text=True, timeout=300, cwd="/", check=False, user=self.uid,
            group=self.gid, extra_groups=self.groups, env={"PATH": "/usr/bin:/bin", **(environment or {})}, umask=0o077,
            start_new_session=True,  # else it could type into root's terminal
        )  # fmt: skip
