"""The relay's promises that need a model server which does as it is told (tests/support/scripted_server.py)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import pytest_asyncio

from tests.support.engine import ROOT, EngineProcess, chat, read_stream, running
from variet.engine.engine import Engine
from variet.engine.events import Arrived
from variet.engine.upstream import Upstream, UpstreamError
from variet.tiers import TIERS

pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]
SCRIPTED = str(ROOT / "tests" / "support" / "scripted_server.py")


def scripted_config(models: Path, **tables: Any) -> dict[str, Any]:
    """One model of four slots behind all tiers, run by the scripted server."""
    file = next((models / "smollm2-135m").glob("*.gguf"))
    model = {"files": {"model": f"path:{file}"}, "context_tokens": 512, "slots": 4, **tables.pop("model", {})}
    return {
        "llama_server": {"path": SCRIPTED},
        "models": {"told": model},
        "tiers": {tier: {"model": "told"} for tier in TIERS},
        "scheduling": {"preload": []},
        **tables,
    }


SERVER = {"stall_timeout_s": 1.5, "buffer_mib": 16, "hold_headers_s": 0.5, "keepalive_s": 0.2}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scripted(tmp_path_factory: pytest.TempPathFactory, models: Path) -> AsyncIterator[EngineProcess]:
    config = scripted_config(models, server=SERVER)
    async with running(tmp_path_factory.mktemp("told") / "home", models, config) as one:
        yield one


@pytest_asyncio.fixture(loop_scope="module")
async def told(scripted: EngineProcess) -> EngineProcess:
    """Its model server has counted nothing yet."""
    status, answer = await scripted.post("/engine/unload", {"model": "told"})
    assert status == 200, answer
    return scripted


def script(stream: bool = True, **fields: Any) -> dict[str, Any]:
    return chat("fast", stream=stream, script=fields)


async def told_counts(engine: EngineProcess) -> dict[str, Any]:
    counts: dict[str, Any] = await engine.get("/props")
    return counts


async def upstream(engine: EngineProcess, what: str, condition: Any) -> dict[str, Any]:
    for _ in range(500):
        counts = await told_counts(engine)
        if condition(counts):
            return counts
        await asyncio.sleep(0.02)
    raise AssertionError(f"never: {what}; {counts}")


def silent_reader(engine: EngineProcess, body: dict[str, Any]) -> socket.socket:
    """A client that asks and then reads nothing."""
    host, port = engine.url.removeprefix("http://").split(":")
    data = json.dumps(body).encode()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect((host, int(port)))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    sock.sendall(head.encode() + data)
    return sock


async def test_a_client_that_reads_nothing_is_cut_and_disturbs_nobody(told: EngineProcess) -> None:
    stalled = silent_reader(told, script(tokens=2_000, pad=64_000))
    try:
        await told.until("its lease", lambda status: any(one["leases"] for one in status["instances"]))
        status, _ = await told.post("/v1/chat/completions", script(stream=False))
        assert status == 200, "others are answered meanwhile"
        await told.until("its end", lambda status: status["requests"]["active"] == [])
        counts = await upstream(told, "the generation cut", lambda counts: counts["active"] == 0)
        assert counts["cut"] == 1 and counts["tokens"] < 2_000
        lines = (await told.variet("logs"))[1].splitlines()
        assert any('"client_stalled"' in line for line in lines)
        ends = [end for end in psutil.Process(told.pid).net_connections() if end.raddr]
        assert not any(end.raddr.port == stalled.getsockname()[1] for end in ends), "its connection is gone, too"
    finally:
        stalled.close()


async def test_a_lease_ends_with_the_child_not_with_a_slow_reader(told: EngineProcess) -> None:
    slow = silent_reader(told, script(tokens=100, pad=64_000))  # fits into the buffer, not into the sockets
    try:
        await told.until(
            "the child done, the client not",
            lambda status: (
                len(status["requests"]["active"]) == 1
                and status["instances"]
                and status["instances"][0]["phase"] == "ready"
                and not status["instances"][0]["leases"]
            ),
        )
        received = b""
        slow.settimeout(10)
        while b"data: [DONE]" not in received[-100:]:
            piece = await asyncio.to_thread(slow.recv, 65_536)
            assert piece, "cut before its end"
            received += piece
        assert received.count(b'"sent_ns"') == 100, "nothing was lost"
    finally:
        slow.close()


@pytest.mark.parametrize("said", [10, 500_000], ids=["little", "much"])  # of much, reading may have been paused
async def test_a_client_that_leaves_stops_the_generation_at_once(told: EngineProcess, said: int) -> None:
    body = {**script(tokens=5_000, gap_ms=5), "messages": [{"role": "user", "content": "x" * said}]}
    async with aiohttp.ClientSession() as session:
        answer = await session.post(told.url + "/v1/chat/completions", json=body)
        while b"data: {" not in await answer.content.readany():
            pass  # on a busy machine the engine's own signs of life come first
    counts = await upstream(told, "the generation cut", lambda counts: counts["active"] == 0)
    assert counts["cut"] == 1 and counts["tokens"] < 1_000
    await told.until("the lease back", lambda status: not status["instances"][0]["leases"])


async def test_a_plain_request_ends_with_its_client_beside_a_stream(told: EngineProcess) -> None:
    """llama-server alone would work on: it looks for the client only when no slot had news for a second."""
    async with aiohttp.ClientSession(told.url) as session:
        other = await session.post("/v1/chat/completions", json=script(tokens=5_000, gap_ms=5))
        await other.content.readany()
        plain = asyncio.create_task(told.post("/v1/chat/completions", script(False, tokens=5_000, gap_ms=5)))
        await upstream(told, "both", lambda counts: counts["active"] == 2)
        plain.cancel()
        counts = await upstream(told, "one ended", lambda counts: counts["cut"] == 1)
        assert counts["active"] == 1 and await other.content.readany(), "the other goes on"
        other.close()


async def test_a_plain_answer_is_put_together_from_a_stream(told: EngineProcess) -> None:
    status, answer = await told.post("/v1/chat/completions", script(False, tokens=3))
    assert status == 200 and answer["object"] == "chat.completion"
    message = {"role": "assistant", "content": "t0 t1 t2 "}
    assert answer["choices"] == [{"index": 0, "message": message, "finish_reason": "stop"}]
    status, answer = await told.post("/v1/chat/completions", script(False, tokens=3, error_at=1))
    assert status == 200 and answer["choices"][0]["message"]["content"] == "told", "asked again, without a stream"
    status, answer = await told.post("/v1/chat/completions", script(False, status=418))
    assert status == 418 and answer["error"]["message"] == "as scripted"
    assert (await told_counts(told))["requests"] == 4
    status, answer = await told.post("/v1/chat/completions", {**script(False), "logprobs": True})
    assert answer["choices"][0]["message"]["content"] == "told", "what a stream does not tell is asked for whole"


def packet(body: dict[str, Any], *headers: str) -> bytes:
    data = json.dumps(body).encode()
    head = "\r\n".join(["POST /v1/chat/completions HTTP/1.1", "Host: localhost", *headers])
    return f"{head}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


async def connect(engine: EngineProcess) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = engine.url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


@pytest.mark.parametrize("pause_s", [0.0, 0.3], ids=["in one packet", "one after the other"])
async def test_a_client_that_leaves_is_seen_also_behind_a_pipeline(told: EngineProcess, pause_s: float) -> None:
    _, writer = await connect(told)
    writer.write(packet(script(stream=False, first_ms=60_000)))
    await asyncio.sleep(pause_s)
    writer.write(packet(script(stream=False)))
    await upstream(told, "the request", lambda counts: counts["active"] == 1)
    writer.close()
    await told.until("its end", lambda status: status["requests"]["active"] == [])
    assert (await told_counts(told))["requests"] == 1, "the one that waited is not even begun"
    assert not [line for line in told.output if "Traceback" in line or "exception" in line.lower()]


async def test_pipelined_answers_come_in_order(told: EngineProcess) -> None:
    reader, writer = await connect(told)
    writer.write(b"".join(packet(script(stream=False, first_ms=ms), f"X-No: {ms}") for ms in (150, 0, 40)))
    for _ in range(3):
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0])
        json.loads(await reader.readexactly(length))
    writer.close()


async def test_a_stream_behind_an_unread_answer_has_its_head(told: EngineProcess) -> None:
    """The hold on its headers runs out while nothing can be sent: they must still come first."""
    reader, writer = await connect(told)
    writer.write(packet(script(tokens=20, pad=64_000)))
    writer.write(packet(script(tokens=2, first_ms=900)))  # beyond the hold of 0.5 s
    await asyncio.sleep(1.2)
    received = b""
    async with asyncio.timeout(20):
        while received.count(b"data: [DONE]") < 2:
            piece = await reader.read(65_536)
            assert piece, "cut"
            received += piece
    assert received.count(b"HTTP/1.1 200 OK") == 2 and b" 500 " not in received
    writer.close()


@pytest.mark.parametrize("offer", ["h2c", "websocket", "h2c, websocket", "TLS/1.2"])
async def test_an_offer_of_another_protocol_is_ignored(told: EngineProcess, offer: str) -> None:
    """Java's own client offers h2c with each request (RFC 9110, 7.8). Whole, in pieces, and again on the connection."""
    reader, writer = await connect(told)
    lines = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {offer}", "HTTP2-Settings: AAA")
    whole = packet(script(stream=False), *lines)
    half = whole.index(b"\r\n\r\n") + 9
    for pieces in (
        [whole],
        [whole[:half], whole[half:]],
        [whole[:40], whole[40 : half - 9], whole[half - 9 :]],
        [whole],
    ):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        length = int(re.search(rb"content-length: (\d+)", head.lower())[1])  # type: ignore[index]
        assert json.loads(await reader.readexactly(length))["choices"][0]["message"]["content"] == "t0 "
    writer.write(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
    writer.close()


async def test_a_request_to_be_a_proxy_is_refused_once(told: EngineProcess) -> None:
    reader, writer = await connect(told)
    writer.write(b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 400")
    writer.close()
    assert (await told.get("/health"))["status"] == "ok" and not any("Recursion" in line for line in told.output)


async def test_a_request_that_kills_twice_is_refused_for_a_while(told: EngineProcess) -> None:
    # Where the second start outlasts the hold on headers, the error comes inside an aborted stream.
    body = b""
    async with aiohttp.ClientSession() as session:
        answer = await session.post(told.url + "/v1/chat/completions", json=script(tokens=3, die_at=0))
        with contextlib.suppress(aiohttp.ClientPayloadError):
            async for chunk in answer.content.iter_any():
                body += chunk
    assert b"ended twice" in body and b"[DONE]" not in body
    before = (await told.status())["journal"]
    status, answer = await told.post("/v1/chat/completions", script(tokens=3, die_at=0))
    assert status == 500 and answer["error"]["code"] == "request_refused"
    assert (await told.status())["journal"] == before, "no model server was touched"
    status, _ = await told.post("/v1/chat/completions", script(stream=False))
    assert status == 200, "others are answered"


async def test_a_connection_that_breaks_in_mid_stream_is_told(told: EngineProcess) -> None:
    status, events, whole = await read_stream(told.url, "/v1/chat/completions", script(tokens=9, drop_at=4, gap_ms=20))
    assert status == 200 and not whole and "[DONE]" not in events
    assert len(events) == 5 and json.loads(events[-1])["error"]["code"] == "model_server_died"


async def test_a_long_wait_is_filled_with_comments(told: EngineProcess) -> None:
    async with aiohttp.ClientSession() as session:
        answer = await session.post(told.url + "/v1/chat/completions", json=script(tokens=2, first_ms=1_500))
        text = (await answer.read()).decode()
    assert text.count(": variet {") >= 3 and text.index(": variet {") < text.index("data: {")
    assert text.rstrip().endswith("data: [DONE]")


async def test_slots_are_the_engine_s_own(told: EngineProcess) -> None:
    meddling = {"id_slot": 3, "cache_prompt": False, "slot_id": 2, "n_predict": 5}
    await told.post("/v1/chat/completions", {**script(stream=True), **meddling})
    sent = (await told_counts(told))["last_body"]
    assert sent["id_slot"] == 0 and "slot_id" not in sent
    assert sent["stream_options"] == {"include_usage": True}


async def test_a_swap_that_waits_says_for_what(tmp_path: Path, models: Path) -> None:
    config = scripted_config(models, scheduling={"preload": [], "max_resident": 1})
    config["models"]["other"] = config["models"]["told"]
    async with running(tmp_path / "home", models, config) as engine:
        await engine.post("/engine/swap", {"model": "told"})
        body = script(tokens=80, gap_ms=50)
        story = asyncio.create_task(read_stream(engine.url, "/v1/chat/completions", body))
        await engine.until("its lease", lambda status: any(one["leases"] for one in status["instances"]))
        swap = await engine.start_variet("swap", "other")
        waiting = await engine.until("the wish", lambda status: status["commands"])
        assert waiting["commands"][0]["kind"] == "swap" and waiting["commands"][0]["model"] == "other"
        output, _ = await swap.communicate()
        assert swap.returncode == 0 and b"told draining: 1 still answering" in output and b"done in" in output
        _, events, whole = await story
        assert whole and len(events) == 80 + 2, "the answer was not cut"  # its end, [DONE]


async def test_a_load_without_room_is_tried_again_smaller_and_remembered(tmp_path: Path, models: Path) -> None:
    gpu = {"name": "described", "vram_mib": 1_250}
    config = scripted_config(
        models,
        model={"env": {"SCRIPT_MOST_GPU_LAYERS": "30"}},
        hardware={"gpus": [gpu], "gpu_margin_mib": 0, "host_margin_mib": 0},
    )
    home = tmp_path / "home"
    async with running(home, models, config) as engine:
        status, _ = await engine.post("/v1/chat/completions", script(stream=False))
        assert status == 200
        kinds = [one["kind"] for one in (await engine.status())["journal"]]
        assert kinds.count("load failed") >= 1 and kinds[-1] == "loaded"
        assert "counted on each GPU" in (await engine.variet("logs"))[1]
    async with running(home, models, config) as engine:
        status, _ = await engine.post("/v1/chat/completions", script(stream=False))
        assert status == 200
        assert "load failed" not in [one["kind"] for one in (await engine.status())["journal"]]


async def test_a_model_that_sleep_has_frozen_is_ended_and_comes_back(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VARIET_HOME", str(tmp_path))
    monkeypatch.setattr("variet.engine.fleet.PROBE_PATIENCE_S", 0.5)
    path = tmp_path / "engine_models.json"
    path.write_text(json.dumps(scripted_config(models)))
    engine = await Engine.create(path)
    await engine.start()
    try:
        lease = await engine.fleet.acquire(Arrived(engine.fleet.new_id(), "told"))
        engine.fleet.end(lease.request_id)
        child = engine.fleet.running[lease.instance_id].child
        assert child is not None and child.pid is not None
        await engine.fleet.probe()
        assert psutil.pid_exists(child.pid) and not child.gone.done(), "one that answers is left alone"
        psutil.Process(child.pid).send_signal(signal.SIGSTOP)
        await engine.fleet.probe()
        assert child.gone.done()
        again = await engine.fleet.acquire(Arrived(engine.fleet.new_id(), "told"))
        assert again.instance_id != lease.instance_id
        engine.fleet.end(again.request_id)
    finally:
        await engine.stop()


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGTERM])
async def test_a_model_server_that_gives_up_under_its_requests_is_noticed(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """The real one, told to end by somebody else, waits for answers that it gives no more."""
    monkeypatch.setenv("VARIET_HOME", str(tmp_path))
    monkeypatch.setattr("variet.engine.fleet.WATCH_S", 0.2)
    monkeypatch.setattr("variet.engine.fleet.PROBE_PATIENCE_S", 2.0)
    path = tmp_path / "engine_models.json"
    path.write_text(json.dumps({**scripted_config(models), "llama_server": {}}))
    engine = await Engine.create(path)
    await engine.start()
    try:
        lease = await engine.fleet.acquire(Arrived(engine.fleet.new_id(), "told"))
        child = engine.fleet.running[lease.instance_id].child
        assert child is not None and child.pid is not None
        body = json.dumps({"prompt": "Once upon a time", "n_predict": 400, "ignore_eos": True}).encode()
        headers = [(b"content-type", b"application/json")]
        asking = asyncio.create_task(lease.upstream.ask("POST", b"/completion", headers, body))
        await asyncio.sleep(0.5)
        assert not child.gone.done()
        psutil.Process(child.pid).send_signal(number)
        async with asyncio.timeout(30):
            await asyncio.wait([child.gone])
            with contextlib.suppress(UpstreamError):
                (await asking).close()
        engine.fleet.end(lease.request_id)
        again = await engine.fleet.acquire(Arrived(engine.fleet.new_id(), "told"))
        assert again.instance_id != lease.instance_id
        engine.fleet.end(again.request_id)
    finally:
        await engine.stop()


async def test_the_transport_of_windows_works_with_a_real_child(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loopback with a key, tried on whatever system this is: strangers are refused, the engine is not."""
    monkeypatch.setenv("VARIET_HOME", str(tmp_path))
    path = tmp_path / "engine_models.json"
    path.write_text(json.dumps({**scripted_config(models), "llama_server": {}}))  # the real llama-server
    engine = await Engine.create(path)
    engine.backend._platform = "win32"
    await engine.start()
    try:
        lease = await engine.fleet.acquire(Arrived(engine.fleet.new_id(), "told"))
        child = engine.fleet.running[lease.instance_id].child
        assert child is not None and child.address.socket_path is None
        body = json.dumps({"prompt": "Once", "n_predict": 1, "id_slot": lease.slot}).encode()
        stranger = Upstream(replace(child.address, api_key=None))
        statuses = []
        for way in (stranger, lease.upstream):
            answer = await way.ask("POST", b"/completion", [(b"content-type", b"application/json")], body)
            statuses.append(answer.status)
            await answer.read_all()
            answer.close()
        stranger.close()
        assert statuses == [401, 200]
        engine.fleet.end(lease.request_id)
        await engine.fleet.probe()
        assert engine.fleet.running, "the probe has the key, too"
    finally:
        await engine.stop()
