"""An approval as an editor's dialog: what it shows, which answers it offers, what an answer decides."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import acp
from acp import schema

from variet.agent.events import Diff
from variet.approval import Approval, Decision
from variet.surfaces.acp.updates import diffs_of
from variet.visible import one_line

log = logging.getLogger("variet.acp")

_OPTIONS = {
    "once": schema.PermissionOption(option_id="once", name="Allow", kind="allow_once"),
    "session": schema.PermissionOption(option_id="session", name="Allow for this session", kind="allow_always"),
    "always": schema.PermissionOption(option_id="always", name="Always allow in this folder", kind="allow_always"),
}
_REJECT = schema.PermissionOption(option_id="no", name="Reject", kind="reject_once")


async def ask(editor: Any, session_id: str, approval: Approval, root: Path) -> Decision:
    """A person's decision, by the editor's dialog. What is no clear yes is a no."""
    call = schema.ToolCallUpdate(
        tool_call_id=approval.id.removeprefix("approval-"), title=approval.summary, status="pending",
        content=_shown(approval, root), field_meta={"variet": approval.model_dump()},
    )  # fmt: skip
    options = [*(_OPTIONS[scope] for scope in approval.scopes), _REJECT]
    chosen, meta = "no", dict[str, Any]()
    try:
        answer = await editor.request_permission(session_id, call, options)
        chosen = answer.outcome.option_id if isinstance(answer.outcome, schema.AllowedOutcome) else "no"
        meta = answer.field_meta or {}
    except Exception as error:  # noqa: BLE001 - an editor that fails has not said yes
        log.warning("the editor did not ask its person: %s: %s", type(error).__name__, error)
        meta = {"feedback": "The editor could not ask the user."}
    scope = next((one for one in approval.scopes if one == chosen), None)
    return Decision(
        approval_id=approval.id, payload_sha256=approval.payload_sha256, choice="approve" if scope else "reject",
        scope=scope or "once", surface="acp", feedback=meta.get("feedback"),
    )  # fmt: skip


def _shown(approval: Approval, root: Path) -> list[Any]:
    """What a dialog shows: the change itself, or all that the call is given."""
    if approval.sink == "write" and approval.preview.startswith("--- "):
        name = approval.preview.split("\n", 2)[1].removeprefix("+++ b/")
        diff = Diff(path=name, before_sha256="", after_sha256=None, patch=approval.preview)
        return diffs_of(diff, root)
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", approval.preview)), 3)
    head = f"{one_line(approval.summary)}\n\nbecause {one_line(approval.reason)}"
    return [acp.tool_content(acp.text_block(f"{head}\n\n{fence}\n{approval.preview}\n{fence}"))]
