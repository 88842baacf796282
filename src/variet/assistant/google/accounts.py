"""A person's Google account in the broker: two grants, one that reads and one that writes; tokens last an hour.

What lasts (refresh tokens) never leaves the broker; servers of tools get reading access tokens, and no others.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

import httpx
from oauthlib.oauth2 import WebApplicationClient

from variet.assistant.google.places import places
from variet.assistant.google.scopes import ASKED, Purpose, excess, services
from variet.assistant.google.sign_in import Grant, OAuthClient, SignIn, asked_token, expires_s, scopes_of
from variet.assistant.problems import ToolProblem
from variet.assistant.secrets.keep import Secrets

_EARLY_S = 120.0  # a token is renewed before it ends
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Token:
    """`ends_at`: by the event loop's clock, which nobody sets."""

    text: str
    ends_at: float
    email: str
    services: frozenset[str]


class Accounts:
    """Every method raises ToolProblem."""

    def __init__(self, keep: Secrets) -> None:
        self._secrets = keep
        self._http = httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False)
        self._flows: dict[str, tuple[Purpose, OAuthClient, SignIn]] = {}
        self._tokens: dict[Purpose, Token] = {}
        self._renewing: dict[Purpose, asyncio.Lock] = {"read": asyncio.Lock(), "write": asyncio.Lock()}

    def unlock(self, pin: str) -> None:
        """Where the secrets are sealed by the person's PIN."""
        self._secrets.unlock(pin)

    def reseal(self, pin: str) -> None:
        self._secrets.unlock(pin)  # the first PIN seals it
        self._secrets.reseal(pin)

    def forget(self) -> None:
        """All sign-ins, here alone."""
        for purpose in ASKED:
            self._tokens.pop(purpose, None)
            with contextlib.suppress(ToolProblem):
                self._secrets.drop(f"google-{purpose}")

    async def close(self) -> None:
        for _, _, flow in self._flows.values():
            flow.close()
        await self._http.aclose()

    async def begin(self, purpose: Purpose, client: OAuthClient) -> dict[str, str]:
        """{flow, url}: what `finish` wants, and what the browser is to open."""
        other = self._held("write" if purpose == "read" else "read")
        if other and other["client_id"] == client.client_id:
            raise ToolProblem(
                "bad_request", "reading and writing want an OAuth client each, and this one is the other's",
                "Make a second one in the console (docs/google.md)",
            )  # fmt: skip
        flow = SignIn(places(), purpose, client, self._http)
        name = secrets.token_hex(8)
        self._flows[name] = (purpose, client, flow)
        return {"flow": name, "url": await flow.begin()}

    async def finish(self, name: str) -> dict[str, Any]:
        """Once the person answered in the browser: {email, services, missing}."""
        if name not in self._flows:
            raise ToolProblem("not_found", "there is no such sign-in")
        purpose, client, flow = self._flows.pop(name)
        try:
            grant = await flow.wait()
        finally:
            flow.close()
        too_much = excess(purpose, grant.scopes)
        if too_much:
            await self._revoke(grant.refresh_token)
            raise ToolProblem(
                "insufficient_scope", f"this client was granted more than reading: {', '.join(sorted(too_much))}",
                "Use a client of its own for reading (docs/google.md)",
            )  # fmt: skip
        able = services(purpose, grant.scopes)
        if not able:
            await self._revoke(grant.refresh_token)
            raise ToolProblem("insufficient_scope", "nothing was allowed in the browser", "Tick the boxes there")
        email = await self._email(grant, able)
        if not email:
            await self._revoke(grant.refresh_token)
            raise ToolProblem("unavailable", "Google does not say which account this is", "Try again")
        known = self._held("write" if purpose == "read" else "read")
        if known and (known["email"] != email or known["client_id"] == client.client_id):
            await self._revoke(grant.refresh_token)
            raise ToolProblem("bad_request", f"{known['email']} is signed in already, by a client that must be another")
        before = self._held(purpose)
        held = {
            "client_id": client.client_id, "client_secret": client.client_secret, "email": email,
            "refresh_token": grant.refresh_token, "scopes": sorted(grant.scopes), "since_s": time.time(),
            "ends_s": time.time() + grant.lasts_s if grant.lasts_s else None,
        }  # fmt: skip
        async with self._renewing[purpose]:
            self._secrets.put(f"google-{purpose}", json.dumps(held))
            self._remember(purpose, grant.access_token, grant.expires_s, email, able)
        if before and before["client_id"] != client.client_id:
            await self._revoke(str(before["refresh_token"]))  # of the same client, it would end the new one, too
        missing = sorted(set(ASKED[purpose]) - able)
        return {"email": email, "services": sorted(able), "missing": missing, "kept_in": self._secrets.kind}

    async def token(self, purpose: Purpose, service: str, stale: str = "") -> Token:
        """One that works for a while. `stale`: one that Google did not take any more."""
        async with self._renewing[purpose]:
            token = self._tokens.get(purpose)
            now = asyncio.get_running_loop().time()
            if token is None or token.text == stale or token.ends_at - _EARLY_S < now:
                token = await self._renewed(purpose)
        if service not in token.services:
            raise ToolProblem(
                "insufficient_scope", f"the sign-in that {purpose}s does not cover {service}",
                f"Sign in again and tick its box: variet auth google --{purpose}",
            )  # fmt: skip
        return token

    async def revoke(self, purpose: Purpose) -> bool:
        """Forgotten here in any case. True where Google took it back, too."""
        async with self._renewing[purpose]:
            held = self._held(purpose)
            self._tokens.pop(purpose, None)
            self._secrets.drop(f"google-{purpose}")
        return bool(held) and await self._revoke(str((held or {})["refresh_token"]))

    def status(self) -> list[dict[str, Any]]:
        """Of each sign-in there is, nothing secret."""
        found = []
        for purpose in ASKED:
            held = self._held(purpose)
            if held:
                able = sorted(services(purpose, frozenset(held["scopes"])))
                times = {name: held.get(name) for name in ("since_s", "ends_s")}  # older sign-ins have none
                found.append({"purpose": purpose, "email": held["email"], "services": able, **times})
        return found

    async def _renewed(self, purpose: Purpose) -> Token:
        held = self._held(purpose)
        if held is None:
            raise ToolProblem("reauth_required", f"no Google account that {purpose}s is signed in",
                              f"Run: variet auth google --{purpose}")  # fmt: skip
        oauth = WebApplicationClient(held["client_id"])
        body = oauth.prepare_refresh_body(
            refresh_token=held["refresh_token"], client_id=held["client_id"], client_secret=held["client_secret"]
        )
        told = await asked_token(self._http, places(), oauth, body)
        scopes = scopes_of(told) or frozenset(held["scopes"])
        if excess(purpose, scopes):
            raise ToolProblem("insufficient_scope", "what reads was granted more than reading", "Sign in again")
        return self._remember(
            purpose, str(told["access_token"]), expires_s(told), held["email"], services(purpose, scopes)
        )

    def _remember(self, purpose: Purpose, text: str, lasts_s: float, email: str, able: frozenset[str]) -> Token:
        token = Token(text, asyncio.get_running_loop().time() + lasts_s, email, able)
        self._tokens[purpose] = token
        return token

    async def _email(self, grant: Grant, able: frozenset[str]) -> str:
        """The account's address, by what the grant may ask."""
        where = places()
        asked = (
            (f"{where.gmail}/gmail/v1/users/me/profile", "emailAddress") if "mail" in able
            else (f"{where.calendar}/calendar/v3/calendars/primary/events?maxResults=1", "summary")
        )  # fmt: skip
        try:
            answer = await self._http.get(asked[0], headers={"authorization": f"Bearer {grant.access_token}"})
            return str(answer.json().get(asked[1], "")) if answer.status_code == 200 else ""
        except (httpx.HTTPError, ValueError):
            return ""

    async def _revoke(self, token: str) -> bool:
        try:
            answer = await self._http.post(places().revoke, data={"token": token})
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    def _held(self, purpose: Purpose) -> dict[str, Any] | None:
        text = self._secrets.get(f"google-{purpose}")
        return json.loads(text) if text else None
