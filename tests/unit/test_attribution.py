"""The billing line at the head of some clients' prompts."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from variet.engine.attribution import without_attribution

LINE = "x-anthropic-billing-header: cc_version=2.1.197.abc; cc_entrypoint=cli; cch=0a1b2;"
HELLO = {"role": "user", "content": "hello"}


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        pytest.param(
            {"system": [{"type": "text", "text": LINE}, {"type": "text", "text": "You are an agent."}]},
            {"system": [{"type": "text", "text": "You are an agent."}]},
            id="a block of its own (Messages)",
        ),
        pytest.param({"system": f"{LINE}\nBe brief."}, {"system": "Be brief."}, id="a line (Messages)"),
        pytest.param(
            {"messages": [{"role": "system", "content": f"{LINE}\nBe brief."}, HELLO]},
            {"messages": [{"role": "system", "content": "Be brief."}, HELLO]},
            id="a line (chat)",
        ),
        pytest.param(
            {"messages": [{"role": "system", "content": LINE}, HELLO]}, {"messages": [HELLO]}, id="nothing else"
        ),
        pytest.param(
            {"instructions": f"{LINE}\nBe brief.", "input": "hi"},
            {"instructions": "Be brief.", "input": "hi"},
            id="Responses",
        ),
    ],
)  # fmt: skip
def test_the_line_goes_and_all_else_stays(body: dict[str, Any], kept: dict[str, Any]) -> None:
    assert without_attribution(body)
    assert body == kept


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [HELLO]},
        {"messages": [{"role": "user", "content": LINE}]},
        {"messages": [{"role": "system", "content": f"Never write {LINE}"}]},
        {"messages": [{"role": "system", "content": None}], "system": 3},
        {"messages": "hello"},
        {"messages": [[]], "system": [], "instructions": [{"text": 1}]},
        {"system": [{"type": "text", "text": "You."}, {"type": "text", "text": LINE}]},
    ],
)
def test_nothing_else_is_touched(body: dict[str, Any]) -> None:
    before = copy.deepcopy(body)
    assert not without_attribution(body)
    assert body == before
