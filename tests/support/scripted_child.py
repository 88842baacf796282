#!/usr/bin/env python3
"""The scripted model (variet.dev.scripted_model) where the engine expects a llama-server: child protocol and slots.

Its script is the file that SCRIPT_FILE names in the environment of the engine; what it is asked goes to SCRIPT_LOG.
Which answer a request gets is told by how many answers it repeats ("by_turn"), so that it goes on where it was after a
swap or a crash.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any

STATE = "cmd_child_to_router:state:"
HELP = "--model FNAME\n--slot-save-path PATH\n--parallel N\n--no-kv-unified\n--cache-ram N\n--sse-ping-interval N\n"


async def main(arguments: list[str]) -> None:
    import uvicorn

    from variet.dev.scripted_model import Script, ScriptedModel

    options = dict(itertools.pairwise(arguments))
    model = ScriptedModel(Script(Path(os.environ["SCRIPT_FILE"])))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/slots/"):
            body = json.loads((await receive())["body"])
            file = Path(options["--slot-save-path"] + body["filename"])
            if scope["query_string"] == b"action=save":
                file.write_text("{}")
            told = {"id_slot": 0, "filename": body["filename"], "n_saved": 1, "n_restored": 1}
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
            )
            await send({"type": "http.response.body", "body": json.dumps(told).encode()})
            return
        await model(scope, _logged(scope, receive), send)

    host = options["--host"]
    config = uvicorn.Config(app, uds=host, log_level="critical", lifespan="off", timeout_keep_alive=5)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print(STATE + json.dumps({"state": "ready"}), flush=True)
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    await stdin.readline()  # an order to exit, or the end of whoever started us
    server.should_exit = server.force_exit = True
    await task


def _logged(scope: Any, receive: Any) -> Any:
    """Writes down a chat once it is there whole."""
    if scope["type"] != "http" or scope["path"] != "/v1/chat/completions" or "SCRIPT_LOG" not in os.environ:
        return receive
    held = bytearray()

    async def heard() -> Any:
        event = await receive()
        if event["type"] == "http.request":
            held.extend(event["body"])
            if not event.get("more_body"):
                _write_down(json.dumps(json.loads(held)))
        return event

    return heard


def _write_down(line: str) -> None:
    with Path(os.environ["SCRIPT_LOG"]).open("a") as file:
        file.write(f"{line}\n")


if __name__ == "__main__":
    if "--version" in sys.argv:
        print("scripted 2")
    elif "--help" in sys.argv:
        print(HELP)
    else:
        asyncio.run(main(sys.argv[1:]))
