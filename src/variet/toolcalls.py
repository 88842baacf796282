"""Pure: tool calls that a model wrote as text. The engine and the agent find them with the same parser.

Small models, and large ones whose template the server does not know, answer with a fence of JSON, with bare JSON, or
with the markup of another family. A call counts if it names a tool that was offered and has the arguments this one
must have. Everything else stays text, byte for byte: code, JSON that is an answer, a call inside an explanation.

Forms: ```json {"name", "arguments"}```, and the same bare, long strings also in three quotes;
<tool_call>JSON</tool_call> (Hermes, Qwen);
<function=NAME><parameter=KEY>VALUE</parameter></function> (Qwen3-Coder); [TOOL_CALLS] with a list, or NAME[ARGS]JSON
(Mistral); <|python_tag|>JSON (Llama); <|tool_call>call:NAME{key:<|"|>text<|"|>}<tool_call|> (Gemma 4);
```tool_code NAME(key='text')``` (Gemma 3). Markup counts wherever it stands outside code; JSON and tool_code only where
nothing follows but further calls, since models also show what a call would look like.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

MOST_HELD = 400_000  # characters; beyond, what is held is text after all. Whole files are written in calls
_MARKUP = ("<tool_call>", "<function=", "[TOOL_CALLS]", "<|python_tag|>", "<|tool_call>")
_SIGN = re.compile("|".join([*map(re.escape, _MARKUP), r"(?m:^[ \t]*```)", r"(?m:^[ \t]*[{\[])"]))
_INFO = 64  # characters, the most that may name the language of a fence
_HEAD = 200  # characters, in which a call must have shown itself
# Whatever is decided must not depend on where an answer was cut: hence these bounds, which hold for whole texts, too.
_FENCE = re.compile(rf"[ \t]*(`{{3,}})([^\n`]{{0,{_INFO}}})\n")
_LANGUAGES = frozenset(
    {"", "json", "jsonc", "tool_call", "tool_calls", "tool", "tool_code", "xml", "text", "plaintext"}
)
_MOST_PARAMETER = 64  # characters of a parameter's name in markup
_NAME_KEYS = ("name", "tool", "tool_name", "function", "function_name")
_ARGUMENT_KEYS = ("arguments", "parameters", "args", "input", "params", "tool_input")
_OTHER_KEYS = ("type", "id", "call_id", "index")  # what else stands in a call; any other key: it is not one
_FIRST_KEY = re.compile(r'\s*(?:\[\s*)?\{{1,2}\s*"([A-Za-z_]{1,20})"\s*:\s*')
_FIRST_KEY_BEGUN = re.compile(r'\s*(?:\[\s*)?(?:\{{1,2}\s*(?:"[A-Za-z_]{0,20}"?\s*:?\s*)?)?$')
_WORD = re.compile(r"[A-Za-z_][\w.-]{0,63}")
_TRIPLE = re.compile(r'(:\s*)"""(.*?)"""(?=\s*[,}\]])', re.DOTALL)
_DECODER = json.JSONDecoder(strict=False)  # small models put line ends into strings as they are


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that was offered: which arguments it must have, of which JSON type each is; `closed`: takes no others."""

    name: str
    required: frozenset[str] = frozenset()
    types: Mapping[str, str] = field(default_factory=dict)
    closed: bool = False

    def takes(self, arguments: Mapping[str, Any]) -> bool:
        """Whether these arguments may be meant for it."""
        return self.required <= set(arguments) and not (self.closed and set(arguments) - set(self.types))


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of an offered tool; `written`: its arguments as JSON."""

    name: str
    arguments: dict[str, Any]
    written: str = field(default="", compare=False)


Tools = Mapping[str, Tool]


def tools_of(offered: Any) -> dict[str, Tool]:
    """The tools of a Chat Completions request by name; what is none is left out."""
    tools = {}
    for one in offered if isinstance(offered, list) else ():
        function = one.get("function") if isinstance(one, dict) else None
        if isinstance(function, dict) and isinstance(function.get("name"), str) and function["name"]:
            tools[function["name"]] = _tool(function["name"], function.get("parameters"))
    return tools


def _tool(name: str, schema: Any) -> Tool:
    schema = schema if isinstance(schema, dict) else {}
    properties, required = schema.get("properties"), schema.get("required")
    properties = properties if isinstance(properties, dict) else {}
    return Tool(
        name,
        frozenset(key for key in required if isinstance(key, str)) if isinstance(required, list) else frozenset(),
        {key: str(one.get("type", "")) if isinstance(one, dict) else "" for key, one in properties.items()},
        schema.get("additionalProperties") is False,
    )


def find(text: str, tools: Tools) -> tuple[str, list[ToolCall]]:
    """(what is text, calls) of a whole answer."""
    sieve = Sieve(tools)
    before = sieve.feed(text)
    rest, calls = sieve.end()
    return before + rest, calls


class Sieve:
    """Takes an answer as it streams, and holds back what may be a call until that is known: `feed` returns what is text
    for certain, `end` the rest and the calls."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._text = ""  # not decided yet
        self._holding = False  # all of it seems to be calls: told at the end
        self._fence = ""  # the ticks that end the code we are in
        self._before = ""  # the last character that was decided
        self._ticks = 0  # backticks in what was decided of this line: an odd number of them begins code
        self._fresh = True  # a line begins with what is not decided yet

    def feed(self, text: str) -> str:
        self._text += text
        if self._holding:
            return self.release() if len(self._text) > MOST_HELD else ""
        out = []
        while self._text:
            length = self._certain()
            if not length:
                break
            out.append(self._cut(length))
        return "".join(out)

    def end(self) -> tuple[str, list[ToolCall]]:
        if self._holding:
            found = _all_calls(self._text, self._tools)
            if found is not None:
                self._text = ""
                return found
        return self.release(), []

    def release(self) -> str:
        """All that is held back, as text."""
        self._holding = False
        return self._cut(len(self._text))

    def _cut(self, length: int) -> str:
        text, self._text = self._text[:length], self._text[length:]
        last = text.rpartition("\n")
        self._before = text[-1:] or self._before
        self._fresh = not last[2].strip(" \t") and (bool(last[1]) or self._fresh)
        self._ticks = last[2].count("`") + (0 if last[1] else self._ticks)
        return text

    def _certain(self) -> int:
        """How much of the text is no call for certain; 0: what it begins with is not known yet, or seems to be one."""
        if self._fence:
            return self._to_the_end_of_code()
        at = self._next_sign()
        if at is None:
            return len(self._text) - _begun_sign(self._text, fresh=self._fresh)
        if at:
            return at
        fence = _FENCE.match(self._text)
        if self._text.lstrip(" \t").startswith("```"):
            if fence is None:
                ticks = self._text.index("`")
                info = self._text[ticks:].lstrip("`")
                return ticks + 3 if "\n" in info or len(info) > _INFO else 0
            language, head = fence[2].strip().lower(), self._text[fence.end() :]
            seems = language in _LANGUAGES and _seems_a_call(head, self._tools, code=language == "tool_code")
            if seems is False:
                self._fence = fence[1]
                return fence.end()
        else:
            seems = _seems_a_call(self._text, self._tools)
            if seems is False:
                return len(self._text) - len(self._text.lstrip(" \t")) + 1
        self._holding = bool(seems)
        return 0

    def _next_sign(self) -> int | None:
        for match in _SIGN.finditer(self._text):
            at = match.start()
            if match[0].lstrip(" \t")[0] in "`{[" and match[0] != "[TOOL_CALLS]":
                if at or self._fresh:
                    return at
            elif not self._in_code(at):
                return at
        return None

    def _in_code(self, at: int) -> bool:
        """Whether what stands there is code inside a line."""
        if (self._text[at - 1] if at else self._before) == "`":
            return True
        line = self._text.rfind("\n", 0, at) + 1
        return (self._text.count("`", line, at) + (0 if line else self._ticks)) % 2 == 1

    def _to_the_end_of_code(self) -> int:
        begin = 0
        while (end := self._text.find("\n", begin)) >= 0:
            if self._begins_line(begin) and _closes(self._text[begin:end], self._fence):
                self._fence = ""
                return end + 1
            begin = end + 1
        line = self._text[begin:].strip(" \t")
        return begin if self._begins_line(begin) and not line.strip("`") else len(self._text)

    def _begins_line(self, at: int) -> bool:
        return at > 0 or self._fresh


