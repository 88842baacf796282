"""toolcalls.py against a corpus in both directions: what models write for calls, and what merely looks like one."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from variet.toolcalls import Sieve, ToolCall, find, tools_of

STRING = {"type": "string"}
OFFERED = [
    {"type": "function", "function": {"name": name, "description": "", "parameters": parameters}}
    for name, parameters in (
        ("read_file", {"type": "object", "properties": {"path": STRING}, "required": ["path"]}),
        ("write_file", {
            "type": "object", "properties": {"path": STRING, "content": STRING}, "required": ["path", "content"],
            "additionalProperties": False,
        }),
        ("get_weather", {
            "type": "object",
            "properties": {"city": STRING, "days": {"type": "integer"}, "exact": {"type": "boolean"}},
            "required": ["city"],
        }),
        ("list_files", {"type": "object", "properties": {}}),
    )
]  # fmt: skip
TOOLS = tools_of(OFFERED)
PARIS = ("get_weather", {"city": "Paris"})
A_TXT = ("read_file", {"path": "a.txt"})
READ = '{"name": "read_file", "arguments": {"path": "a.txt"}}'
WEATHER = '{"name": "get_weather", "arguments": {"city": "Paris"}}'

CALLS: list[tuple[str, str, list[tuple[str, dict[str, Any]]]]] = [
    # Qwen2.5-Coder, as llama-server hands it on
    (f"```json\n{WEATHER}\n```", "", [PARIS]),
    (f"Let me look.\n\n```json\n{READ}\n```\n", "Let me look.\n\n", [A_TXT]),
    (f"```json\n{READ}\n```\n\n```json\n{WEATHER}\n```", "", [A_TXT, PARIS]),
    (f"```json\n[{READ}, {WEATHER}]\n```", "", [A_TXT, PARIS]),
    (f"```json\n{READ}\n{WEATHER}\n```", "", [A_TXT, PARIS]),
    (f"```\n{READ}\n```", "", [A_TXT]),
    (f"```json\n{READ}", "", [A_TXT]),  # the end forgotten
    (f"```tool_call\n{READ}\n```", "", [A_TXT]),
    ('```json\n{\n  "name": "get_weather",\n  "arguments": {\n    "city": "Paris"\n  }\n}\n```', "", [PARIS]),
    # bare
    (READ, "", [A_TXT]),
    (f"I will read it.\n{READ}", "I will read it.\n", [A_TXT]),
    (f"  {READ}\n{WEATHER}\n", "", [A_TXT, PARIS]),
    (f"[{READ}]", "", [A_TXT]),
    ('{"name": "read_file", "parameters": {"path": "a.txt"}}', "", [A_TXT]),
    ('{"type": "function", "name": "read_file", "parameters": {"path": "a.txt"}}', "", [A_TXT]),
    ('{"type": "function", "function": {"name": "read_file", "arguments": "{\\"path\\": \\"a.txt\\"}"}}', "", [A_TXT]),
    ('{"tool": "read_file", "args": {"path": "a.txt"}}', "", [A_TXT]),
    ('{"function": "read_file", "args": {"path": "a.txt"}}', "", [A_TXT]),
    ('{"arguments": {"path": "a.txt"}, "name": "read_file"}', "", [A_TXT]),
    ('{"name": "list_files"}', "", [("list_files", {})]),
    ('{"name": "write_file", "arguments": {"path": "a", "content": "one\ntwo"}}', "",
     [("write_file", {"path": "a", "content": "one\ntwo"})]),  # a line end as it is
    # a long string as Python has it
    ('```json\n{\n  "name": "write_file",\n  "arguments": {\n    "path": "a",\n    "content": """\ndef f():\n'
     '    """Say "x\\n"."""\n    return {1: 2}\n    """\n  }\n}\n```', "",
     [("write_file", {"path": "a", "content": 'def f():\n    """Say "x\\n"."""\n    return {1: 2}\n'})]),
    (f'{{"name": "write_file", "arguments": {{"content": """one""", "path": """a"""}}}}\n{READ}', "",
     [("write_file", {"content": "one", "path": "a"}), A_TXT]),
    (f"{{{READ}}}", "", [A_TXT]),  # the braces doubled, as Qwen2.5's template shows them
    (f"```json\n{{{READ}}}\n```", "", [A_TXT]),
    (f"<tool_call>\n{{{READ}}}\n</tool_call>", "", [A_TXT]),
    # Hermes, Qwen
    (f"<tool_call>\n{READ}\n</tool_call>", "", [A_TXT]),
    (f"I look.\n<tool_call>\n{READ}\n</tool_call>\n<tool_call>\n{WEATHER}\n</tool_call>", "I look.\n", [A_TXT, PARIS]),
    (f"Now: <tool_call>{READ}</tool_call>", "Now: ", [A_TXT]),
    (f"<tool_call>{READ}", "", [A_TXT]),
    (f"<tool_call>{READ}</tool_call>\nDone.", "Done.", [A_TXT]),
    (f"<tool_call>{READ}</tool_call>\nAnd:\n<tool_call>{WEATHER}</tool_call>", "And:\n", [A_TXT, PARIS]),
    (f"```xml\n<tool_call>{READ}</tool_call>\n```", "", [A_TXT]),
    # Qwen3-Coder
    ("<tool_call>\n<function=read_file>\n<parameter=path>\na.txt\n</parameter>\n</function>\n</tool_call>", "",
     [A_TXT]),
    ("<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
     "<parameter=exact>\nTrue\n</parameter>\n</function>", "",
     [("get_weather", {"city": "Paris", "days": 3, "exact": True})]),
    ("<function=write_file><parameter=path>a</parameter><parameter=content>\nx = 1\n\ny = 2\n</parameter></function>",
     "", [("write_file", {"path": "a", "content": "x = 1\n\ny = 2"})]),
    ("<function=list_files>\n</function>", "", [("list_files", {})]),
    ("<tool_call><function=read_file><parameter=path>a.txt</parameter></tool_call>\n"
     "<tool_call><function=get_weather><parameter=city>Paris</parameter></function></tool_call>", "", [A_TXT, PARIS]),
    ("<function=write_file><parameter=path>a</parameter><parameter=content>use <function=x></function></parameter>"
     "</function>", "", [("write_file", {"path": "a", "content": "use <function=x></function>"})]),
    # Mistral
    (f"[TOOL_CALLS][{READ}]", "", [A_TXT]),
    ('[TOOL_CALLS]read_file[ARGS]{"path": "a.txt"}', "", [A_TXT]),
    ('[TOOL_CALLS]read_file{"path": "a.txt"}[TOOL_CALLS]get_weather{"city": "Paris"}', "", [A_TXT, PARIS]),
    # Llama
    ('<|python_tag|>{"name": "read_file", "parameters": {"path": "a.txt"}}', "", [A_TXT]),
    # Gemma 4
    ('<|tool_call>call:get_weather{city:<|"|>Paris<|"|>}<tool_call|>', "", [PARIS]),
    ('<|tool_call>call:write_file{content:<|"|>say "hi", {you}<|"|>,path:<|"|>a<|"|>}<tool_call|>', "",
     [("write_file", {"content": 'say "hi", {you}', "path": "a"})]),
    ('<|tool_call>call:get_weather{city:<|"|>Paris<|"|>,days:3,exact:true,more:[1,<|"|>x<|"|>],deep:{a:null}}'
     "<tool_call|>", "",
     [("get_weather", {"city": "Paris", "days": 3, "exact": True, "more": [1, "x"], "deep": {"a": None}})]),
    # Gemma 3
    ('```tool_code\nget_weather(city="Paris")\n```', "", [PARIS]),
    ('```tool_code\nprint(get_weather(city="Paris"))\n```', "", [PARIS]),
    ('```tool_code\n[read_file(path="a.txt"), get_weather(city="Paris")]\n```', "", [A_TXT, PARIS]),
]  # fmt: skip

