"""Model files from the Hugging Face hub, through its own library: resumable, with the user's token and mirror."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

from variet.engine.config import FileSpec
from variet.engine.sources.base import OnBytes
from variet.errors import PullFailed

_HINTS = {
    401: "Log in with `hf auth login` or set HF_TOKEN",
    403: "Accept the model's terms on its page",
    404: "Check the repository and file name",
}


def split(source: str) -> tuple[str, str, str | None]:
    """`hf:owner/repo/folder/file.gguf@main` -> ("owner/repo", "folder/file.gguf", "main")."""
    path, _, revision = source.removeprefix("hf:").partition("@")
    owner, repo, file = path.split("/", 2)
    return f"{owner}/{repo}", file, revision or None


class HfSource:
    """`hf:OWNER/REPO/FILE[@REVISION]`. HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE hold as everywhere."""

    async def fetch(self, spec: FileSpec, part: Path, on_bytes: OnBytes) -> str | None:
        repo, file, revision = split(spec.source)
        told: dict[str, Any] = {}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "variet.engine.sources.hub_download", repo, file, revision or "",
            str(part.parent / ".hub"), env={**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "0"},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        errors = asyncio.create_task(process.stderr.read())
        try:
            async for line in process.stdout:
                if not line.startswith(b"{"):
                    continue  # a library's own word
                told = json.loads(line)
                if "done" in told:
                    on_bytes(told["done"], told["total"])
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        words = (await errors).decode(errors="replace").strip()
        if "path" not in told:
            raise _failure(told, words, spec.source)
        Path(told["path"]).replace(part)
        etag = str(told["etag"])
        return etag if len(etag) == 64 else None  # for large files the hub's ETag is their SHA-256


def _failure(told: dict[str, Any], words: str, source: str) -> Exception:
    if told.get("errno") in (errno.ENOSPC, errno.EDQUOT):
        return OSError(told["errno"], told["error"])
    reason = told.get("error") or (words.splitlines() or ["it ended without a word"])[-1]
    hint = _HINTS.get(told.get("status") or 0, "Check the network and pull again; what is here already stays")
    return PullFailed(f"the hub refused it: {reason}", where=source, next_step=hint)
