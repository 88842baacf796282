#!/usr/bin/env python3
"""A model server that does as it is told: llama-server's child protocol and HTTP, with answers from a script.

It stands in for llama-server where the answer must be known beforehand: benches of the relay, clients that stall,
children that die at a certain byte. A request's own field `script` says what happens:
  tokens, gap_ms, pad        so many events, so far apart, each with so many bytes of padding
  say                        what each event says, before its number (`t`)
  first_ms                   pause before the first event
  read_steps                 into so many steps that pause is cut, each told where `return_progress` asks for it
  die_at, drop_at, hang_at   at that event: end the process, close the connection, go on saying nothing
  error_at                   at that event of a stream: an error instead, and its end
  status                     answer with that error instead
Every event carries `sent_ns` (CLOCK_MONOTONIC). GET /props tells what happened so far.

A word is a token to it. Its slots remember what was said in them, count what they need not read again (`timings`, at
SCRIPT_READ_MS a token, though nobody waits for that), and can be saved and restored as llama-server's can.
In its environment SCRIPT_LOAD_S delays the start, SCRIPT_MOST_GPU_LAYERS is where its memory ends; SCRIPT_SLOTS may be
`save fails`, `restore fails`, or `forgets` (a restore that spares nothing). Standard library only.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

STATE = "cmd_child_to_router:state:"
HELP = """--model FNAME
--slot-save-path PATH
--parallel N
--no-kv-unified
--cache-ram N
--sse-ping-interval N
"""
counts = {"requests": 0, "active": 0, "cut": 0, "tokens": 0, "last_body": {}, "saved": 0, "restored": 0}
slots: dict[int, list[str]] = {}
options: dict[str, str] = {}


def read(body: dict[str, Any]) -> dict[str, Any]:
    """Take a prompt into its slot; returns llama-server's `timings` of that."""
    words = [word for turn in body.get("messages", []) for word in (f"<{turn['role']}>", *str(turn["content"]).split())]
    slot = body.get("id_slot", 0)
    known = slots.get(slot, [])
    cached = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(known, words, strict=False)))
    slots[slot] = words
    new = len(words) - cached
    return {"cache_n": cached, "prompt_n": new, "prompt_ms": new * float(os.environ.get("SCRIPT_READ_MS", "10"))}


def act(path: str, query: str, body: dict[str, Any]) -> bytes:
    """POST /slots/N?action=save|restore"""
    slot, action = int(path.rpartition("/")[2]), parse_qs(query)["action"][0]
    fault = os.environ.get("SCRIPT_SLOTS", "")
    if fault == f"{action} fails":
        return plain({"error": {"message": "as scripted"}}, "400 Bad Request")
    file = Path(options["--slot-save-path"] + body["filename"])
    if action == "save":
        file.write_text(json.dumps(slots.get(slot, [])))
        counts["saved"] += 1  # type: ignore[operator]
    else:
        slots[slot] = [] if fault == "forgets" else json.loads(file.read_text())
        counts["restored"] += 1  # type: ignore[operator]
    return plain({"id_slot": slot, "filename": body["filename"], "n_saved": len(slots.get(slot, []))})


def progress(timings: dict[str, Any], share: float) -> dict[str, Any]:
    """What llama-server tells while it reads a prompt."""
    cached, new = timings["cache_n"], timings["prompt_n"]
    told = {"total": cached + new, "cache": cached, "processed": cached + int(new * share), "time_ms": 0}
    choice = {"index": 0, "delta": {"role": "assistant", "content": None}, "finish_reason": None}
    return {"object": "chat.completion.chunk", "choices": [choice], "prompt_progress": told}


def event(index: int, body: dict[str, Any], pad: str) -> bytes:
    word = f"{body.get('script', {}).get('say', 't')}{index} "
    data = {
        "object": "chat.completion.chunk", "model": body.get("model"), "sent_ns": time.monotonic_ns(), "index": index,
        "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}], "pad": pad,
    }  # fmt: skip
    payload = b"data: " + json.dumps(data).encode() + b"\n\n"
    return chunk(payload)


def chunk(payload: bytes) -> bytes:
    return f"{len(payload):x}\r\n".encode() + payload + b"\r\n"


