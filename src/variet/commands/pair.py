"""`variet pair`: on Machine A it shows a code; on Machine B, with URL and CODE, it stores a key and whom to trust."""

from __future__ import annotations

import re
import secrets
import socket
import sys
import time
from typing import Any

import click

from variet.commands.common import json_option, print_json


@click.command(
    epilog="""\b
Examples:
  variet pair                                       on Machine A: show a code
  variet pair https://192.168.1.20:8000 K7QD-M2XF   on Machine B: use it
  variet pair --forget                              on Machine B: trust it no more
"""
)
@click.argument("url", required=False)
@click.argument("code", required=False)
@click.option("--admin", is_flag=True, help="On A: the other machine may also swap, load, unload and read logs.")
@click.option("--name", help="On B: the name of its key; by default this machine's.")
@click.option("--forget", is_flag=True, help="On B: remove what pairing stored here.")
@json_option
def pair(url: str | None, code: str | None, admin: bool, name: str | None, forget: bool, as_json: bool) -> None:
    """Let another machine use this engine (no arguments), or use the engine at URL with the CODE it shows."""
    if forget:
        _forget()
    elif url is None:
        _offer(admin, as_json)
    elif code is None:
        raise click.UsageError("the code is missing: `variet pair` on Machine A shows it")
    else:
        _accept(url, code, name, as_json)


def _forget() -> None:
    from variet import connection

    known = connection.forget_pairing()
    click.echo("forgotten; `variet key remove NAME` on Machine A ends its key too" if known else "nothing was stored")


def _offer(admin: bool, as_json: bool) -> None:
    from variet import connection
    from variet.commands import client

    if connection.paired():
        raise click.UsageError(
            f"this machine is paired with {connection.find().url}; run `variet pair` there, or give URL and CODE here"
        )
    opened = client.call("POST", "/engine/pairing", {"admin": admin}).json()
    if as_json:
        print_json(opened)
        return
    if all("//127." in url or "//[::1]" in url for url in opened["urls"]):
        click.echo("This engine is on no LAN address ($.server.host): the code works on this machine only.", err=True)
    click.echo("On the other machine, run:" if len(opened["urls"]) == 1 else "On the other machine, run one of:")
    for url in opened["urls"]:
        click.echo(f"\n    variet pair {url} {opened['code']}")
    minutes = opened["life_s"] / 60
    click.echo(
        f"\nThe code is good once, for {minutes:.0f} minutes. Waiting for it (Ctrl-C makes it void) ...", err=True
    )
    sys.exit(_wait(client))


def _wait(client: Any) -> int:
    try:
        while True:
            state = client.call("GET", "/engine/pairing").json()
            if state["state"] == "paired":
                click.echo(f"paired: the key of {state['name']!r} is in `variet key list`")
                return 0
            if state["state"] == "closed":
                click.echo("the code is void: too late, or tried wrongly too often", err=True)
                return 1
            time.sleep(0.5)
    except KeyboardInterrupt:
        client.call("DELETE", "/engine/pairing")
        raise


def _accept(url: str, code: str, name: str | None, as_json: bool) -> None:
    """Ask for the authority, prove the code over a connection that is already checked against it, store what comes."""
    import ssl
    import tempfile
    from pathlib import Path

    import httpx

    from variet import connection, pairing
    from variet.commands import client
    from variet.errors import TrustError, VarietError

    try:
        pairing.normalise(code)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    url = (url if "://" in url else f"https://{url}").rstrip("/")
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE  # nothing secret goes this way
    called = name or re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:60].strip(".-_") or "machine-b"
    nonce = secrets.token_bytes(16)

    def post(http: httpx.Client, path: str, fields: tuple[str, ...], body: Any = None) -> dict[str, str]:
        try:
            answer = http.post(path, json=body)
        except httpx.TransportError as error:
            raise connection.unreachable(url, error) from None
        if answer.status_code != 200:
            raise VarietError(client.words(answer), where=url)
        try:
            told: dict[str, str] = answer.json()
            if all(isinstance(told[field], str) for field in fields):
                return told
        except (ValueError, KeyError, TypeError):
            pass
        raise VarietError("answers, but not as Variet Engine does", where=url, next_step="Check the address")

    with httpx.Client(base_url=url, verify=unchecked, timeout=10, trust_env=False) as http:
        hello = post(http, "/engine/pairing/hello", ("salt", "authority"))
    try:
        authority = pairing.one_certificate(hello["authority"]) if hello["authority"] else ""
        salt, trusted = bytes.fromhex(hello["salt"]), pairing.fingerprint(authority)
    except ValueError as error:
        raise TrustError(
            f"told no proper salt or certificate ({error}); nothing was sent",
            where=url,
            next_step="Check the address; another machine may be in between",
        ) from None
    secret = pairing.stretch(code, salt)
    proof = pairing.prove(secret, "client", salt, nonce, called.encode(), trusted)
    with tempfile.TemporaryDirectory() as folder:
        pem = Path(folder, "authority.pem")
        pem.write_text(authority, encoding="ascii")
        engine = connection.Connection(url, authority=pem if authority else None)
        with client.client(engine) as http:
            body = {"name": called, "nonce": nonce.hex(), "proof": proof}
            made = post(http, "/engine/pairing/finish", ("name", "key", "proof"), body)
    if not pairing.proven(made["proof"], secret, "engine", nonce, salt, trusted, made["key"].encode()):
        raise TrustError(
            "did not prove that it knows the code; nothing was stored",
            where=url,
            next_step="Another machine may be in between: remove the new key on Machine A, and pair on a safe network",
        )
    stored = connection.save_pairing(url, made["key"], authority)
    if as_json:
        print_json({"url": url, "name": made["name"], "stored": str(stored)})
        return
    click.echo(f"paired with {url} as {made['name']!r}; key and certificate authority are in {stored.parent}")
    if not authority:
        click.echo("That engine speaks plain HTTP: whoever listens to the network can read along.", err=True)
    click.echo("try:  variet status", err=True)