def _closes(line: str, fence: str) -> bool:
    line = line.strip(" \t\r")
    return line.startswith(fence) and not line.strip("`")


def _begun_sign(text: str, *, fresh: bool) -> int:
    """How many characters at the end of a text may be the beginning of a sign."""
    line = text[text.rfind("\n") + 1 :]
    if (fresh or len(line) < len(text)) and not line.strip(" \t`"):
        return len(line)
    longest = max(map(len, _MARKUP))
    for length in range(min(longest, len(text)), 0, -1):
        if any(sign.startswith(text[-length:]) for sign in _MARKUP):
            return length
    return 0


def _seems_a_call(text: str, tools: Tools, *, code: bool = False) -> bool | None:
    """Whether a text begins as a call of an offered tool does; None: it is too short to tell."""
    text = text.lstrip()
    if not text:
        return None
    if code:
        return _named(text.removeprefix("print(").removeprefix("["), tools, "(")
    sign = next((sign for sign in _MARKUP if text.startswith(sign)), None)
    if sign is None:
        if any(sign.startswith(text) for sign in _MARKUP):
            return None
        return _seems_json(text, tools) if text[0] in "{[" else False
    inner = text[len(sign) :]
    if sign == "<function=":
        return _named(inner, tools, ">")
    if sign == "<|tool_call>":
        return _named(inner.removeprefix("call:"), tools, "{") if len(inner) > len("call:") else None
    if sign == "[TOOL_CALLS]" and inner.lstrip()[:1] not in ("", "[", "{"):
        return _named(inner.lstrip(), tools, "[{")
    return _seems_a_call(inner, tools)


