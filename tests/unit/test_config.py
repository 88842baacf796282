"""The configuration: every mistake named by its path, all at once; the shipped files and the schema are right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from variet.engine import config_file
from variet.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent.parent
SHIPPED = ("engine_models.json", "embedded_models.json")


def minimal(**changes: Any) -> dict[str, Any]:
    tiers = {tier: {"model": "one"} for tier in ("fast", "balanced", "deep-coder", "deep-logic", "ultra")}
    return {"models": {"one": {"files": {"model": "path:/m.gguf"}}}, "tiers": tiers, **changes}


def mistakes(raw: object) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        config_file.parse(json.dumps(raw), "file.json")
    return {one.path: str(one) for one in caught.value.mistakes}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_files_are_valid_and_match_the_schema(name: str) -> None:
    path = ROOT / "config" / name
    config = config_file.load(path)
    assert set(config.tiers) == {"fast", "balanced", "deep-coder", "deep-logic", "ultra"}
    assert all(tier.max_tokens for tier in config.tiers.values()), "no answer of a shipped tier is without end"
    jsonschema.validate(json.loads(path.read_text()), config_file.json_schema())


def test_the_schema_file_is_the_generated_one() -> None:
    on_disk = json.loads((ROOT / "config" / "engine_models.schema.json").read_text())
    assert on_disk == config_file.json_schema(), "run `variet config schema > config/engine_models.schema.json`"


def test_every_field_but_models_and_tiers_has_a_default() -> None:
    config = config_file.parse(json.dumps(minimal()), "file.json")
    assert config.server.port == 8000 and config.models["one"].slots == 1


def test_all_mistakes_are_told_at_once_with_a_way_out() -> None:
    raw = minimal(server={"prt": 1}, aliases={"gpt": "fats", "fast": "balanced"})
    raw["tiers"]["ultra"]["model"] = "onne"
    raw["models"]["one"]["slots"] = 0
    raw["models"]["one"]["files"]["model"] = {"source": "ftp://x", "sha256": "00"}
    del raw["tiers"]["balanced"]
    found = mistakes(raw)
    assert "did you mean 'port'" in found["$.server.prt"]
    assert "did you mean 'fast'" in found["$.aliases.gpt"]
    assert "did you mean 'one'" in found["$.tiers.ultra.model"]
    assert "$.models.one.slots" in found and "$.tiers.balanced" in found and "$.aliases.fast" in found
    assert any(path.startswith("$.models.one.files.model") for path in found)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("models/x.gguf", "begins with"),
        ("http://example.org/x.gguf", "loopback"),
        ("hf:owner/repo", "hf:OWNER/REPO/FILE"),
        ("pypi:name", "pins its version"),
        ("https:foo", "https://HOST/FILE"),
        ("pypi:name-part{6..1}==1", "counts no parts"),
        ("path:", "path:FILE"),
    ],
)
def test_sources_are_checked(source: str, words: str) -> None:
    raw = minimal()
    raw["models"]["one"]["files"]["model"] = source
    assert words in " ".join(mistakes(raw).values())


@pytest.mark.parametrize(
    ("place", "key", "value", "words"),
    [
        ("models", "slots", True, "true is no number"),
        ("models", "context_tokens", "8192", '"8192" is no number'),
        ("models", "idle_unload_s", "60", "is no number"),
        ("models", "args", ["--parallel", "4"], "use the key 'slots'"),
        ("models", "args", ["--ctx-size=99"], "use the key 'context_tokens'"),
        ("models", "args", ["--host", "0.0.0.0"], "the engine's to set"),
        ("server", "host", "brain.local", "IP address"),
        ("server", "port", "8000", "is no number"),
    ],
)
def test_what_looks_right_but_is_not(place: str, key: str, value: object, words: str) -> None:
    raw = minimal()
    if place == "models":
        raw["models"]["one"][key] = value
        path = f"$.models.one.{key}"
    else:
        raw[place] = {key: value}
        path = f"$.{place}.{key}"
    found = mistakes(raw)
    assert list(found) == [path] and words in found[path]


def test_harmless_flags_of_the_owner_pass() -> None:
    raw = minimal(server={"host": "fd00::1"})
    raw["models"]["one"]["args"] = ["--threads", "8", "--jinja"]
    assert config_file.parse(json.dumps(raw), "file.json").models["one"].args == ("--threads", "8", "--jinja")


def test_a_key_that_stands_twice_is_named() -> None:
    text = json.dumps(minimal()).replace('"files"', '"slots": 1, "slots": 2, "files"')
    with pytest.raises(ConfigError) as caught:
        config_file.parse(text, "file.json")
    assert [(one.path, one.what) for one in caught.value.mistakes] == [
        ("$.models.one.slots", "written twice; the last one would win")
    ]


def test_pinned_models_must_leave_room_for_the_others() -> None:
    raw = minimal(scheduling={"max_resident": 1})
    raw["models"]["one"]["pinned"] = True
    assert config_file.parse(json.dumps(raw), "file.json"), "one model for all tiers may be pinned"
    raw["models"]["two"] = {"files": {"model": "path:/n.gguf"}}
    raw["tiers"]["ultra"]["model"] = "two"
    assert "no room for any other" in mistakes(raw)["$.scheduling.max_resident"]
    raw["models"]["two"]["pinned"] = True
    assert "2 pinned" in mistakes(raw)["$.scheduling.max_resident"]
    raw["scheduling"]["max_resident"] = 2
    config_file.parse(json.dumps(raw), "file.json")


def test_text_that_is_no_json_is_named_by_line() -> None:
    with pytest.raises(ConfigError, match="line 2"):
        config_file.parse('{\n"a": }', "file.json")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"server": {"port": ' + "9" * 5_000 + "}}"])
def test_text_that_no_parser_takes_is_a_mistake_too(text: str) -> None:
    with pytest.raises(ConfigError):
        config_file.parse(text, "file.json")


def test_two_files_of_one_name_are_refused() -> None:
    raw = minimal()
    raw["models"]["one"]["files"]["lora"] = ["hf:me/a/adapter.gguf", "hf:me/b/adapter.gguf"]
    assert "adapter.gguf" in " ".join(mistakes(raw).values())


def test_names_that_mean_something_else_are_refused() -> None:
    raw = minimal()
    raw["models"]["fast"] = raw["models"]["one"]
    assert "$.models.fast" in mistakes(raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(["models", "tiers", "server", "aliases", "side_models", "scheduling", "hardware", "x"]), JSON
    )
)
def test_whatever_the_file_holds_the_answer_is_a_list_of_mistakes(raw: dict[str, Any]) -> None:
    try:
        config_file.parse(json.dumps(raw), "file.json")
    except ConfigError as error:
        assert all(one.path.startswith("$") and one.what for one in error.mistakes)
