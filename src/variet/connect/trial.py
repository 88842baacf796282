"""A client tried without a person: one small task in a scratch repository, once as it is, once with a model swap in it.

What the engine counted meanwhile stands beside what the client did: only a changed file is a success, whatever it says.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from variet.errors import VarietError

FILE, RIGHT = "greeting.py", "Hello, world"
_TEXT = 'def greeting() -> str:\n    return "Hello"\n'
PROMPT = (
    f'In the file {FILE}, the function greeting() returns "Hello". Change the file so that it returns "{RIGHT}". '
    "Change nothing else, and then stop."
)
_ANSWERS = ("/v1/chat/completions", "/v1/messages", "/v1/responses")
_POLL_S = 0.3
_GRACE_S = 5.0
_TOLD_CHARS = 8000  # of what the client printed last


class Engine(Protocol):
    """What a trial asks of the engine; each raises VarietError."""

    def requests(self, since: float) -> list[dict[str, Any]]:
        """Rows of what ended since then (Unix seconds), newest first."""
        ...

    def swaps(self, since: float) -> list[dict[str, Any]]: ...

    def ask(self, model: str) -> None:
        """One word of a model, as somebody else would ask for it."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """`changed`: the file is as the task wants it; `largest_tokens`: the most that a model was to know for one answer;
    `other`: who was asked in between, None without a swap."""

    changed: bool
    exit_code: int | None  # None: it was ended, for it took too long
    seconds: float
    requests: int
    failed: int
    key_refused: int  # requests that the engine refused because of their key; `failed` counts them, too
    prompt_tokens: int
    largest_tokens: int
    cached_tokens: int
    output_tokens: int
    other: str | None
    swaps: int
    said: str

    @property
    def good(self) -> bool:
        return self.changed and self.exit_code == 0


def run(
    words: Sequence[str],
    env: Mapping[str, str],
    engine: Engine,
    *,
    other: str | None = None,
    limit_s: float,
    tell: Callable[[str], None],
) -> Verdict:
    """`words`: the client's command; `other`: a model that somebody else asks for once the client has had its first
    answer. Raises VarietError where the client cannot be started or the engine is gone."""
    with tempfile.TemporaryDirectory(prefix="variet-check-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve() / "scratch"
        _scratch(folder)
        began_at, began = time.time(), time.monotonic()
        said = Path(name) / "said"
        between: threading.Thread | None = None
        with said.open("wb") as out, _running(words, folder, env, out) as process:
            seen = -1
            while process.poll() is None and time.monotonic() - began < limit_s:
                time.sleep(_POLL_S)
                rows = _answers(engine, began_at)
                if len(rows) != seen:
                    seen = len(rows)
                    tell(_progress(rows, time.monotonic() - began))
                if other is not None and between is None and rows:
                    tell(f"  {other} is asked for in between")
                    between = threading.Thread(target=_ask, args=(engine, other), daemon=True)
                    between.start()
            code = process.poll()
        if between is not None:
            between.join(limit_s)
        seconds = time.monotonic() - began
        rows = _answers(engine, began_at)
        return Verdict(
            changed=RIGHT in _read(folder / FILE),
            exit_code=code,
            seconds=seconds,
            requests=len(rows),
            failed=sum(row.get("outcome") != "done" for row in rows),
            key_refused=sum(row.get("outcome") == "invalid_api_key" for row in rows),
            prompt_tokens=sum(row.get("prompt_tokens") or 0 for row in rows),
            largest_tokens=max((row.get("prompt_tokens") or 0 for row in rows), default=0),
            cached_tokens=sum(row.get("cached_tokens") or 0 for row in rows),
            output_tokens=sum(row.get("output_tokens") or 0 for row in rows),
            other=other if between is not None else None,
            swaps=len(engine.swaps(began_at)),
            said=_read(said)[-_TOLD_CHARS:],
        )


def _scratch(folder: Path) -> None:
    folder.mkdir()
    (folder / FILE).write_text(_TEXT, encoding="utf-8")
    if git := shutil.which("git"):  # clients look for a repository, and some want one
        who = ("-c", "user.name=Variet", "-c", "user.email=variet@localhost", "-c", "commit.gpgsign=false")
        for step in (("init", "-q"), ("add", "-A"), (*who, "commit", "-q", "-m", "A greeting")):
            subprocess.run([git, *step], cwd=folder, check=False, capture_output=True)


@contextlib.contextmanager
def _running(words: Sequence[str], folder: Path, env: Mapping[str, str], out: Any) -> Iterator[subprocess.Popen[bytes]]:
    """With all that it starts; nothing of it is left behind. Some clients believe PWD, not where they are."""
    try:
        process = subprocess.Popen(
            words, cwd=folder, env={**env, "PWD": str(folder)}, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=os.name == "posix",
        )  # fmt: skip
    except OSError as error:
        raise VarietError(f"cannot be started: {error.strerror}", where=words[0], next_step="Install it anew") from None
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if os.name != "posix":
        if process.poll() is None:
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], check=False, capture_output=True)
        process.wait()
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)


def _ask(engine: Engine, model: str) -> None:
    with contextlib.suppress(VarietError):  # the verdict says how many swaps there were
        engine.ask(model)


def _answers(engine: Engine, since: float) -> list[dict[str, Any]]:
    """Not the word that `ask` asked for, which goes another way."""
    return [row for row in engine.requests(since) if row.get("path") in _ANSWERS]


def _progress(rows: Sequence[Mapping[str, Any]], seconds: float) -> str:
    read, cached = (sum(row.get(name) or 0 for row in rows) for name in ("prompt_tokens", "cached_tokens"))
    return f"  {seconds:5.0f} s: {len(rows)} answers, {read:,} tokens read, {cached:,} of them known already"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