TEXTS = [
    "",
    "Hello.\n",
    "   \n\n",
    "Use `read_file` for that.",
    "Call it as `<tool_call>{}</tool_call>`.",
    f"It would be:\n\n```json\n{READ}\n```\n\nThat reads the file.",  # shown, not done
    f"{READ}\nis what a call looks like.",
    f"Models say {READ} for that.",  # in a line
    f"Models say `{READ}` for that.",
    '```json\n{"name": "Ada", "age": 36}\n```',
    '```json\n{"name": "rm_rf", "arguments": {}}\n```',
    '{"name": "rm_rf", "arguments": {"path": "/"}}',
    '{"name": "read_file", "arguments": {"file": "a.txt"}}',  # what it must have lacks
    '{"name": "read_file", "arguments": "a.txt"}',
    '{"name": "read_file", "arguments": ["a.txt"]}',
    '{"name": "read_file"}',
    '{"name": "write_file", "arguments": {"path": "a", "content": "b", "mode": 7}}',  # and this one takes no more
    '{"path": "a.txt"}',
    '{"name": "read_file", "arguments": {"path": "a.t',  # cut
    "[1, 2, 3]",
    "[]",
    "{}",
    "[link](https://example.org) and {braces}",
    "[x] done\n[ ] to do",
    '```python\nimport json\nprint(json.dumps({"name": "read_file", "arguments": {"path": "a.txt"}}))\n```',
    f"```python\n{READ}\n```",
    f"````markdown\n```json\n{READ}\n```\n````",
    f"```python\ncall = '''\n<tool_call>{READ}</tool_call>\n'''\n```\n",
    "```\n<tool_call>\n```",
    "<tool_call>what I would do</tool_call>",
    '<tool_call>{"name": "rm_rf", "arguments": {}}</tool_call>',
    "<function=rm_rf></function>",
    "<function=read_file></function>",
    "[TOOL_CALLS]",
    "[TOOL_CALLS]rm_rf{}",
    "[TOOL_CALLS]read_file",
    "<|tool_call>call:get_weather{city:",
    "<|tool_call>call:rm_rf{}<tool_call|>",
    "<|python_tag|>print(1)",
    "```tool_code\nimport os\n```",
    '```tool_code\nos.system("x")\n```',
    '```tool_code\nget_weather("Paris")\n```',
    '```tool_code\nget_weather(city=open("x"))\n```',
    "a < b and c <tool",
    "``",
    "```",
    "```json",
    "```json\n",
    "text ```json inline``` text",
    "```js\nconst a = {\n```\nThen more.\n",
    "{" * 3000,
    "[" * 3000,
    "\\" * 50 + "`" * 50,
    f"{{{READ}",
    "{{ templates }} and {{name}}",
    "```" + "{" * 100 + "\n```json\n{}\n```",  # no language has so long a name
    "Say `<tool_call>" + READ + "</tool_call>`",
    f"it looks like `x <tool_call>{READ}</tool_call>` and so on",
    "<function=write_file><parameter=path>main.py</parameter><parameter=content>\nimport os\ndef ma",  # cut
    "<function=write_file>\n<parameter=pa",
    "<function=read_file><parameter=path>a.txt",
    "You could use <function=list_files> to see them. Now the important part: do X.",
    "<function=list_files>" + "<parameter=path " * 300,
    '{"name": "list_files", "status": "passed", "duration": 3}',
    '{"name": "list_files", "description": "Lists", "parameters": {"type": "object", "properties": {}}}',
    '{"name": "list_files", "parameters": {"type": "object", "properties": {}}}',
    "```tool_code\nget_weather(city={1,2})\n```",
    '```tool_code\nget_weather(city=b"x")\n```',
    "```tool_code\nget_weather(city={[]: 1})\n```",
    "```tool_code\nget_weather(city=...)\n```",
    '{"name": "get_weather", "arguments": {"city": "\\ud83d"}}',  # half a character
    '{"name": "get_weather", "arguments": {"city": NaN}}',
    "{ " + " " * 300 + '"name": "read_file"}',
    "{\n" * 100 + '"name"',
]


