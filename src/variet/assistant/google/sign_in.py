"""One sign-in of an installed app: the browser asks the person, and comes back to a port of this machine.

PKCE (RFC 7636) and a state bind the answer to the question; oauthlib knows the protocol (RFC 6749, RFC 8252).
https://developers.google.com/identity/protocols/oauth2/native-app
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from oauthlib.oauth2 import OAuth2Error, WebApplicationClient

from variet.assistant.google.places import Places
from variet.assistant.google.scopes import ASKED, Purpose
from variet.assistant.problems import ToolProblem

_PATIENCE_S = 600.0
_REQUEST_S = 10.0
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Variet</title>
<body style="font: 1.1rem system-ui; margin: 4rem auto; max-width: 32rem"><h1>{head}</h1><p>{text}</p>"""


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """As Google's console gives it for a desktop app; its secret is none, by Google's own words."""

    client_id: str
    client_secret: str


@dataclass(frozen=True, slots=True)
class Grant:
    """What a sign-in gave. `refresh_token`: what a new access token is had by; `lasts_s`: if Google says how long."""

    refresh_token: str
    access_token: str
    expires_s: float
    scopes: frozenset[str]
    lasts_s: float | None = None


class SignIn:
    """`begin`, then `wait`; `close` in any case."""

    def __init__(self, places: Places, purpose: Purpose, client: OAuthClient, http: httpx.AsyncClient) -> None:
        self._places = places
        self._purpose = purpose
        self._client = client
        self._http = http
        self._oauth = WebApplicationClient(client.client_id)
        self._verifier = self._oauth.create_code_verifier(96)
        self._state = secrets.token_urlsafe(32)
        self._came: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._server: asyncio.Server | None = None
        self._redirect = ""

    async def begin(self) -> str:
        """The address to open in a browser."""
        self._server = await asyncio.start_server(self._arrived, "127.0.0.1", 0)
        asyncio.get_running_loop().call_later(_PATIENCE_S, self.close)  # nobody may ever wait for it
        self._redirect = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"
        challenge = self._oauth.create_code_challenge(self._verifier, "S256")
        url: str = self._oauth.prepare_request_uri(
            _https(self._places.consent), redirect_uri=self._redirect, scope=list(ASKED[self._purpose].values()),
            state=self._state, code_challenge=challenge, code_challenge_method="S256",
            access_type="offline", prompt="consent",  # else there is no refresh token the second time
        )  # fmt: skip
        return self._places.consent + url.removeprefix(_https(self._places.consent))

    async def wait(self) -> Grant:
        """Raises ToolProblem: nobody came, the person said no, Google refused."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                query = await self._came
        except TimeoutError:
            raise ToolProblem("timeout", "nobody signed in within ten minutes") from None
        back = f"{_https(self._redirect)}?{query}"
        try:
            code = self._oauth.parse_request_uri_response(back, state=self._state)["code"]
        except OAuth2Error as error:
            if error.error == "access_denied":
                raise ToolProblem("rejected", "the sign-in was cancelled in the browser") from None
            raise ToolProblem("reauth_required", f"Google refused the sign-in: {error.error}") from None
        body = self._oauth.prepare_request_body(
            code=code, redirect_uri=self._redirect, client_secret=self._client.client_secret, include_client_id=True,
            code_verifier=self._verifier,
        )  # fmt: skip
        told = await asked_token(self._http, self._places, self._oauth, body)
        if not told.get("refresh_token"):
            raise ToolProblem("reauth_required", "Google gave no lasting sign-in", "Try again")
        return Grant(
            str(told["refresh_token"]), str(told["access_token"]), expires_s(told), scopes_of(told),
            expires_s(told, "refresh_token_expires_in") or None,
        )  # fmt: skip

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _arrived(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Browsers ask for an icon, too, and other programs may knock: only what has our state counts."""
        with contextlib.suppress(OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
            async with asyncio.timeout(_REQUEST_S):
                line = (await reader.readline()).decode("latin-1").split(" ")
                while (await reader.readline()).strip():
                    pass
                query = urlsplit(line[1]).query if len(line) == 3 and line[0] == "GET" else ""
                given = parse_qs(query).get("state", [""])[0]
                ours = secrets.compare_digest(given.encode(), self._state.encode()) and not self._came.done()
                if ours:
                    self._came.set_result(query)
                said_no = ours and "error=" in query
                writer.write(_answer("Not signed in" if said_no or not ours else "Your answer came", ours))
                await writer.drain()
        writer.close()


async def asked_token(
    http: httpx.AsyncClient, places: Places, oauth: WebApplicationClient, body: str
) -> Mapping[str, Any]:
    """Raises ToolProblem: `reauth_required` where Google knows the grant no more, `unavailable` for the rest."""
    try:
        answer = await http.post(
            places.token, content=body, headers={"content-type": "application/x-www-form-urlencoded"}
        )
    except httpx.HTTPError as error:
        raise ToolProblem("unavailable", f"Google cannot be reached: {type(error).__name__}") from None
    if answer.status_code >= 500 or answer.status_code == 429:
        raise ToolProblem("unavailable", f"Google's sign-in does not work now (HTTP {answer.status_code})")
    try:
        told: Mapping[str, Any] = oauth.parse_request_body_response(answer.text)
    except (OAuth2Error, ValueError, Warning) as error:
        name = getattr(error, "error", "") or type(error).__name__
        if name == "invalid_grant":
            raise ToolProblem(
                "reauth_required", "Google ended this sign-in", "Sign in again: variet auth google"
            ) from None
        raise ToolProblem("reauth_required", f"Google refused: {name}", "See docs/google.md") from None
    return told


def _https(url: str) -> str:
    """As oauthlib wants it, which refuses plain HTTP on loopback, too (RFC 8252, 7.3, does not)."""
    return url.replace("http://", "https://", 1)


def expires_s(told: Mapping[str, Any], field: str = "expires_in") -> float:
    try:
        return float(told.get(field) or 0)
    except (TypeError, ValueError):
        return 0.0


def scopes_of(told: Mapping[str, Any]) -> frozenset[str]:
    given = told.get("scope") or ()
    return frozenset(filter(None, given.split() if isinstance(given, str) else given))


def _answer(head: str, ours: bool) -> bytes:
    text = (
        "You can close this window; what came of it stands in the terminal."
        if ours
        else "This is no answer to a question of ours."
    )
    page = _PAGE.format(head=html.escape(head), text=html.escape(text)).encode()
    status = "200 OK" if ours else "404 Not Found"
    headers = (
        f"HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {len(page)}\r\n"
        "cache-control: no-store\r\nreferrer-policy: no-referrer\r\nconnection: close\r\n\r\n"
    )
    return headers.encode() + page
