"""What `variet doctor --assistant` looks at: search, the broker, each sign-in and how long it lasts."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from datetime import timedelta

from variet.assistant import settings
from variet.assistant.broker.client import BrokerClient
from variet.assistant.environment import BROWSER
from variet.assistant.google.clock import ahead_s
from variet.assistant.google.lasting import lasting
from variet.assistant.problems import ToolProblem
from variet.assistant.sanitize.sight import sight_for
from variet.assistant.search.searxng import SearXNG
from variet.commands.doctor import Finding
from variet.errors import VarietError

_CLOCK_OFF_S = 90.0
_PUBLISH = "publish its app (docs/google.md, step 4), then sign in again: variet auth google"


async def findings() -> list[Finding]:
    return [*[one async for one in _search()], await asyncio.to_thread(_sight), *[one async for one in _broker()]]


def _sight() -> Finding:
    """Whether a browser says what is hidden. It is tried."""
    lacks = "styles are read without a browser, and more is taken out than must be"
    mend = f"install Chromium or Chrome, or name one as `browser` in {settings.file()}"
    try:
        wish = os.environ.get(BROWSER) or settings.load().browser
        sight = sight_for(wish)
    except VarietError as error:
        return Finding("settings", False, str(error), f"correct {settings.file()}")
    if sight is None:
        why = "the browser is switched off" if wish == "off" else "no Chromium was found"
        return Finding("hidden text", True, f"{why}: {lacks}", mend, warning=True)
    found = sight.look("<p>shown<p style='color:#fff'>not", "", {})
    sight.close()
    if found is None or "shown" not in found.html or "not" in found.html:
        why = f"{sight.executable} failed: {sight.why or 'it saw other words'}; {lacks}"
        return Finding("hidden text", True, why, mend, warning=True)
    return Finding("hidden text", True, f"{sight.executable} says what is seen of pages and mails")


async def _search() -> AsyncIterator[Finding]:
    try:
        wanted = settings.load().search
    except VarietError as error:
        yield Finding("settings", False, str(error), f"correct {settings.file()}")
        return
    searxng = SearXNG(wanted.url)
    try:
        await searxng.check()
        yield Finding("web search", True, f"SearXNG at {wanted.url} gives JSON")
    except ToolProblem as problem:
        yield Finding("web search", False, problem.what, problem.next_step)
    finally:
        await searxng.close()


async def _broker() -> AsyncIterator[Finding]:
    async with BrokerClient() as broker:
        try:
            told = await broker.call("hello")
        except ToolProblem as problem:
            yield Finding("broker", False, problem.what, problem.next_step)
            return
        where = "as a user of its own" if told["own_user"] else "as you (docs/security.md says what that means)"
        yield Finding("broker", True, f"runs {where}; {told['pending']} wait for you")
        pin = "set" if told["has_pin"] else "there is none, so nothing can be decided"
        yield Finding("PIN", bool(told["has_pin"]), pin, "variet approvals pin")
        try:
            accounts = await broker.call("auth.status")
        except ToolProblem as problem:
            yield Finding("sign-ins", False, problem.what, problem.next_step)
            return
        if not any(one["purpose"] == "read" for one in accounts):
            yield Finding("sign-ins", False, "mail and calendar cannot be read", "variet auth google (docs/google.md)")
        else:
            off_s = await ahead_s()
            if off_s is not None and abs(off_s) > _CLOCK_OFF_S:
                which = "ahead of" if off_s > 0 else "behind"
                off = f"this machine's is {timedelta(seconds=round(abs(off_s)))} {which} Google's"
                yield Finding("clock", False, off, "have it set by the network: sudo timedatectl set-ntp true")
        for one in accounts:
            what = f"sign-in that {one['purpose']}s"
            known = lasting(one["since_s"], one["ends_s"], time.time())
            told_of = f"{one['email']}, for {' and '.join(one['services'])}; {known.words}"
            mend = _PUBLISH if known.doubtful or known.over else ""
            yield Finding(what, not known.over, told_of, mend, warning=known.doubtful)
            if one["purpose"] == "read":
                for service in one["services"]:
                    try:
                        await broker.call("token", service=service)
                    except ToolProblem as problem:
                        yield Finding(f"reading {service}", False, problem.what, problem.next_step)