def streamed(text: str, cuts: list[int]) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    sieve = Sieve(TOOLS)
    out = "".join(sieve.feed(text[start:end]) for start, end in pairwise(places))
    rest, calls = sieve.end()
    return out + rest, [(one.name, one.arguments) for one in calls]


@pytest.mark.parametrize(("text", "left", "calls"), CALLS)
@settings(max_examples=15)
@given(cuts=st.lists(st.integers(0, 10_000), max_size=30))
def test_what_models_write_for_calls(
    text: str, left: str, calls: list[tuple[str, dict[str, Any]]], cuts: list[int]
) -> None:
    assert streamed(text, cuts) == (left, calls)


@pytest.mark.parametrize("text", TEXTS)
@settings(max_examples=15)
@given(cuts=st.lists(st.integers(0, 10_000), max_size=30))
def test_what_merely_looks_like_one_passes_untouched(text: str, cuts: list[int]) -> None:
    assert streamed(text, cuts) == (text, [])


_PARTS = [*(text for text, _, _ in CALLS), *TEXTS, "\n", "```", "`", " ", "word", "{", '"name": "read_file"']


@settings(max_examples=300)
@given(parts=st.lists(st.sampled_from(_PARTS), max_size=6), cuts=st.lists(st.integers(0, 10_000), max_size=30))
def test_pieces_do_not_matter_and_nothing_is_lost(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    whole, calls = find(text, TOOLS)
    assert streamed(text, cuts) == (whole, [(one.name, one.arguments) for one in calls])
    if not calls:
        assert whole == text
    for one in calls:
        assert TOOLS[one.name].takes(one.arguments)
        json.dumps(one.arguments)


def test_text_is_not_held_back_longer_than_it_must() -> None:
    sieve = Sieve(TOOLS)
    assert sieve.feed("Hello, ") == "Hello, "
    assert sieve.feed("wor") == "wor"
    assert sieve.feed("ld <") == "ld "
    assert sieve.feed("b>") == "<b>"
    assert sieve.feed("\n```py") == "\n"
    assert sieve.feed("thon\nx = {") == "```python\nx = {"
    assert sieve.feed("}\n```\n") == "}\n```\n"
    assert sieve.feed('{"answer": ') == '{"answer": ', "JSON that is no call"
    assert sieve.feed("42}\n") == "42}\n"
    assert sieve.feed(READ[:20]) == ""
    assert sieve.feed(READ[20:]) == ""
    assert sieve.end() == ("", [ToolCall(*A_TXT)])


def test_a_large_file_in_a_call_takes_no_time() -> None:
    content = "line of a file\n" * 20_000
    text = json.dumps({"name": "write_file", "arguments": {"path": "a", "content": content}})
    sieve = Sieve(TOOLS)
    for start in range(0, len(text), 4):
        assert sieve.feed(text[start : start + 4]) == ""
    assert sieve.end()[1][0].arguments["content"] == content


def test_what_was_offered_is_read_as_it_comes() -> None:
    odd: list[Any] = [3, {}, {"function": 3}, {"function": {"name": 3}}, {"function": {"name": "x", "parameters": 3}}]
    assert list(tools_of(odd)) == ["x"] and tools_of(None) == {}
    assert tools_of([{"function": {"name": "y", "parameters": {"required": 3, "properties": 4}}}])["y"].takes({"a": 1})


def test_numbers_beyond_64_bits_are_written_as_they_came() -> None:
    text, calls = find('{"name": "get_weather", "arguments": {"city": 123456789012345678901234567890}}', TOOLS)
    assert (text, calls[0].written) == ("", '{"city":123456789012345678901234567890}')
