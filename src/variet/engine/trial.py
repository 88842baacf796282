"""Whether a llama-server really runs a model here: one for another processor tells its version and dies at work."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from pathlib import Path

from variet.engine.backends.base import LaunchSpec
from variet.engine.backends.local import LocalBackend
from variet.engine.instance import child_environment
from variet.engine.llama_server import LlamaServer
from variet.engine.upstream import Upstream, UpstreamError
from variet.errors import LaunchFailed

_PATIENCE_S = 120.0
_FLAGS = (
    "--ctx-size",
    "256",
    "--parallel",
    "1",
    "-fit",
    "off",
    "--no-warmup",
    "--n-gpu-layers",
    "0",
    "--device",
    "none",
)


async def run_once(server: LlamaServer, model: Path) -> float:
    """Load a model on the processor, let it say one token, stop it. Returns seconds. Raises LaunchFailed."""
    folder = Path(tempfile.mkdtemp(prefix="variet-trial-"))
    backend = LocalBackend({}, folder)
    environment = server.environment(child_environment({}))
    spec = LaunchSpec(
        "trial", server.path, ("--model", str(model), *_FLAGS), environment, server.child_protocol, _PATIENCE_S
    )
    began = time.monotonic()
    try:
        child = await backend.launch(backend.boxes()[0], spec, lambda *_: None)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await child.ready
                await _one_token(Upstream(child.address))
        except UpstreamError as error:
            with contextlib.suppress(TimeoutError):
                gone = await asyncio.wait_for(asyncio.shield(child.gone), 2.0)
                raise LaunchFailed(gone.explain(), where=str(model)) from None
            raise LaunchFailed(str(error), where=str(model)) from None
        except TimeoutError:
            raise LaunchFailed(f"no answer within {_PATIENCE_S:g} s", where=str(model)) from None
        finally:
            await child.stop()
    finally:
        backend.close()
        shutil.rmtree(folder, ignore_errors=True)
    return time.monotonic() - began


async def _one_token(way: Upstream) -> None:
    body = b'{"prompt": "Once", "n_predict": 1}'
    try:
        answer = await way.ask("POST", b"/completion", [(b"content-type", b"application/json")], body)
        text = await answer.read_all()
    finally:
        way.close()
    if answer.status != 200:
        raise UpstreamError(f"it answered {answer.status}: {text[:200].decode('utf-8', 'replace')}")
