"""Two machines: TLS with the engine's own certificate, pairing by a short code, and somebody in between."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from pathlib import Path

import pytest

from tests.support.engine import EngineProcess, light_config, running
from variet.engine.addresses import Names
from variet.engine.certificate import Certificates

pytestmark = pytest.mark.models
NODE_ASKS = """
const https = require("https");
https.get(process.argv[1] + "/v1/models", {headers: {authorization: "Bearer " + process.env.KEY}}, (answer) => {
  console.log(answer.statusCode); answer.resume();
}).on("error", (error) => console.log(error.code));
"""


async def offered(engine: EngineProcess, *args: str) -> tuple[asyncio.subprocess.Process, str]:
    """`variet pair` on machine A, up to the code that it shows."""
    process = await engine.start_variet("pair", *args)
    assert process.stdout is not None
    async for line in process.stdout:
        found = re.search(rb"variet pair https://\S+ (\S+)", line)
        if found:
            return process, found[1].decode()
    raise AssertionError("no code was shown")


async def node_asks(url: str, key: str, authority: str) -> str:
    env = {"KEY": key, "PATH": "/usr/bin:/bin:/usr/local/bin", "NODE_EXTRA_CA_CERTS": authority}
    node = await asyncio.create_subprocess_exec("node", "-e", NODE_ASKS, url, env=env, stdout=asyncio.subprocess.PIPE)
    output, _ = await node.communicate()
    return output.decode().strip()


async def test_pairing_gives_the_other_machine_a_key_and_somebody_to_trust(tmp_path: Path, models: Path) -> None:
    brain, workstation = tmp_path / "home", tmp_path / "workstation"
    config = light_config(scheduling={"preload": []})
    refused = EngineProcess(brain, models)
    with pytest.raises(AssertionError, match="variet key add"):
        await refused.start(config, "--host", "0.0.0.0")
    assert (await refused.variet("key", "add", "owner"))[0] == 0
    async with running(brain, models, config, "--host", "0.0.0.0") as engine:
        assert engine.url.startswith("https://")
        url = f"https://127.0.0.1:{engine.url.rpartition(':')[2]}"
        # Commands of the same user on machine A need neither key nor address.
        assert json.loads((await engine.variet("status", "--json"))[1])["tiers"]
        code, text = await engine.variet("status", home=workstation, VARIET_ENGINE_URL=url)
        assert code == 1 and "not the one this machine trusts" in text and "variet pair" in text

        offer, secret = await offered(engine)
        wrong = "0000-0000" if secret != "0000-0000" else "1111-1111"
        code, text = await engine.variet("pair", url, wrong, home=workstation)
        assert code == 1 and "not the code" in text
        code, text = await engine.variet("pair", url, secret.lower(), "--name", "desk", home=workstation)
        assert code == 0 and "as 'desk'" in text
        assert await offer.wait() == 0
        assert "desk" in (await engine.variet("key", "list"))[1]

        status, told = await engine.variet("status", "--json", home=workstation)
        assert status == 0 and json.loads(told)["tiers"]
        code, text = await engine.variet("unload", "fast", home=workstation)
        assert code == 1 and "may ask models" in text  # no admin unless the owner said so
        stored = json.loads((workstation / "config" / "engine.json").read_text())
        assert await node_asks(url, stored["key"], stored["authority"]) == "200"
        assert await node_asks(url, stored["key"], "") == "UNABLE_TO_VERIFY_LEAF_SIGNATURE"
        assert "forgotten" in (await engine.variet("pair", "--forget", home=workstation))[1]
        everything = "\n".join(engine.output) + "".join(
            path.read_text(errors="replace") for path in brain.rglob("*.log")
        )
        assert stored["key"] not in everything and secret not in everything
    assert not (brain / "state" / "running.json").exists()


@pytest.mark.parametrize("told", ["theirs", "both"])
async def test_somebody_in_between_gets_no_key_and_gives_none(tmp_path: Path, models: Path, told: str) -> None:
    """A machine that terminates TLS and passes everything on, but tells its own authority, alone or behind ours."""
    brain, workstation = tmp_path / "home", tmp_path / "workstation"
    await EngineProcess(brain, models).variet("key", "add", "owner")
    config = light_config(scheduling={"preload": []})
    async with running(brain, models, config, "--host", "0.0.0.0") as engine:
        port = int(engine.url.rpartition(":")[2])
        theirs = Certificates(tmp_path / "theirs")
        context = theirs.context(Names(frozenset({"localhost"}), frozenset({"127.0.0.1"})))
        genuine = (brain / "config" / "tls" / "authority.pem").read_text()

        replaced: list[bool] = []

        async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            trusting = ssl.create_default_context()
            trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)

            async def there() -> None:
                while chunk := await reader.read(65536):
                    up_writer.write(chunk)
                up_writer.close()

            async def back() -> None:
                """Each answer whole, so that the authority in it can be replaced by their own."""
                pem = theirs.authority_pem() if told == "theirs" else genuine + theirs.authority_pem()
                mine, yours = (json.dumps(text)[1:-1].encode() for text in (genuine, pem))
                while True:
                    head = await up_reader.readuntil(b"\r\n\r\n")
                    length = re.search(rb"(?i)content-length: (\d+)", head)
                    assert length is not None
                    body = (await up_reader.readexactly(int(length[1]))).replace(mine, yours)
                    replaced.append(yours in body)
                    writer.write(head.replace(length[0], b"content-length: %d" % len(body)) + body)

            await asyncio.gather(there(), back(), return_exceptions=True)
            writer.close()

        async with await asyncio.start_server(between, "127.0.0.1", 0, ssl=context) as trap:
            trapped = f"https://127.0.0.1:{trap.sockets[0].getsockname()[1]}"
            offer, secret = await offered(engine)
            code, text = await engine.variet("pair", trapped, secret, home=workstation)
            words = "in between" if told == "theirs" else "no proper salt or certificate"
            assert code == 1 and words in text and replaced[0], text
            assert not (workstation / "config" / "engine.json").exists()
            offer.terminate()
            await offer.wait()
        assert (await engine.variet("key", "list"))[1].count("\n") == 1
