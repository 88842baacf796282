"""A client's own dialog, where it has one (MCP's elicitation): it shows what waits and where to decide. It decides
nothing, whatever is clicked: a client can click by itself.

Two eras of the protocol: up to 2025-11-25 the server asks in the middle of the call, since 2026-07-28 the call ends
with the question and is made again. https://modelcontextprotocol.io/specification (client/elicitation)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, TypeVar

from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp.types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult
from pydantic import BaseModel

from variet.approval import Approval
from variet.visible import one_line, visible

_LOG = logging.getLogger(__name__)
_MODERN = "2026-07-28"
_MOST_SHOWN = 4_000  # characters

T = TypeVar("T")


class _Nothing(BaseModel):
    """What is asked for: only that it was seen."""


def words(approval: Approval) -> str:
    """What waits, its strange words behind bars alone."""
    shown = visible(approval.preview)
    more = "\n  | … (all of it: variet approvals)" if len(shown) > _MOST_SHOWN else ""
    body = "\n".join(f"  | {line}" for line in shown[:_MOST_SHOWN].split("\n"))
    head = f"{one_line(approval.summary, 300)}\nWaits, because {one_line(approval.reason, 300)}."
    return f"{head}\n{body}{more}\nNothing here decides: run `variet approvals`, then go on."


def question(context: Context[Any, Any], approval: Approval) -> InputRequiredResult | None:
    """How a call ends that asks, in the later era; None where it does not: another era, no dialog, shown already."""
    if not _modern(context) or not _has_dialog(context) or context.input_responses is not None:
        return None
    params = ElicitRequestFormParams(message=words(approval), requested_schema={"type": "object", "properties": {}})
    return InputRequiredResult(input_requests={"seen": ElicitRequest(params=params)})


async def beside(context: Context[Any, Any], approval: Approval, decided: Awaitable[T]) -> T:
    """Shows it in the earlier era while `decided` is waited for, whose outcome alone counts."""
    if _modern(context) or not _has_dialog(context) or not context.session.can_send_request:
        return await decided
    showing = asyncio.create_task(_show(context, approval))
    try:
        return await decided
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)


async def _show(context: Context[Any, Any], approval: Approval) -> None:
    try:
        await context.elicit(words(approval), _Nothing)
    except (MCPError, ValueError) as error:
        _LOG.debug("a client showed nothing: %s", error)


def _modern(context: Context[Any, Any]) -> bool:
    return (context.protocol_version or "") >= _MODERN


def _has_dialog(context: Context[Any, Any]) -> bool:
    able = context.client_capabilities
    forms = able.elicitation if able is not None else None
    return forms is not None and (forms.form is not None or forms.url is None)  # a bare {} is of before there were two
