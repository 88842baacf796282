"""What is around a session: a person's settings, servers of further tools, a sandbox."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from variet.agent.sandbox import Sandbox
from variet.agent.servers import Servers
from variet.agent.settings import Settings


@dataclass(frozen=True, slots=True)
class Equipment:
    """What is around a session, opened before it. `environ`: of the surface, for commands and servers."""

    settings: Settings = field(default_factory=Settings)
    servers: Servers = field(default_factory=Servers)
    sandbox: Sandbox | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    async def close(self) -> None:
        await self.servers.close()
        if self.sandbox is not None:
            self.sandbox.close()
