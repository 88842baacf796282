"""The servers of tools and policy speak of the same tools: none is offered that policy does not know, nor otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from variet.assistant.calendar.server import server as calendar
from variet.assistant.google.accounts import Accounts
from variet.assistant.hands import hands
from variet.assistant.mail.server import server as mail
from variet.assistant.search.server import server as search
from variet.assistant.secrets.sealed import SealedFile
from variet.assistant.settings import SearchSettings
from variet.policy.assistant import TRAITS


async def offered(name: str) -> dict[str, Any]:
    made = {"search": lambda: search(SearchSettings()), "mail": mail, "calendar": calendar}[name]()
    return {f"{name}.{tool.name}": tool for tool in await made.list_tools()}


@pytest.mark.parametrize("name", ["search", "mail", "calendar"])
async def test_each_tool_has_its_trait_and_says_of_itself_what_policy_says(name: str) -> None:
    tools = await offered(name)
    assert set(tools) == {one for one in TRAITS if one.startswith(f"{name}.")}
    for full, tool in tools.items():
        assert tool.annotations.read_only_hint is (TRAITS[full].kind != "act"), full
        assert tool.description and len(tool.input_schema["properties"]) <= 5 and tool.output_schema, full


async def test_whatever_acts_is_done_by_the_broker_and_nothing_else_is(tmp_path: Path) -> None:
    accounts = Accounts(SealedFile(tmp_path / "secrets.sealed"))
    assert set(hands(accounts)) == {name for name, trait in TRAITS.items() if trait.kind == "act"}
    await accounts.close()