async def stream(body: dict[str, Any], script: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    timings = read(body)
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
        b"Keep-Alive: timeout=5, max=100\r\n\r\n"
    )
    steps = script.get("read_steps", 1)
    for step in range(steps + 1):
        if step:
            await asyncio.sleep(script.get("first_ms", 0) / 1000 / steps)
        if body.get("return_progress") and not writer.is_closing():
            writer.write(chunk(b"data: " + json.dumps(progress(timings, step / steps)).encode() + b"\n\n"))
            await writer.drain()
    pad, gap_s = "x" * script.get("pad", 0), script.get("gap_ms", 0) / 1000
    for index in range(script.get("tokens", 1)):
        if index == script.get("die_at"):
            await writer.drain()
            os._exit(3)
        if index == script.get("drop_at"):
            writer.transport.abort()
            return
        if index == script.get("error_at"):
            writer.write(chunk(b'data: {"error": {"message": "as scripted", "code": 500}}\n\n') + b"0\r\n\r\n")
            return
        if index == script.get("hang_at"):
            await asyncio.sleep(3600)
        if index and gap_s:
            await asyncio.sleep(gap_s)
        if writer.is_closing():
            raise ConnectionResetError
        writer.write(event(index, body, pad))
        counts["tokens"] += 1  # type: ignore[operator]
        await writer.drain()
    said = [f"{script.get('say', 't')}{index}" for index in range(script.get("tokens", 1))]
    slots[body.get("id_slot", 0)] += ["<assistant>", *said]
    last = {
        "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        "timings": {**timings, "predicted_n": len(said)},
    }  # fmt: skip
    events = [last]
    if (body.get("stream_options") or {}).get("include_usage"):
        read_tokens = timings["cache_n"] + timings["prompt_n"]
        usage = {"prompt_tokens": read_tokens, "completion_tokens": len(said)}
        events.append({"object": "chat.completion.chunk", "choices": [], "usage": usage})
    told = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in events)
    writer.write(chunk(told + b"data: [DONE]\n\n") + b"0\r\n\r\n")
    await writer.drain()


def plain(answer: dict[str, Any], status: str = "200 OK") -> bytes:
    payload = json.dumps(answer).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    return head.encode() + payload


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            line, _, rest = head.partition(b"\r\n")
            method, target, _ = line.split(b" ", 2)
            length = 0
            for field in rest.split(b"\r\n"):
                name, _, value = field.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            raw = await reader.readexactly(length)
            path, _, query = target.decode().partition("?")
            if path.startswith("/slots/"):
                writer.write(act(path, query, json.loads(raw)))
                continue
            await answer(method, raw, reader, writer)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def answer(method: bytes, raw: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if method == b"GET":
        writer.write(plain({"status": "ok", **counts}))
        return
    body = json.loads(raw or b"{}")
    script = body.get("script") or {}
    counts.update(requests=counts["requests"] + 1, active=counts["active"] + 1, last_body=body)  # type: ignore[operator]
    try:
        if script.get("status"):
            writer.write(plain({"error": {"message": "as scripted", "type": "scripted"}}, f"{script['status']} Told"))
        elif body.get("stream"):
            # A client that leaves is seen by the end of its side of the connection, as llama-server sees it.
            work = asyncio.ensure_future(stream(body, script, writer))
            gone = asyncio.ensure_future(reader.read(1))
            await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                raise ConnectionResetError
            gone.cancel()
            await asyncio.wait([gone])
            work.result()
        else:
            await asyncio.sleep(script.get("first_ms", 0) / 1000)
            word = script.get("say", "told")
            choice = {"index": 0, "message": {"role": "assistant", "content": word}, "finish_reason": "stop"}
            said = {"object": "chat.completion", "model": body.get("model"), "choices": [choice]}
            if "messages" in body:
                said["timings"] = {**read(body), "predicted_n": 1}
                slots[body.get("id_slot", 0)] += ["<assistant>", word]
            writer.write(plain(said))
            await writer.drain()
    except ConnectionError:
        counts["cut"] += 1  # type: ignore[operator]
        raise
    finally:
        counts["active"] -= 1  # type: ignore[operator]


async def main(arguments: list[str]) -> None:
    options.update(itertools.pairwise(arguments))
    await asyncio.sleep(float(os.environ.get("SCRIPT_LOAD_S", "0")))
    if int(options.get("--n-gpu-layers", "0")) > int(os.environ.get("SCRIPT_MOST_GPU_LAYERS", "1000")):
        wanted = "allocating 300.00 MiB on device 0: cudaMalloc failed: out of memory"
        sys.exit(f"ggml_backend_cuda_buffer_type_alloc_buffer: {wanted}")
    host = options.get("--host", "127.0.0.1")
    if host.endswith(".sock"):
        await asyncio.start_unix_server(serve, host, limit=1 << 26)
    else:
        server = await asyncio.start_server(serve, host, int(options["--port"]), limit=1 << 26)
        print(f"listening on http://{host}:{server.sockets[0].getsockname()[1]}", file=sys.stderr, flush=True)
    print(STATE + json.dumps({"state": "ready"}), flush=True)
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    await stdin.readline()  # an order to exit, or the end of whoever started us


if __name__ == "__main__":
    if "--version" in sys.argv:
        print("scripted 1")
    elif "--help" in sys.argv:
        print(HELP)
    else:
        asyncio.run(main(sys.argv[1:]))