def _named(text: str, tools: Tools, ends: str) -> bool | None:
    word = _WORD.match(text)
    if word is None or len(text) == word.end():
        return None if len(text) < 64 else False
    return word[0] in tools and text[word.end() :].lstrip()[:1] in ends


def _seems_json(text: str, tools: Tools) -> bool | None:
    first = _FIRST_KEY.match(text[:_HEAD])
    if first is None:
        return None if len(text) < _HEAD and _FIRST_KEY_BEGUN.match(text) else False
    key, value = first[1], text[first.end() :].lstrip()
    if key in _NAME_KEYS and not value.startswith("{"):
        end = value.find('"', 1)
        return value[1:end] in tools if end > 0 else (None if len(value) < 70 and value[:1] in ("", '"') else False)
    return key in (*_NAME_KEYS, *_ARGUMENT_KEYS, "type", "id")


# --- whole calls ---

Read = tuple[list[ToolCall], int]  # calls, and where they end in the text


class _NoCall(ValueError):
    pass


def _all_calls(text: str, tools: Tools) -> tuple[str, list[ToolCall]] | None:
    """(what is text after all, calls) of a text that begins with a call; None where it is none."""
    calls: list[ToolCall] = []
    at, markup_only = 0, True
    while rest := text[at:].lstrip():
        at = len(text) - len(rest)
        markup = rest.startswith(_MARKUP)
        try:
            found, length = (_markup if markup else _fence if rest.startswith("`") else _json)(rest, tools)
        except (_NoCall, ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            if not calls or not markup_only:
                return None  # JSON with words behind it is an example
            more, further = find(rest, tools)
            return more, calls + further
        calls, at, markup_only = calls + found, at + length, markup_only and markup
    return ("", calls) if calls else None


def _call(name: Any, arguments: Any, tools: Tools) -> ToolCall:
    if isinstance(arguments, str):
        arguments = _DECODER.decode(arguments.strip() or "{}")
    tool = tools.get(name) if isinstance(name, str) else None
    if tool is None or not isinstance(arguments, dict) or not tool.takes(arguments):
        raise _NoCall
    if arguments.get("type") == "object" and "properties" in arguments and "properties" not in tool.types:
        raise _NoCall  # a tool's definition, shown
    return ToolCall(tool.name, arguments, _written(arguments))


def _written(arguments: Mapping[str, Any]) -> str:
    """As a client gets them. Raises ValueError and TypeError for what JSON or UTF-8 cannot say."""
    text = json.dumps(arguments, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text.encode()
    return text


def _json(text: str, tools: Tools) -> Read:
    doubled = text.startswith("{{")  # as Qwen2.5's own template shows it
    try:
        value, end = _DECODER.raw_decode(text, 1 if doubled else 0)
    except ValueError:
        value, end = _triple_quoted(text, 1 if doubled else 0)
    if doubled:
        if not text.startswith("}", end):
            raise _NoCall
        end += 1
    values = value if isinstance(value, list) else [value]
    if not values:
        raise _NoCall
    return [_of_json(one, tools) for one in values], end


def _triple_quoted(text: str, at: int) -> tuple[Any, int]:
    """JSON whose long strings stand between three quotes, as in Python: (value, where it ends). What is between is
    taken as it is written. Raises ValueError."""
    plain = _TRIPLE.sub(lambda match: match[1] + json.dumps(_between(match[2])), text)
    value, end = _DECODER.raw_decode(plain, at)
    longer = 0  # by which the plain text is, up to its end
    for match in _TRIPLE.finditer(text):
        more = len(match[1] + json.dumps(_between(match[2]))) - len(match[0])
        if match.end() + longer + more > end:
            break
        longer += more
    return value, end - longer


def _between(quotes: str) -> str:
    return re.sub(r"\n[ \t]*\Z", "\n", quotes.removeprefix("\n"))


def _of_json(value: Any, tools: Tools) -> ToolCall:
    if not isinstance(value, dict):
        raise _NoCall
    if isinstance(value.get("function"), dict):
        if value.keys() - {"function", *_OTHER_KEYS}:
            raise _NoCall
        value = value["function"]
    if value.keys() - {*_NAME_KEYS, *_ARGUMENT_KEYS, *_OTHER_KEYS}:
        raise _NoCall
    name = next((value[key] for key in _NAME_KEYS if key in value), None)
    arguments: Any = next((value[key] for key in _ARGUMENT_KEYS if key in value), {})
    return _call(name, arguments, tools)


def _fence(text: str, tools: Tools) -> Read:
    opening = _FENCE.match(text)
    if opening is None:
        raise _NoCall
    lines, end = text[opening.end() :].splitlines(keepends=True), opening.end()
    body = []
    for line in lines:
        end += len(line)
        if _closes(line.rstrip("\n"), opening[1]):
            break
        body.append(line)
    inner = "".join(body).strip()
    if opening[2].strip().lower() == "tool_code":
        return _python(inner, tools), end
    found = _all_calls(inner, tools)
    if found is None or found[0].strip():
        raise _NoCall
    return found[1], end


def _python(text: str, tools: Tools) -> list[ToolCall]:
    calls = []
    for statement in ast.parse(text).body:
        value = statement.value if isinstance(statement, ast.Expr) else None
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "print" and value.args:
            value = value.args[0]
        for one in value.elts if isinstance(value, ast.List) else [value]:
            if not isinstance(one, ast.Call) or not isinstance(one.func, ast.Name) or one.args:
                raise _NoCall
            arguments: dict[str, Any] = {str(pair.arg): ast.literal_eval(pair.value) for pair in one.keywords}
            calls.append(_call(one.func.id, arguments, tools))
    if not calls:
        raise _NoCall
    return calls


def _markup(text: str, tools: Tools) -> Read:
    sign = next(sign for sign in _MARKUP if text.startswith(sign))
    found, length = _READERS[sign](text[len(sign) :], tools)
    return found, len(sign) + length


def _hermes(text: str, tools: Tools) -> Read:
    """JSON or a <function>, and the end, which models forget."""
    inner = text.lstrip()
    before = len(text) - len(inner)
    found, length = (_markup if inner.startswith("<function=") else _json)(inner, tools)
    close = re.compile(r"\s*</tool_call>").match(inner, length)
    return found, before + (close.end() if close else length)


_PARAMETER = re.compile(rf"\s*<parameter=([^>\n<]{{1,{_MOST_PARAMETER}}})>\n?")
_XML_END = re.compile(r"\s*(?:</function>|(?=</tool_call>))")


def _xml(text: str, tools: Tools) -> Read:
    """Parameter after parameter, each with its end, and then the end of the call: a call that was cut is none."""
    name, _, _ = text.partition(">")
    tool = tools.get(name.strip())
    if tool is None:
        raise _NoCall
    arguments, at = {}, len(name) + 1
    while opening := _PARAMETER.match(text, at):
        end = text.find("</parameter>", opening.end())
        if end < 0:
            raise _NoCall
        key, value = opening[1].strip(), text[opening.end() : end].removesuffix("\n")
        arguments[key] = _typed(value, tool.types.get(key, ""))
        at = end + len("</parameter>")
    close = _XML_END.match(text, at)
    if close is None:
        raise _NoCall
    return [_call(tool.name, arguments, tools)], close.end()


def _typed(text: str, kind: str) -> Any:
    if kind in ("integer", "number", "boolean", "object", "array"):
        try:
            return _DECODER.decode(text.strip().lower() if kind == "boolean" else text.strip())
        except ValueError:
            return text
    return text


def _mistral(text: str, tools: Tools) -> Read:
    inner = text.lstrip()
    before = len(text) - len(inner)
    if inner[:1] in ("[", "{"):
        found, length = _json(inner, tools)
        return found, before + length
    word = _WORD.match(inner)
    if word is None:
        raise _NoCall
    at = word.end() + (len("[ARGS]") if inner.startswith("[ARGS]", word.end()) else 0)
    arguments, end = _DECODER.raw_decode(inner, at)
    return [_call(word[0], arguments, tools)], before + end


def _gemma(text: str, tools: Tools) -> Read:
    word = _WORD.match(text, len("call:")) if text.startswith("call:") else None
    if word is None:
        raise _NoCall
    arguments, end = _gemma_value(text, word.end())
    close = "<tool_call|>"
    return [_call(word[0], arguments, tools)], end + (len(close) if text.startswith(close, end) else 0)


def _gemma_value(text: str, at: int) -> tuple[Any, int]:
    """A value in Gemma 4's notation: JSON with bare keys and strings between <|"|>."""
    quote = '<|"|>'
    if text.startswith(quote, at):
        end = text.index(quote, at + len(quote))
        return text[at + len(quote) : end], end + len(quote)
    if text[at : at + 1] == "{":
        found: dict[str, Any] = {}
        at += 1
        while text[at : at + 1] != "}":
            if text.startswith(quote, at):
                key, at = _gemma_value(text, at)
            else:
                colon = text.index(":", at)
                key, at = text[at:colon].strip(), colon
            if text[at : at + 1] != ":":
                raise _NoCall
            found[key], at = _gemma_value(text, at + 1)
            at += text[at : at + 1] == ","
        return found, at + 1
    if text[at : at + 1] == "[":
        items = []
        at += 1
        while text[at : at + 1] != "]":
            item, at = _gemma_value(text, at)
            items.append(item)
            at += text[at : at + 1] == ","
        return items, at + 1
    return _DECODER.raw_decode(text, at)


_READERS: dict[str, Callable[[str, Tools], Read]] = {
    "<tool_call>": _hermes,
    "<function=": _xml,
    "[TOOL_CALLS]": _mistral,
    "<|python_tag|>": _json,
    "<|tool_call>": _gemma,
}
