"""A soak: clients of every kind at work while models are killed, disks fill, files rot and the owner changes his mind.

Every answer carries a mark of its own question, so that one that is lost or crossed shows. What was injected, what was
answered and what the engine holds before and after goes into a `Report`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from tests.support.engine import ROOT, EngineProcess, light_config
from variet.tiers import TIERS

SCRIPTED = str(ROOT / "tests" / "support" / "scripted_server.py")
_ANSWER_S = 240.0  # longer than anything here takes: beyond, an answer is lost
_LARGE_FILE_BYTES = 64 << 10  # what a "full" disk still takes
# What the engine may say instead of an answer, each with its status: told, not lost.
_HONEST = {429, 500, 503}
Outcome = str  # whole, told, left, lost, crossed


def soak_config(models: Path) -> dict[str, Any]:
    """Two real models and a scripted one, one at a time; keeps whatever can be kept."""
    config = light_config()
    small = next((models / "smollm2-135m").glob("*.gguf"))
    config["models"]["told"] = {
        "files": {"model": f"path:{small}"}, "context_tokens": 4096, "slots": 3, "llama_server": SCRIPTED,
    }  # fmt: skip
    config["tiers"]["deep-coder"] = {"model": "told"}
    config["tiers"]["deep-logic"] = {"model": "told"}
    config["tiers"]["ultra"] = {"model": "told"}
    config["scheduling"] = {
        **config.get("scheduling", {}),
        "max_wait_s": 1,
        "min_residency_s": 0.5,
        "preload": ["fast"],
    }
    config["context"] = {"idle_save_s": 1.0, "disk_gib": 0.05, "free_gib": 0}
    config["server"] = {"stall_timeout_s": 5, "hold_headers_s": 5, "keepalive_s": 1, "buffer_mib": 1}
    return config


@dataclass(slots=True)
class Held:
    """What the engine holds: its own memory, descriptors, and processes beneath it."""

    rss_mib: float
    descriptors: int
    threads: int
    children: int


@dataclass(slots=True)
class Report:
    seconds: float
    seed: int
    injected: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    by_kind: dict[str, Counter[Outcome]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)  # each lost or crossed answer, and what else must not be
    before: Held | None = None
    after: Held | None = None
    contexts: dict[str, float] = field(default_factory=dict)

    def text(self) -> str:
        """For people, in Markdown."""
        lines = [f"{self.seconds:.0f} s, seed {self.seed}", "", "| injected | times |", "|---|---:|"]
        lines += [f"| {name} | {times} |" for name, times in sorted(self.injected.items())]
        kinds = ("whole", "told", "left", "lost", "crossed")
        lines += ["", f"| requests | {' | '.join(kinds)} |", "|---|" + "---:|" * len(kinds)]
        for name, counts in sorted({**self.by_kind, "all": self.outcomes}.items()):
            lines.append(f"| {name} | {' | '.join(str(counts[kind]) for kind in kinds)} |")
        if self.before and self.after:
            lines += ["", "| the engine holds | before | after |", "|---|---:|---:|"]
            after = asdict(self.after)
            lines += [f"| {name} | {value:.0f} | {after[name]:.0f} |" for name, value in asdict(self.before).items()]
        lines += ["", "conversations: " + ", ".join(f"{name} {count:.0f}" for name, count in self.contexts.items())]
        return "\n".join([*lines, *(["", "WRONG:", *self.wrong] if self.wrong else [])])


class Soak:
    """One engine under attack. A seed decides what is done and in which order, though not when that takes effect."""

    def __init__(self, engine: EngineProcess, models: Path, seed: int) -> None:
        self.engine, self.models = engine, models
        self.report = Report(0.0, seed)
        self._rng = random.Random(seed)
        self._over = asyncio.Event()
        self._number = 0
        self._frozen: set[int] = set()

    async def run(self, seconds: float, clients: int = 6) -> Report:
        """Warm up, attack for so long, let everything end, and compare."""
        await self._warm_up()
        self.report.before = self._held()
        began = time.monotonic()
        async with aiohttp.ClientSession(self.engine.url, timeout=aiohttp.ClientTimeout(total=_ANSWER_S)) as session:
            working = [asyncio.create_task(self._client(session)) for _ in range(clients)]
            attacking = asyncio.create_task(self._attack())
            await asyncio.sleep(seconds)
            self._over.set()
            await asyncio.gather(*working, attacking)
        self.report.seconds = time.monotonic() - began
        await self._settle()
        return self.report

    # --- clients ---

    async def _client(self, session: aiohttp.ClientSession) -> None:
        kinds: list[tuple[str, Callable[[aiohttp.ClientSession, str], Awaitable[Outcome]]]] = [
            ("echo of a real model", self._echo),
            ("stream of a scripted model", self._stream),
            ("slow reader", self._slow),
            ("client that leaves", self._leaver),
            ("conversation", self._conversation),
            ("messages", self._messages),
            ("responses", self._responses),
            ("auto", self._auto),
        ]
        while not self._over.is_set():
            name, ask = self._rng.choice(kinds)
            self._number += 1
            mark = f"q{self._number}x"
            try:
                outcome = await ask(session, mark)
            except TimeoutError:
                outcome = "lost"
                self.report.wrong.append(f"{name} {mark}: no end within {_ANSWER_S:.0f} s")
            except aiohttp.ClientError as error:
                outcome = "told" if isinstance(error, aiohttp.ClientPayloadError) else "lost"
                if outcome == "lost":
                    self.report.wrong.append(f"{name} {mark}: {type(error).__name__} {error}")
            self.report.outcomes[outcome] += 1
            self.report.by_kind.setdefault(name, Counter())[outcome] += 1

    def _crossed(self, mark: str, what: str) -> Outcome:
        self.report.wrong.append(f"{mark}: {what[:300]}")
        return "crossed"

    async def _whole(self, session: aiohttp.ClientSession, path: str, body: dict[str, Any], right: Any) -> Outcome:
        """`right(answer)` tells whether a plain answer belongs to its question."""
        async with session.post(path, json=body) as answer:
            text = await answer.text()
            if answer.status in _HONEST:
                return "told" if "error" in json.loads(text) else self._crossed("", f"{answer.status} {text}")
            if answer.status != 200:
                return self._crossed(str(body)[:80], f"{answer.status} {text}")
            told = json.loads(text)
            return "whole" if right(told) else self._crossed(str(body)[:80], text)

    async def _echo(self, session: aiohttp.ClientSession, mark: str) -> Outcome:
        prompt = f"Number {mark} says"
        body = {"model": self._rng.choice(("fast", "balanced")), "prompt": prompt, "n_predict": self._rng.randint(1, 8)}
        # llama-server tells the prompt back: an answer that was crossed with another shows.
        return await self._whole(session, "/completion", body, lambda told: told["prompt"].endswith(prompt))

    def _script(self, mark: str, **fields: Any) -> dict[str, Any]:
        script = {"say": mark, "tokens": self._rng.randint(1, 60), "gap_ms": self._rng.choice((0, 2, 20)), **fields}
        messages = [{"role": "user", "content": f"{mark} " * self._rng.randint(1, 300)}]
        return {"model": "deep-coder", "messages": messages, "stream": True, "script": script}

    async def _stream(self, session: aiohttp.ClientSession, mark: str) -> Outcome:
        return await self._read_stream(session, mark, self._script(mark))

    async def _slow(self, session: aiohttp.ClientSession, mark: str) -> Outcome:
        body = self._script(mark, tokens=40, pad=20_000, gap_ms=0)
        return await self._read_stream(session, mark, body, pause_s=self._rng.choice((0.01, 0.05)))

    async def _read_stream(
        self, session: aiohttp.ClientSession, mark: str, body: dict[str, Any], pause_s: float = 0.0
    ) -> Outcome:
        said, error, done = "", False, False
        async with session.post("/v1/chat/completions", json=body) as answer:
            if answer.status != 200:
                return "told" if answer.status in _HONEST else self._crossed(mark, f"{answer.status}")
            async for line in answer.content:
                if pause_s:
                    await asyncio.sleep(pause_s)
                if line.startswith(b"data: [DONE]"):
                    done = True
                elif line.startswith(b"data: "):
                    event = json.loads(line[6:])
                    error = error or "error" in event
                    for choice in event.get("choices") or ():
                        said += choice["delta"].get("content") or ""
        wanted = "".join(f"{mark}{index} " for index in range(body["script"]["tokens"]))
        if not wanted.startswith(said):
            return self._crossed(mark, f"it said {said[:100]!r}")
        if done:
            return "whole" if said == wanted and not error else self._crossed(mark, f"done after {len(said)} of it")
        if error:
            return "told"
        self.report.wrong.append(f"{mark}: it ended without an end or an error after {len(said)} of {len(wanted)}")
        return "lost"

    async def _leaver(self, session: aiohttp.ClientSession, mark: str) -> Outcome:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._rng.uniform(0.0, 2.0)):
                if self._rng.random() < 0.5:
                    return await self._read_stream(session, mark, self._script(mark, gap_ms=50))
                return await self._echo(session, mark)
        return "left"

    async def _conversation(self, session: aiohttp.ClientSession, mark: str) -> Outcome:
        """Three turns on a real model, long enough to be kept; each answer must be one to its own words."""
        messages = [{"role": "user", "content": f"My word is {mark}. " + "Remember the ships at sea. " * 40}]
        model = self._rng.choice(("fast", "balanced"))
        for turn in range(3):
            body = {"model": model, "messages": messages, "max_tokens": 4, "temperature": 0, "user": mark}
            outcome = await self._whole(
                session, "/v1/chat/completions", body, lambda told: isinstance(told["choices"][0]["message"], dict)
            )
            if outcome != "whole":
                return outcome
            messages = [*messages, {"role": "assistant", "content": "Yes."}, {"role": "user", "content": f"{turn}?"}]
            await asyncio.sleep(self._rng.uniform(0, 0.5))
        return "whole"

    async def _messages(self, session: aiohttp.ClientSession, mark: str) -> Outcome:
        body = {
            "model": "deep-logic", "max_tokens": 64, "messages": [{"role": "user", "content": mark}],
            "script": {"say": mark},
        }  # fmt: skip
        return await self._whole(
            session, "/v1/messages", body, lambda told: told["content"][0]["text"].startswith(mark)
        )

    async def _responses(self, session: aiohttp.ClientSession, mark: str) -> Outcome:
        """A stream that a dialect writes anew: what it says bit by bit, at its end, and that it says which."""
        tokens = self._rng.randint(1, 60)
        script = {"say": mark, "tokens": tokens, "gap_ms": 2}
        body = {"model": "deep-coder", "input": f"{mark} " * 50, "stream": True, "script": script}
        events: list[dict[str, Any]] = []
        async with session.post("/v1/responses", json=body) as answer:
            if answer.status != 200:
                return "told" if answer.status in _HONEST else self._crossed(mark, f"{answer.status}")
            async for line in answer.content:
                if line.startswith(b"data: "):
                    events.append(json.loads(line[6:]))
        said = "".join(one["delta"] for one in events if one["type"] == "response.output_text.delta")
        wanted = "".join(f"{mark}{index} " for index in range(tokens))
        if not wanted.startswith(said):
            return self._crossed(mark, f"it said {said[:100]!r}")
        last: dict[str, Any] = events[-1] if events else {"type": "nothing"}
        if last["type"] == "response.completed":
            (item,) = last["response"]["output"]
            whole = said == wanted == item["content"][0]["text"]
            return "whole" if whole else self._crossed(mark, f"done after {len(said)} of it")
        if last["type"] == "error":
            return "told"
        self.report.wrong.append(f"{mark}: a response ended with {last['type']} after {len(said)} of {len(wanted)}")
        return "lost"

    async def _auto(self, session: aiohttp.ClientSession, mark: str) -> Outcome:
        words = self._rng.choice(("what is", "write a test for", "prove that there is"))
        body = {"model": "auto", "prompt": f"{words} {mark}", "n_predict": 4, "max_tokens": 4}
        body = {**body, "messages": [{"role": "user", "content": body.pop("prompt")}], "script": {"say": mark}}
        return await self._whole(session, "/v1/chat/completions", body, lambda told: bool(told["choices"]))

    # --- attacks ---

    async def _attack(self) -> None:
        attacks = [
            self._kill, self._kill, self._freeze, self._full_disk, self._rot, self._swap, self._unload, self._reload,
            self._broken_reload, self._hint, self._purge,
        ]  # fmt: skip
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._rng.uniform(0.3, 3.0)):
                    await self._over.wait()
            if not self._over.is_set():
                attack = self._rng.choice(attacks)
                try:
                    what = await attack()
                except psutil.NoSuchProcess:
                    continue
                if what:
                    self.report.injected[what] += 1

    def _some_child(self) -> psutil.Process | None:
        found = [one for one in psutil.Process(self.engine.pid).children() if _is_model_server(one)]
        return self._rng.choice(found) if found else None

    async def _kill(self) -> str:
        child = self._some_child()
        if child is None:
            return ""
        child.send_signal(self._rng.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV)))
        return "model server killed"

    async def _freeze(self) -> str:
        child = self._some_child()
        if child is None:
            return ""
        child.suspend()
        await asyncio.sleep(self._rng.uniform(0.2, 2.0))
        child.resume()
        return "model server frozen for a while"

    async def _full_disk(self) -> str:
        """To a child, writing fails beyond a size, as on a full disk: llama-server inherits that SIGXFSZ is ignored."""
        child = self._some_child()
        if child is None:
            return ""
        _, hard = resource.prlimit(child.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (_LARGE_FILE_BYTES, hard))
        await asyncio.sleep(self._rng.uniform(1.0, 4.0))
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (hard, hard))
        return "disk full for a model server"

    async def _rot(self) -> str:
        files = sorted((self.engine.home / "state" / "snapshots").rglob("*"))
        files = [one for one in files if one.is_file() and one.suffix in (".kv", ".json")]
        if not files:
            return ""
        victim, how = self._rng.choice(files), self._rng.choice(("flipped", "cut", "gone"))
        with contextlib.suppress(OSError):
            if how == "gone":
                victim.unlink()
            elif how == "cut":
                with victim.open("r+b") as file:
                    file.truncate(victim.stat().st_size // 2)
            else:
                with victim.open("r+b") as file:
                    file.seek(self._rng.randrange(max(1, victim.stat().st_size)))
                    file.write(b"\xff\x00rot")
        return f"kept file {how}"

    async def _ask(self, path: str, body: dict[str, Any]) -> None:
        """An owner's wish; it may be refused, in words."""
        status, told = await self.engine.post(path, body)
        if status not in (200, 400, 404, 409, 422):
            self.report.wrong.append(f"{path} {body}: {status} {told}")

    async def _swap(self) -> str:
        await self._ask("/engine/swap", {"model": self._rng.choice(("fast", "balanced", "deep-coder"))})
        return "swap by the owner"

    async def _unload(self) -> str:
        now = self._rng.random() < 0.5
        await self._ask("/engine/unload", {"model": self._rng.choice(("fast", "balanced", "deep-coder")), "now": now})
        return "unload by the owner, answers cut" if now else "unload by the owner"

    async def _hint(self) -> str:
        await self._ask("/engine/prefetch", {"model": self._rng.choice(TIERS)})
        return "hint"

    async def _purge(self) -> str:
        async with aiohttp.ClientSession(self.engine.url) as session, session.delete("/engine/contexts") as answer:
            if answer.status != 200:
                self.report.wrong.append(f"purge: {answer.status}")
        return "kept conversations purged"

    async def _reload(self) -> str:
        config = soak_config(self.models)
        config["models"]["told"]["slots"] = self._rng.randint(2, 4)
        config["context"]["keep"] = self._rng.random() < 0.8
        config["context"]["disk_gib"] = self._rng.choice((0.0001, 0.05))
        config["scheduling"]["max_wait_s"] = self._rng.choice((0.5, 1, 3))
        self.engine.write_config(config)
        await self._ask("/engine/config/reload", {})
        return "configuration changed"

    async def _broken_reload(self) -> str:
        self.engine.write_config({"models": {}, "tiers": self._rng.choice(([], {}, "no"))})
        status, _ = await self.engine.post("/engine/config/reload", {})
        if status != 422:
            self.report.wrong.append(f"a broken configuration was answered {status}")
        self.engine.write_config(soak_config(self.models))
        return "broken configuration"

    # --- before and after ---

    async def _warm_up(self) -> None:
        for model in ("fast", "balanced", "deep-coder", "fast"):
            await self.engine.post("/v1/chat/completions", {"model": model, "max_tokens": 2, "messages": [
                {"role": "user", "content": "Hello"}]})  # fmt: skip
        await self.engine.get("/engine/requests")
        await self.engine.text("/metrics")
        await self.engine.until("rest", lambda now: not now["requests"]["active"])

    async def _settle(self) -> None:
        """Nothing under way, the owner's own configuration, one model that answers: then what is held is compared."""
        self.engine.write_config(soak_config(self.models))
        await self._ask("/engine/config/reload", {})
        for model in ("balanced", "deep-coder", "fast"):  # each comes back, whatever was done to it
            deadline = time.monotonic() + 60
            while True:
                body = {"model": model, "max_tokens": 2, "messages": [{"role": "user", "content": "Hello"}]}
                status, told = await self.engine.post("/v1/chat/completions", body)
                if status == 200:
                    break
                if time.monotonic() > deadline:
                    self.report.wrong.append(f"{model} does not come back: {status} {told}")
                    break
                await asyncio.sleep(1.0)
        status_now = await self.engine.until("rest", lambda now: not now["requests"]["active"] and not now["commands"])
        if status_now["requests"]["waiting"] or any(one["leases"] for one in status_now["instances"]):
            self.report.wrong.append(f"something is still held: {status_now['requests']} {status_now['instances']}")
        await asyncio.sleep(3.0)  # idle saves, idle connections
        self.report.after = self._held()
        status_now = await self.engine.status()
        if self.report.after.children != len(status_now["instances"]):
            self.report.wrong.append(f"{self.report.after.children} model servers for {status_now['instances']}")
        for line in (await self.engine.text("/metrics")).splitlines():
            if line.startswith("variet_context_total{"):
                name, _, value = line.rpartition(" ")
                outcome = name.partition('outcome="')[2].partition('"')[0]
                if outcome:
                    self.report.contexts[outcome] = self.report.contexts.get(outcome, 0.0) + float(value)

    def _held(self) -> Held:
        process = psutil.Process(self.engine.pid)
        children = [one for one in process.children() if _is_model_server(one)]
        return Held(process.memory_info().rss / 2**20, process.num_fds(), process.num_threads(), len(children))


def _is_model_server(one: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        words = " ".join(one.cmdline())
        return "llama-server" in words or SCRIPTED in words
    return False
