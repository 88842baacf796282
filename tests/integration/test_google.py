"""Signing in to a Google as strict as the real one: least scopes, two clients, tokens and grants that end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker import PIN, broker, here, person
from tests.support.google import CLIENTS, EMAIL, Google
from variet.assistant.broker.client import BrokerClient
from variet.assistant.google.places import places
from variet.assistant.google.scopes import ASKED
from variet.assistant.problems import ToolProblem
from variet.assistant.secrets.sealed import SealedFile
from variet.errors import TrustError


async def test_a_person_signs_in_and_servers_get_tokens_that_read(strict: Google, tmp_path: Path) -> None:
    async with broker(tmp_path), person(tmp_path) as owner, BrokerClient(here(tmp_path), start=False) as server:
        with pytest.raises(ToolProblem) as raised:
            await server.call("token", service="mail")
        assert raised.value.code == "reauth_required" and "variet auth google" in str(raised.value)
        await strict.sign_in(owner)
        told = await server.call("token", service="mail")
        assert told["email"] == EMAIL and told["token"].startswith("ya29.")
        status = await server.call("auth.status")
        assert [(one["purpose"], one["email"], one["services"], one["ends_s"]) for one in status] == [
            ("read", EMAIL, ["calendar", "mail"], None), ("write", EMAIL, ["calendar", "mail"], None),
        ]  # fmt: skip
        assert all(abs(one["since_s"] - time.time()) < 60 for one in status)
        bearer = {"authorization": f"Bearer {told['token']}"}
        listed = await strict._http.get(f"{strict.url}/gmail/v1/users/me/messages", headers=bearer)
        sent = await strict._http.post(f"{strict.url}/gmail/v1/users/me/messages/send", json={}, headers=bearer)
        assert (listed.status_code, sent.status_code) == (200, 403)
        for method, params in (
            ("auth.begin", {"purpose": "read", "client_id": "x"}), ("auth.revoke", {"purpose": "read"}),
            ("auth.finish", {"flow": "x"}),
        ):  # fmt: skip
            with pytest.raises(ToolProblem, match="who showed"):
                await server.call(method, **params)
    kept = b"".join(path.read_bytes() for path in here(tmp_path).folder.iterdir() if path.is_file())
    for secret in (b"ya29.", b"1//", b"secret-of", PIN.encode()):
        assert secret not in kept, "nothing secret lies in a file or a log as it is"


async def test_tokens_are_renewed_once_for_all_who_ask(strict: Google, tmp_path: Path) -> None:
    async with broker(tmp_path) as server, person(tmp_path) as owner:
        await strict.sign_in(owner, "read")
        first = (await owner.call("token", service="mail"))["token"]
        assert (await owner.call("token", service="mail"))["token"] == first
        await strict.order("forget")
        told = await asyncio.gather(*(owner.call("token", service="mail", stale=first) for _ in range(8)))
        assert len({one["token"] for one in told}) == 1 and told[0]["token"] != first
        assert len([line for line in await strict.order("log") if line["path"] == "/token"]) == 1
        server.accounts._tokens.clear()
        await strict.fault("POST /token", 503)
        with pytest.raises(ToolProblem, match="does not work now"):
            await owner.call("token", service="mail")
        assert (await owner.call("token", service="mail"))["token"]


async def test_an_ended_grant_is_told_with_what_to_do(strict: Google, tmp_path: Path) -> None:
    async with broker(tmp_path) as server, person(tmp_path) as owner:
        await strict.sign_in(owner, "read")
        await strict.order("testing")
        await strict.order("clock", ahead_s=8 * 86400)
        server.accounts._tokens.clear()
        with pytest.raises(ToolProblem) as raised:
            await owner.call("token", service="mail")
        assert raised.value.code == "reauth_required" and "ended" in str(raised.value)
        await strict.sign_in(owner, "read")
        assert await owner.call("auth.revoke", purpose="read")
        with pytest.raises(ToolProblem, match="is signed in"):
            await owner.call("token", service="mail")


async def test_what_was_left_out_or_is_too_much_is_told(strict: Google, tmp_path: Path) -> None:
    async def tried(owner: BrokerClient, purpose: str, client: str | None = None) -> dict[str, Any]:
        client_id, client_secret = CLIENTS[client or purpose]
        begun = await owner.call("auth.begin", purpose=purpose, client_id=client_id, client_secret=client_secret)
        _, told = await asyncio.gather(strict.visit(begun["url"]), owner.call("auth.finish", flow=begun["flow"]))
        return told  # type: ignore[no-any-return]

    async with broker(tmp_path), person(tmp_path) as owner:
        await strict.order("consent", set={"scopes": [ASKED["read"]["mail"]]})
        told = await tried(owner, "read")
        assert (told["services"], told["missing"]) == (["mail"], ["calendar"])
        with pytest.raises(ToolProblem, match="does not cover calendar"):
            await owner.call("token", service="calendar")
        await strict.order("consent", set={"scopes": []})
        with pytest.raises(ToolProblem, match="nothing was allowed"):
            await tried(owner, "read")
        await strict.order("consent", set={"scopes": None, "deny": True})
        with pytest.raises(ToolProblem, match="cancelled in the browser"):
            await tried(owner, "read")
        await strict.order("consent", set={"deny": False})
        with pytest.raises(ToolProblem, match="an OAuth client each"):
            await tried(owner, "write", client="read")


async def test_only_the_answer_to_our_question_counts(strict: Google, tmp_path: Path) -> None:
    async with broker(tmp_path), person(tmp_path) as owner:
        client_id, client_secret = CLIENTS["read"]
        begun = await owner.call("auth.begin", purpose="read", client_id=client_id, client_secret=client_secret)
        asked = await strict._http.get(begun["url"])
        back = asked.headers["location"]
        port = back.split("/?")[0]
        finishing = asyncio.create_task(owner.call("auth.finish", flow=begun["flow"]))
        for path in ("/favicon.ico", "/?code=4/stolen&state=guess", "/?state="):
            assert (await strict._http.get(port + path)).status_code == 404
        assert not finishing.done()
        wrong = await strict._http.get(begun["url"].replace("code_challenge=", "code_challenge=x"))
        assert wrong.status_code == 400
        page = await strict._http.get(back)
        assert page.status_code == 200 and "close this window" in page.text and "ya29" not in page.text
        assert (await finishing)["email"] == EMAIL


async def test_the_sign_in_by_command(strict: Google, tmp_path: Path) -> None:
    client = tmp_path / "read.json"
    client.write_text(json.dumps({"installed": {"client_id": CLIENTS["read"][0], "client_secret": CLIENTS["read"][1]}}))
    async with broker(tmp_path), person(tmp_path):
        pass
    environment = {**os.environ, "VARIET_HOME": str(tmp_path), "VARIET_BROKER_IDLE_S": "1"}

    async def ran(*words: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "variet", "auth", *words, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(f"{PIN}\n".encode())
        await process.stdin.drain()
        return process

    process = await ran("google", "--client", str(client), "--no-browser")
    assert process.stderr is not None
    while "http" not in (line := (await process.stderr.readline()).decode()):
        assert line, "no address was printed"
    await strict.visit(line.strip())
    said, _ = await process.communicate()
    assert said.decode() == f"{EMAIL}: reads, for calendar and mail; kept in the sealed file\n"
    said, _ = await (await ran("revoke")).communicate()
    assert said.decode() == "ended, here and at Google\n"
    client.write_text('{"web": {}}')
    said, wrong = await (await ran("google", "--client", str(client))).communicate()
    assert b"Desktop app" in wrong


async def test_the_doctor_tells_what_of_the_assistant_lacks_and_when_a_sign_in_ends(
    strict: Google, tmp_path: Path
) -> None:
    async def doctor() -> tuple[int, dict[str, Any]]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "variet", "doctor", "--assistant", "--json", stdout=subprocess.PIPE,
            env={**os.environ, "VARIET_HOME": str(tmp_path)},
        )  # fmt: skip
        out, _ = await process.communicate()
        return process.returncode or 0, {one["what"]: one for one in json.loads(out)}

    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "assistant.json").write_text('{"search": {"url": "http://127.0.0.1:9"}}')
    async with broker(tmp_path):
        code, found = await doctor()
        assert code == 1 and not found["web search"]["ok"] and "Start it" in found["web search"]["mend"]
        assert found["PIN"]["mend"] == "variet approvals pin" and "auth google" in found["sign-ins"]["mend"]
        async with person(tmp_path) as owner:
            await strict.order("testing")
            await strict.sign_in(owner, "read")
            await strict.order("consent", set={"told": True})
            await strict.sign_in(owner, "write")
            _, found = await doctor()
            assert "if its app is still in Testing" in found["sign-in that reads"]["detail"]
            assert "Google ends it on" in found["sign-in that writes"]["detail"]
            assert found["sign-in that reads"]["warning"] and "step 4" in found["sign-in that reads"]["mend"]
            assert "clock" not in found
            await strict.order("clock", ahead_s=-7_200)
            code, found = await doctor()
            assert code == 1 and re.fullmatch(
                r"this machine's is (2:00:00|1:59:5\d|2:00:0\d) ahead of Google's", found["clock"]["detail"]
            )
            await strict.order("clock", ahead_s=7_200 + 8 * 86_400)
        async with BrokerClient(here(tmp_path), start=False) as server:
            with pytest.raises(ToolProblem, match="Google ended this sign-in"):
                await server.call("token", service="mail", stale=(await server.call("token", service="mail"))["token"])


async def test_a_box_of_another_pin_keeps_nobody_from_deciding_and_is_told(strict: Google, tmp_path: Path) -> None:
    async with broker(tmp_path), person(tmp_path) as owner:
        await strict.sign_in(owner, "read")
    other = SealedFile(tmp_path / "other.sealed", 2**12)
    other.unlock("another PIN")
    other.put("google-read", "{}")
    (here(tmp_path).folder / "secrets.sealed").write_bytes((tmp_path / "other.sealed").read_bytes())
    async with broker(tmp_path), person(tmp_path) as owner:
        assert await owner.call("rules.list") == [], "it still decides"
        with pytest.raises(ToolProblem, match="variet auth unlock"):
            await owner.call("token", service="mail")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "variet", "auth", "unlock", env={**os.environ, "VARIET_HOME": str(tmp_path)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        said, wrong = await process.communicate(f"{PIN}\n".encode())
        assert process.returncode == 1 and not said and b"sealed by your PIN" in wrong


def test_another_place_than_this_machine_is_never_taken_for_google(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("http://192.0.2.1", "https://google.evil.example", "http://localhost.evil.example", "nonsense"):
        monkeypatch.setenv("VARIET_GOOGLE_URL", url)
        with pytest.raises(TrustError):
            places()
