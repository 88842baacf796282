"""The servers of tools and policy speak of the same tools: none is offered that policy does not know, nor otherwise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from variet.agent.prompt.system import FURTHER
from variet.agent.servers import Servers
from variet.agent.tools.base import schema
from variet.agent.tools.served import ServedTool, served_tools
from variet.assistant.calendar.models import Changes, Details
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


def lean(told: dict[str, Any]) -> str:
    """Of an argument, its type alone."""
    kinds = [one.get("type") for one in told.get("anyOf", [told]) if one.get("type") != "null"]
    return str(kinds[0])


async def test_an_assistants_own_tools_are_those_of_the_servers() -> None:
    every = {name: tool for one in ("search", "mail", "calendar") for name, tool in (await offered(one)).items()}
    named = [one for one in served_tools(Servers()) if isinstance(one, ServedTool)]
    for tool in named:
        ours, theirs = schema(tool.args), every[tool.of].input_schema
        assert set(ours.get("required", [])) == set(theirs.get("required", [])), tool.of
        for name, told in ours["properties"].items():
            assert lean(told) == lean(theirs["properties"][name]), (tool.of, name)
    rest = set(every) - {tool.of for tool in named}
    listed = dict(re.findall(r"([a-z]+\.[a-z]+)\((.*?)\)", FURTHER))
    assert set(listed) == rest
    for name, told in listed.items():
        words = re.findall(r"(\w+)(\?)?(?=[,:]|$)", re.sub(r"\{.*?\}", "", told))
        wanted = every[name].input_schema
        assert {one for one, _ in words} == set(wanted["properties"]), name
        assert {one for one, optional in words if not optional} == set(wanted.get("required", [])), name
    for inner, model in (("changes", Changes), ("details", Details)):
        [told] = re.findall(inner + r": \{(.*?)\}", FURTHER)
        assert set(re.findall(r"(\w+)\?", told)) == set(model.model_fields)


async def test_whatever_acts_is_done_by_the_broker_and_nothing_else_is(tmp_path: Path) -> None:
    accounts = Accounts(SealedFile(tmp_path / "secrets.sealed"))
    assert set(hands(accounts)) == {name for name, trait in TRAITS.items() if trait.kind == "act"}
    await accounts.close()
