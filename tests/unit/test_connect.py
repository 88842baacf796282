"""Other clients' configuration: changed value by value, put back, and nobody's words lost."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from variet import paths
from variet.connect import changes
from variet.connect.catalogue import Catalogue, catalogue
from variet.connect.clients import CLIENTS, Where
from variet.connect.clients.claude_code import key_words
from variet.connect.documents import ABSENT, DocumentProblem, Place, Spot, document
from variet.connection import Connection
from variet.errors import ConnectionFailed, VarietError
from variet.tiers import TIERS

JSONC = """\
// mine
{
  "theme": "dark", // at night
  /* nested */
  "agent": {
    "model": "x",
  },
}
"""


@pytest.mark.parametrize(
    ("text", "at", "value", "after"),
    [
        ("", ("a",), 1, '{\n  "a": 1\n}\n'),
        ("// only words\n", ("a", "b"), [1], '// only words\n{\n  "a": {\n    "b": [\n      1\n    ]\n  }\n}\n'),
        ("{}", ("a",), "ä", '{\n  "a": "ä"\n}'),
        ('{ "a": 1 }', ("b",), 2, '{ "a": 1,\n  "b": 2\n}'),
        ('{\n\t"a": 1 // one\n}\n', ("b",), {"c": 2}, '{\n\t"a": 1, // one\n\t"b": {\n\t\t"c": 2\n\t}\n}\n'),
        ('{\r\n  "a": {}\r\n}\r\n', ("a", "b"), 1, '{\r\n  "a": {\r\n    "b": 1\r\n  }\r\n}\r\n'),
        ('\ufeff{"a": -1.5e3}', ("a",), None, '\ufeff{"a": null}'),
        (JSONC, ("theme",), "light", JSONC.replace('"dark"', '"light"')),
        (JSONC, ("agent", "kind"), 1, JSONC.replace('"x",\n', '"x",\n    "kind": 1,\n')),
        (JSONC, ("new",), True, JSONC.replace("  },\n}", '  },\n  "new": true,\n}')),
        ('{"a": 1, "a": 2}', ("a",), 3, '{"a": 1, "a": 3}'),
        ('{ "a": 1 /* one */ }', ("b",), 2, '{ "a": 1, /* one */\n  "b": 2\n}'),
        ('{"a": [\n    1, // one\n    2\n  ]\n}\n', ("a", 1), 3, '{"a": [\n    1, // one\n    3\n  ]\n}\n'),
        ('{\n  "a": [\n    1 // one\n  ]\n}\n', ("a", 1), 3, '{\n  "a": [\n    1, // one\n    3\n  ]\n}\n'),
        ('{\n  "a": []\n}\n', ("a", 0), {"b": 1}, '{\n  "a": [\n    {\n      "b": 1\n    }\n  ]\n}\n'),
    ],
)
def test_json_keeps_all_that_is_not_changed(text: str, at: Spot, value: Any, after: str) -> None:
    changed = document("json", text)
    changed.set(at, value)
    assert changed.text == after and changed.get(at) == value
    assert document("json", after).get(at) == value


@pytest.mark.parametrize(
    ("text", "at", "after"),
    [
        ('{"a": 1}', ("a",), "{}"),
        ('{"a": 1}', ("b", "c"), '{"a": 1}'),
        ('{\n  "a": 1,\n  "b": 2\n}\n', ("b",), '{\n  "a": 1\n}\n'),
        ('{\n  "a": 1,\n  "b": 2\n}\n', ("a",), '{\n  "b": 2\n}\n'),
        ('{\n  "a": 1,\n  "b": {"c": {"d": 1}}\n}\n', ("b", "c", "d"), '{\n  "a": 1\n}\n'),
        (JSONC, ("agent", "model"), JSONC.replace('  "agent": {\n    "model": "x",\n  },\n', "")),
        ('{\n  "b": {\n    // keep me\n    "c": 1\n  }\n}\n', ("b", "c"), '{\n  "b": {\n    // keep me\n  }\n}\n'),
        ('{\n  "a": [\n    // one\n    1,\n    2\n  ]\n}\n', ("a", 1), '{\n  "a": [\n    // one\n    1\n  ]\n}\n'),
        ('{"a": [1]}', ("a", 0), '{"a": []}'),
        ('{"a": [1]}', ("a", 1), '{"a": [1]}'),
    ],
)
def test_what_is_removed_from_json_leaves_no_trace(text: str, at: Spot, after: str) -> None:
    changed = document("json", text)
    changed.remove(at)
    assert changed.text == after and changed.get(at) is ABSENT


@pytest.mark.parametrize(
    "text",
    ["[1]", "{a: 1}", "{'a': 1}", '{"a": f()}', '{"a": `x`}', '{"a": 1', "{...b}", '{"a": 1}; x', "{} {}", '{"a": 01}'],
)
def test_what_is_no_json_is_left_alone(text: str) -> None:
    with pytest.raises(DocumentProblem, match="not JSON"):
        document("json", text)


TOML = '# mine\nmodel = "gpt"  # why not\n\n[tui]\ntheme = "dark"\n'
YAML_TEXT = "# mine\nmodel: 'gpt'  # why not\nread:\n  - a.md\n  - b.md\n"


@pytest.mark.parametrize(
    ("kind", "text", "at", "value", "after"),
    [
        ("toml", "", ("a", "b", "c"), 1, "[a.b]\nc = 1\n"),
        ("toml", TOML, ("model",), "x", TOML.replace('"gpt"', '"x"')),
        ("toml", TOML, ("tui", "theme"), "x", TOML.replace('"dark"', '"x"')),
        ("yaml", "", ("a", "b"), [1], "a:\n  b:\n  - 1\n"),
        ("yaml", "# mine\n", ("a",), 1, "# mine\na: 1\n"),
        ("yaml", YAML_TEXT, ("dark-mode",), True, YAML_TEXT + "dark-mode: true\n"),
        ("yaml", YAML_TEXT, ("model",), "x", YAML_TEXT.replace("'gpt'  #", "'x'    #")),
        ("env", "", ("A",), "x y", "A='x y'\n"),
        ("env", "# mine\nexport A=1\nB='2'", ("A",), "x", "# mine\nA=x\nB='2'"),
        ("env", "B=2", ("A",), 1, "B=2\nA=1\n"),
    ],
)
def test_other_kinds_keep_their_comments(kind: str, text: str, at: Place, value: Any, after: str) -> None:
    changed = document(kind, text)
    changed.set(at, value)
    assert changed.text == after
    assert document(kind, changed.text).get(at) == (str(value) if kind == "env" else value)


@pytest.mark.parametrize(
    ("kind", "text", "at"),
    [
        ("toml", TOML, ("model_providers", "variet", "base_url")),
        ("toml", TOML, ("profile",)),
        ("yaml", YAML_TEXT, ("a", "b", "c")),
        ("yaml", "", ("a", "b")),
        ("yaml", "# mine\n", ("a", "b")),
        ("yaml", "# mine\n\n# model: gpt\n", ("a",)),
        ("env", "# mine\nB=2\n", ("A",)),
        ("json", JSONC, ("provider", "variet", "options")),
        ("json", '{"a": 1}', ("agent", "model")),
    ],
)
def test_what_was_set_and_removed_leaves_the_file_as_it_was(kind: str, text: str, at: Place) -> None:
    changed = document(kind, text)
    changed.set(at, "x")
    changed.remove(at)
    plain = json.loads(text) if text.startswith('{"') else None
    assert changed.text == text or (plain is not None and json.loads(changed.text) == plain)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("yaml", "---\na: 1\nb:\n    c: 2\n    d:\n      - x\n"),
        ("yaml", "\ufeffa:   1\r\nb: [ 1,2 ]\r\n"),
        ("yaml", "# top\n---\nd:\n- x   # one\n- 'y'\n\n# trailing\nother:   {a: 1,b: 2}\n"),
        ("yaml", "a: 1"),
        ("yaml", 'long: "' + "word " * 60 + '"\nfolded: >\n   one\n   two\n\nd:\n-   x\n'),
        ("toml", '# mine\r\nmodel = "gpt"\r\n'),
        ("toml", "\ufeffd = [ 1,2 ]\n"),
        ("env", "\ufeffB=1\r\n# mine\r\n"),
        ("json", '\ufeff{\r\n\t"d": [ 1,2 ] /* two */\r\n}\r\n'),
    ],
)
def test_what_stood_there_keeps_its_every_byte(kind: str, text: str) -> None:
    changed = document(kind, text)
    changed.set(("x",) if kind == "env" else ("x", "y"), "z" if kind == "env" else {"k": [1, {"z": 2}]})
    ends = "" if text.endswith("\n") else "\n"
    if kind != "json":
        assert changed.text.startswith(text + ends)
    assert changed.text.count("\n") == changed.text.count("\r\n") or "\r\n" not in text
    again = document(kind, changed.text)
    again.remove(("x",) if kind == "env" else ("x", "y"))
    if kind == "toml":  # it keeps the empty line before a table
        assert again.text.rstrip() == text.rstrip()
    else:
        assert again.text == text + ("" if kind == "json" else ends)


@pytest.mark.parametrize("kind", ["json", "toml", "yaml"])
def test_items_of_a_list_come_and_go_and_the_others_stay(kind: str) -> None:
    texts = {
        "json": '{\n  "m": [\n    {"n": "a"} // mine\n  ]\n}\n',
        "toml": '# mine\n[[m]]\nn = "a" # one\n',
        "yaml": "m:\n  # mine\n  - n: a   # one\n",
    }
    changed = document(kind, texts[kind])
    changed.set(("m", 1), {"n": "b"})
    changed.set(("m", 2), {"n": "c"})
    assert changed.get(("m",)) == [{"n": "a"}, {"n": "b"}, {"n": "c"}] and "mine" in changed.text
    again = document(kind, changed.text)
    again.set(("m", 1), {"n": "d"})
    assert document(kind, again.text).get(("m", 1)) == {"n": "d"}
    again.remove(("m", 1))
    again.remove(("m", 1))
    assert again.text == texts[kind] and again.get(("m", 1)) is ABSENT


def test_a_change_within_lines_of_another_way_is_refused() -> None:
    changed = document("yaml", "a:   {b:   1}\n")
    changed.set(("a", "b"), 2)
    with pytest.raises(ValueError, match="written in another way"):
        _ = changed.text


@pytest.mark.parametrize(
    ("kind", "text"), [("json", '{"a": 1}'), ("toml", "a = 1\n"), ("yaml", "a: 1\n"), ("yaml", "- a\n")]
)
def test_a_value_is_never_made_a_table(kind: str, text: str) -> None:
    with pytest.raises(DocumentProblem, match="table"):
        document(kind, text).set(("a", "b"), 1)


@pytest.mark.parametrize(("kind", "text"), [("toml", "a ="), ("yaml", "a: [")])
def test_what_cannot_be_read_is_said(kind: str, text: str) -> None:
    with pytest.raises(DocumentProblem, match=r"it is not (TOML|YAML)"):
        document(kind, text)


# --- clients ---

CONNECTION = Connection("http://127.0.0.1:8000")


def offered(connection: Connection = CONNECTION, **more: Any) -> Catalogue:
    """An engine as its `/v1/models` describes it."""
    entries = [
        {"id": name, "description": name, "context_length": 32768, "max_output_tokens": 8192, "capabilities": ["chat"]}
        for name in (*TIERS, "auto", "resident")
    ]
    return catalogue(connection, {"data": entries, **more})


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Where:
    monkeypatch.setenv("VARIET_HOME", str(tmp_path / "variet"))
    (tmp_path / "home").mkdir()
    return Where(tmp_path / "home", None, tmp_path / "variet" / "config" / "clients", {})


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def connect(client: str, where: Where, engine: Catalogue | None) -> list[str]:
    """What was left as it is."""
    files = CLIENTS[client].files(engine, where) if engine is not None else []
    made = changes.plan(client, where.project, files)
    changes.apply(made)
    return made.left


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_is_connected_twice_and_put_back(client: str, where: Where) -> None:
    engine = offered(Connection("https://10.0.0.2:8000", "sk-secret", where.home / "ca.pem"))
    connect(client, where, engine)
    once = tree(where.home)
    assert once, "something was written"
    for path in (*where.home.rglob("*"), *where.ours.rglob("*")):
        if path.is_file() and "sk-secret" in path.read_text():
            assert path.stat().st_mode & 0o077 == 0, f"others could read the key in {path}"
    connect(client, where, engine)
    assert tree(where.home) == once, "a second time changes nothing"
    assert connect(client, where, None) == []
    assert tree(where.home) == {} and not any(path.is_file() for path in where.ours.rglob("*"))
    assert connect(client, where, None) == [], "nothing is put back twice"


@pytest.mark.parametrize("client", [name for name, one in CLIENTS.items() if not one.only_user])
def test_no_key_comes_into_a_project(client: str, where: Where, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    inside = replace(where, project=project)
    connect(client, inside, offered(Connection("http://10.0.0.2:8000", "sk-secret")))
    held = tree(project)
    assert held and not any("sk-secret" in text for text in held.values())
    connect(client, inside, None)
    assert tree(project) == {}


def test_a_key_of_one_run_is_in_nobody_s_file(where: Where) -> None:
    engine = offered(Connection("http://127.0.0.1:8000", "sk-of-this-run", key_lasts=False))
    for client in CLIENTS:
        connect(client, where, engine)
    assert not any("sk-of-this-run" in text for text in (*tree(where.home).values(), *tree(where.ours).values()))


def test_what_stood_there_comes_back_and_what_was_changed_since_stays(where: Where) -> None:
    path = where.home / ".config" / "opencode" / "opencode.jsonc"
    path.parent.mkdir(parents=True)
    mine = '{\n  // mine\n  "model": "openai/gpt",\n  "theme": "dark"\n}\n'
    path.write_text(mine)
    connect("opencode", where, offered())
    held = path.read_text()
    assert "// mine" in held and '"model": "variet/balanced"' in held
    connect("opencode", where, None)
    assert path.read_text() == mine
    connect("opencode", where, offered())
    path.write_text(path.read_text().replace("variet/balanced", "other/one").replace('"dark"', '"light"'))
    left = connect("opencode", where, None)
    assert len(left) == 1 and "model was changed since" in left[0]
    assert path.read_text() == mine.replace("openai/gpt", "other/one").replace("dark", "light")


def test_others_in_a_list_stay(where: Where) -> None:
    path = where.home / ".qwen" / "settings.json"
    path.parent.mkdir()
    theirs = {"id": "gpt", "baseUrl": "https://api.example.com", "envKey": "X"}
    path.write_text(json.dumps({"modelProviders": {"openai": [theirs]}}))
    connect("qwen-code", where, offered())
    listed = json.loads(path.read_text())["modelProviders"]["openai"]
    assert listed[0] == theirs and [one["id"] for one in listed[1:]] == [*TIERS, "auto", "resident"]
    connect("qwen-code", where, None)
    assert json.loads(path.read_text()) == {"modelProviders": {"openai": [theirs]}}


def test_a_link_stays_one_and_a_damaged_file_is_left_alone(where: Where, tmp_path: Path) -> None:
    real, path = tmp_path / "dotfiles.toml", where.home / ".codex" / "config.toml"
    path.parent.mkdir()
    real.write_text("# mine\n")
    path.symlink_to(real)
    connect("codex", where, offered())
    assert path.is_symlink() and 'model_provider = "variet"' in real.read_text()
    connect("codex", where, None)
    assert real.read_text() == "# mine\n"
    real.write_text("model = \n")
    with pytest.raises(VarietError, match=r"dotfiles\.toml: it is not TOML"):
        connect("codex", where, offered())
    assert real.read_text() == "model = \n"


def test_what_was_cut_short_can_be_put_back(where: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    path = where.home / ".codex" / "config.toml"
    path.parent.mkdir()
    path.write_text('model = "gpt"\n')

    def full(path: Path, content: str | bytes, mode: int = 0o644) -> None:
        if path.name == "config.toml":
            raise OSError(28, "No space left on device")
        write(path, content, mode)

    write = paths.write_whole
    monkeypatch.setattr(paths, "write_whole", full)
    with pytest.raises(VarietError, match="No space left"):
        connect("codex", where, offered())
    monkeypatch.undo()
    monkeypatch.setenv("VARIET_HOME", str(where.ours.parent.parent))
    assert connect("codex", where, None) == [] and path.read_text() == 'model = "gpt"\n'


def test_a_tier_that_has_gone_goes_and_a_mask_hides_the_key(where: Where) -> None:
    engine = offered(Connection("http://10.0.0.2:8000", "sk-secret"))
    made = changes.plan("openclaude", None, CLIENTS["openclaude"].files(engine, where))
    told = "".join(one.shown for one in made.changes)
    assert "sk-secret" not in told and "agentModels.fast.api_key" in told and "…" in told
    changes.apply(made)
    moved = offered(Connection("http://10.0.0.3:8000", "sk-secret"))
    connect("openclaude", where, moved)
    assert "10.0.0.2" not in (where.home / ".openclaude" / "settings.json").read_text()


def test_an_agent_that_a_person_rewrote_is_kept(where: Where) -> None:
    connect("openclaude", where, offered())
    agent = where.home / ".openclaude" / "agents" / "fast.md"
    agent.write_text("mine\n")
    connect("openclaude", where, offered())
    assert agent.read_text() == "mine\n"
    connect("openclaude", where, None)
    assert tree(where.home) == {".openclaude/agents/fast.md": "mine\n"}


def test_what_is_no_engine_is_said() -> None:
    with pytest.raises(ConnectionFailed, match="is no Variet Engine"):
        catalogue(CONNECTION, {"data": [{"id": "gpt", "context_length": 1}]})
    with pytest.raises(ConnectionFailed, match="is no Variet Engine"):
        catalogue(CONNECTION, {"detail": "?"})


@pytest.mark.parametrize(
    "text",
    ['model_providers.openai.name = "o"\nx = 1\n', 'model_providers = { openai = { name = "o" } }\n'],
    ids=["dotted keys", "a table on one line"],
)
def test_what_would_move_somebody_s_values_is_not_written(where: Where, text: str) -> None:
    path = where.home / ".codex" / "config.toml"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(VarietError, match=r"config\.toml"):
        connect("codex", where, offered(Connection("http://10.0.0.2:8000", "sk-secret")))
    assert path.read_text() == text


def test_a_command_for_the_key_runs_nothing_of_the_folder_it_is_run_in() -> None:
    assert key_words(offered())[1] == "-P"


def test_a_file_of_comments_alone_keeps_them(where: Where) -> None:
    path = where.home / ".aider.conf.yml"
    path.write_text("# Sample\n# model: gpt\n")
    connect("aider", where, offered())
    connect("aider", where, None)
    assert path.read_text() == "# Sample\n# model: gpt\n"


def test_what_two_folders_share_goes_with_the_last_of_them(where: Where, tmp_path: Path) -> None:
    """The key of Qwen Code stands in the person's settings, for a project, too."""
    mine, secret = where.home / ".qwen" / "settings.json", "sk-secret"
    engine = offered(Connection("http://10.0.0.2:8000", secret))
    mine.parent.mkdir(parents=True)
    before = '{\n  "theme": "dark",\n  "env": {\n    "VARIET_ENGINE_KEY": "mine"\n  }\n}\n'
    for first, second in ((0, 1), (1, 0)):
        mine.write_text(before)
        places = [where, replace(where, project=tmp_path / "project")]
        for place in places:
            connect("qwen-code", place, engine)
        kept = changes.recall("qwen-code", places[1].project).model_dump_json()
        assert secret not in kept, "what was ours already is not remembered in words"
        connect("qwen-code", places[first], None)
        assert json.loads(mine.read_text())["env"] == {"VARIET_ENGINE_KEY": secret}
        connect("qwen-code", places[second], None)
        assert mine.read_text() == before


def test_a_tier_chosen_in_the_client_s_own_menu_stays_and_goes_with_the_rest(where: Where) -> None:
    settings = where.home / ".config" / "opencode" / "opencode.json"
    settings.parent.mkdir(parents=True)
    before = '{\n  "model": "anthropic/claude"\n}\n'
    settings.write_text(before)

    def connected() -> str:
        connect("opencode", where, offered())
        return str(json.loads(settings.read_text())["model"])

    assert connected() == "variet/balanced"
    settings.write_text(settings.read_text().replace('"variet/balanced"', '"variet/deep-coder"'))
    assert connected() == "variet/deep-coder"
    connect("opencode", where, None)
    assert settings.read_text() == before


QWEN_LIST = """\
{
  "modelProviders": {
    "openai": [
      // the one at work
      { "id": "gpt", "baseUrl": "https://api.example.com" } /* keep */
    ]
  }
}
"""


def test_a_list_keeps_comments_and_what_a_person_made_of_ours(where: Where) -> None:
    path = where.home / ".qwen" / "settings.json"
    path.parent.mkdir()
    path.write_text(QWEN_LIST)
    connect("qwen-code", where, offered())
    assert "// the one at work" in path.read_text() and "/* keep */" in path.read_text()
    connect("qwen-code", where, None)
    assert path.read_text() == QWEN_LIST
    connect("qwen-code", where, offered())
    mine = path.read_text().replace('"Variet fast"', '"Quick"')
    path.write_text(mine)
    left = connect("qwen-code", where, None)
    assert len(left) == 1 and "modelProviders.openai was changed since" in left[0]
    assert '"Quick"' in path.read_text() and '"Variet balanced"' not in path.read_text()


def test_a_model_of_the_same_name_comes_back_where_it_stood(where: Where) -> None:
    path = where.home / ".continue" / "config.yaml"
    path.parent.mkdir()
    mine = "models:\n- name: Variet fast\n  provider: ollama   # mine\n- name: other\n  provider: x\nname: Mine\n"
    path.write_text(mine)
    for _ in range(2):
        connect("continue", where, offered())
        names = [one["name"] for one in document("yaml", path.read_text()).get(("models",))]
        assert names[:3] == ["Variet fast", "other", "Variet balanced"]
    connect("continue", where, None)
    held = document("yaml", path.read_text()).get(())
    assert held == document("yaml", mine).get(())


def test_what_was_removed_or_empty_before_stays_so(where: Where) -> None:
    path = where.home / ".claude" / "settings.json"
    path.parent.mkdir()
    path.write_text('{\n  "env": {}\n}\n')
    connect("claude-code", where, offered())
    connect("claude-code", where, None)
    assert json.loads(path.read_text()) == {"env": {}}
    connect("claude-code", where, offered())
    path.unlink()
    assert connect("claude-code", where, None) == [] and not path.exists()
    connect("claude-code", where, offered())
    path.unlink()
    connect("claude-code", where, offered())
    assert "ANTHROPIC_BASE_URL" in path.read_text(), "whoever connects again wants it again"
    connect("claude-code", where, None)
    assert not path.exists(), "it was ours alone"


def test_a_file_that_was_closed_for_a_key_is_opened_again(where: Where, tmp_path: Path) -> None:
    path = where.home / ".qwen" / "settings.json"
    path.parent.mkdir()
    path.write_text('{"theme": "dark"}\n')
    path.chmod(0o644)
    places = [where, replace(where, project=tmp_path / "project")]
    for place in (*places, *places):
        connect("qwen-code", place, offered())
        assert path.stat().st_mode & 0o777 == 0o600
    connect("qwen-code", places[0], None)
    assert path.stat().st_mode & 0o777 == 0o600, "the project's key is still in it"
    connect("qwen-code", places[1], None)
    assert path.stat().st_mode & 0o777 == 0o644 and json.loads(path.read_text()) == {"theme": "dark"}


def test_what_was_changed_meanwhile_is_not_written_over(where: Where) -> None:
    path = where.home / ".codex" / "config.toml"
    path.parent.mkdir()
    path.write_text('model = "gpt"\n')
    made = changes.plan("codex", None, CLIENTS["codex"].files(offered(), where))
    path.write_text('model = "o9"\n')
    with pytest.raises(VarietError, match="was changed meanwhile"):
        changes.apply(made)
    assert path.read_text() == 'model = "o9"\n' and not changes.recall("codex", None).files


def test_a_place_that_goes_is_put_back_though_that_was_cut_short(where: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codex asks for the key with one engine, and needs none with the next: its table goes."""
    path = where.home / ".codex" / "config.toml"
    path.parent.mkdir()
    path.write_text('model = "gpt"\n')
    connect("codex", where, offered(Connection("http://10.0.0.2:8000", "sk-secret")))
    write = paths.write_whole

    def full(path: Path, content: str | bytes, mode: int = 0o644) -> None:
        if path.name == "config.toml":
            raise OSError(28, "No space left on device")
        write(path, content, mode)

    monkeypatch.setattr(paths, "write_whole", full)
    with pytest.raises(VarietError, match="No space left"):
        connect("codex", where, offered(Connection("http://10.0.0.2:8000")))
    monkeypatch.setattr(paths, "write_whole", write)
    assert connect("codex", where, None) == [] and path.read_text() == 'model = "gpt"\n'


def test_a_project_s_file_may_be_a_link_to_the_person_s(where: Where, tmp_path: Path) -> None:
    mine, project = where.home / ".qwen" / "settings.json", tmp_path / "project"
    mine.parent.mkdir()
    mine.write_text('{"theme": "dark"}\n')
    (project / ".qwen").mkdir(parents=True)
    (project / ".qwen" / "settings.json").symlink_to(mine)
    inside = replace(where, project=project)
    connect("qwen-code", inside, offered(Connection("http://10.0.0.2:8000", "sk-secret")))
    held = json.loads(mine.read_text())
    assert held["env"] == {"VARIET_ENGINE_KEY": "sk-secret"} and held["modelProviders"]["openai"]
    assert mine.stat().st_mode & 0o777 == 0o600
    connect("qwen-code", inside, None)
    assert mine.read_text() == '{"theme": "dark"}\n'


def test_a_project_s_file_says_not_where_a_home_is(where: Where, tmp_path: Path) -> None:
    inside = replace(where, project=tmp_path / "project", ours=where.home / ".config" / "variet" / "clients")
    connect("opencode", inside, offered(Connection("http://10.0.0.2:8000", "sk-secret")))
    held = (tmp_path / "project" / "opencode.json").read_text()
    assert '"{file:~/.config/variet/clients/engine.key}"' in held and str(where.home) not in held


def test_no_key_is_shown_neither_a_former_one_nor_another_s(where: Where) -> None:
    path = where.home / ".continue" / ".env"
    path.parent.mkdir()
    path.write_text("OTHER_API_KEY=sk-of-another\nDATABASE=postgres://me:pass@db\n")
    connect("continue", where, offered(Connection("http://10.0.0.2:8000", "sk-former-key")))
    files = CLIENTS["continue"].files(offered(Connection("http://10.0.0.2:8000", "sk-present-key")), where)
    shown = "".join(one.shown for one in changes.plan("continue", None, files).changes)
    assert '+ VARIET_ENGINE_KEY: "…"' in shown
    assert not any(one in shown for one in ("sk-former-key", "sk-present-key", "sk-of-another", "postgres"))
    made = changes.plan(
        "opencode", None, CLIENTS["opencode"].files(offered(Connection("http://h:1", "sk-here-12")), where)
    )
    assert "sk-here-12" not in "".join(one.shown for one in made.changes)


@pytest.mark.parametrize("client", CLIENTS)
def test_whoever_is_tried_runs_no_commands_unless_that_is_wished(client: str) -> None:
    plain, free = (CLIENTS[client].headless("do it", "a.py", commands=commands) for commands in (False, True))
    if plain is None or free is None:
        assert client in ("continue", "zed")
        return
    told = " ".join([*plain.words, *plain.env.values()])
    assert "Bash" not in told and "yolo" not in told and "dangerously" not in told
    assert plain == free or client not in ("codex", "aider")


def test_a_key_in_the_environment_that_wins_is_told(where: Where) -> None:
    told = CLIENTS["claude-code"].notes(offered(), replace(where, env={"ANTHROPIC_AUTH_TOKEN": "x"}))
    assert any("ANTHROPIC_AUTH_TOKEN is set here" in one for one in told)


def failing(monkeypatch: pytest.MonkeyPatch, name: str) -> Any:
    """Writing that file fails, until what this gives is called."""
    write = paths.write_whole

    def full(path: Path, content: str | bytes, mode: int = 0o644) -> None:
        if path.name == name:
            raise OSError(28, "No space left on device")
        write(path, content, mode)

    monkeypatch.setattr(paths, "write_whole", full)
    return lambda: monkeypatch.setattr(paths, "write_whole", write)


@pytest.mark.parametrize(
    ("client", "name"), [("aider", ".aider.conf.yml"), ("codex", "config.toml"), ("continue", ".env")]
)
def test_several_writes_in_a_row_may_fail(
    where: Where, monkeypatch: pytest.MonkeyPatch, client: str, name: str
) -> None:
    engines = [offered(Connection(f"http://10.0.0.{number}:8000", f"sk-{number}")) for number in range(3)]
    connect(client, where, engines[0])
    mend = failing(monkeypatch, name)
    for engine in (engines[1], engines[1], engines[2]):
        with pytest.raises(VarietError, match="No space left"):
            connect(client, where, engine)
    mend()
    assert connect(client, where, None) == [] and tree(where.home) == {}


@pytest.mark.parametrize(
    ("client", "name", "before", "added"),
    [
        ("aider", ".aider.conf.yml", "read:\n# - a.md\n", ""),
        ("aider", ".aider.conf.yml", "read: a.md\n", "# my section\nlint: true\n"),
        ("aider", ".aider.conf.yml", "---\n", ""),
        ("codex", ".codex/config.toml", "a = 1\n", "# my tui\n[tui]\nx = 1\n"),
        ("codex", ".codex/config.toml", "a = 1\n", "# my note\n"),
        ("codex", ".codex/config.toml", "a = 1\n# the end", ""),
        ("codex", ".codex/config.toml", "model = 'gpt' # c\nmodel_context_window = 1_000\n", ""),
        ("zed", ".config/zed/settings.json", '{"agent_servers": {"Variet": {"command": "x" /* mine */}}}\n', ""),
        ("zed", ".config/zed/settings.json", "// only words\n", ""),
        ("continue", ".continue/.env", "export VARIET_ENGINE_KEY='mine' # c", ""),
    ],
)
def test_nobody_s_comments_and_spellings_are_lost(
    where: Where, client: str, name: str, before: str, added: str
) -> None:
    path = where.home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(before)
    connect(client, where, offered(Connection("http://10.0.0.2:8000", "sk-secret")))
    if added:
        path.write_text(path.read_text() + added)
    assert connect(client, where, None) == []
    if added:
        assert [*filter(None, path.read_text().split("\n"))] == [*filter(None, (before + added).split("\n"))]
    else:
        assert path.read_text() == before


@pytest.mark.parametrize(
    ("client", "name", "text", "words"),
    [
        ("aider", ".aider.conf.yml", "model: &m gpt\nb: *m\n", "by an anchor"),
        (
            "continue",
            ".continue/config.yaml",
            "models:\n- &x\n  name: Variet fast\n- <<: *x\n  name: b\n",
            "by an anchor",
        ),
        ("codex", ".codex/config.toml", 'a = """\nx\r\ny\n"""\n', "some of its lines end as on Windows"),
        ("claude-code", ".claude/settings.json", '{"model": "\\ud800"}', "cannot be changed with care"),
        ("claude-code", ".claude/settings.json", '{"a": ' + "[" * 3000 + "]" * 3000 + "}", "nested too deeply"),
        ("claude-code", ".claude/settings.json", "{\"api_key\": 'sk-abc'}", "not JSON in line 1$"),
    ],
)
def test_what_cannot_be_done_with_care_is_not_done(where: Where, client: str, name: str, text: str, words: str) -> None:
    path = where.home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    with pytest.raises(VarietError) as raised:
        connect(client, where, offered())
    assert re.search(words, raised.value.what) and path.read_bytes() == text.encode()


@pytest.mark.parametrize("client", ["qwen-code", "claude-code"])
def test_places_undone_in_any_order_leave_nothing(where: Where, tmp_path: Path, client: str) -> None:
    for order in (0, 1), (1, 0):
        places = [where, replace(where, project=tmp_path / "project")]
        for place in places:
            connect(client, place, offered(Connection("http://10.0.0.2:8000", "sk-secret")))
        for number in order:
            assert connect(client, places[number], None) == []
        assert tree(where.home) == {} and tree(tmp_path / "project") == {}


def test_a_key_file_that_was_opened_is_closed_again(where: Where) -> None:
    connect("aider", where, offered(Connection("http://10.0.0.2:8000", "sk-secret")))
    path = where.home / ".aider.conf.yml"
    path.chmod(0o644)
    connect("aider", where, offered(Connection("http://10.0.0.2:8000", "sk-secret")))
    assert path.stat().st_mode & 0o777 == 0o600


def test_one_damaged_file_does_not_keep_the_others(where: Where) -> None:
    connect("continue", where, offered(Connection("http://10.0.0.2:8000", "sk-secret")))
    damaged = where.home / ".continue" / "config.yaml"
    whole = damaged.read_text()
    damaged.write_text("models: [\n")
    (left,) = connect("continue", where, None)
    assert "config.yaml: it is not YAML" in left and not (where.home / ".continue" / ".env").exists()
    damaged.write_text(whole)
    assert connect("continue", where, None) == [] and not damaged.exists()


def test_a_key_comes_into_no_project_by_a_link_or_an_address(where: Where, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "mine.json").write_text("{}\n")
    (where.home / ".qwen").mkdir()
    (where.home / ".qwen" / "settings.json").symlink_to(project / "mine.json")
    with pytest.raises(VarietError, match="would bring the key into this project"):
        connect("qwen-code", replace(where, project=project), offered(Connection("http://10.0.0.2:8000", "sk-secret")))
    with pytest.raises(ConnectionFailed, match="has a password in it"):
        offered(Connection("http://me:pw@10.0.0.2:8000", "sk-secret"))


def test_what_stood_there_already_in_our_words_stays(where: Where) -> None:
    connect("openclaude", where, offered())
    agent = where.home / ".openclaude" / "agents" / "fast.md"
    text = agent.read_text()
    connect("openclaude", where, None)
    agent.parent.mkdir(parents=True, exist_ok=True)
    agent.write_text(text)
    connect("openclaude", where, offered())
    connect("openclaude", where, None)
    assert agent.read_text() == text


@pytest.mark.parametrize("value", ["it's", 'say "x"', "a b", "plain"])
def test_what_an_env_file_holds_is_read_as_it_was_written(value: str) -> None:
    made = document("env", "")
    made.set(("A",), value)
    assert document("env", made.text).get(("A",)) == value


def test_without_its_copy_a_file_is_put_back_value_by_value(where: Where) -> None:
    path = where.home / ".codex" / "config.toml"
    path.parent.mkdir()
    path.write_text("# mine\nmodel = 'gpt'\n")
    connect("codex", where, offered())
    for copy in (paths.state_dir() / "connect").glob("*config.toml"):
        copy.unlink()
    connect("codex", where, None)
    assert document("toml", path.read_text()).get(()) == {"model": "gpt"} and "# mine" in path.read_text()


# --- OpenClaude, as its versions 0.1.8 and 0.29.1 were seen to behave ---


def settings_of(where: Where) -> Any:
    return json.loads((where.home / ".openclaude" / "settings.json").read_text())


def test_openclaude_finds_its_helpers_knows_when_to_compact_and_keeps_a_helpers_model(where: Where) -> None:
    connect("openclaude", where, offered())
    written = settings_of(where)
    assert written["env"]["CLAUDE_CODE_USE_NATIVE_FILE_SEARCH"] == "1"
    assert written["env"]["CLAUDE_CODE_AUTO_COMPACT_WINDOW"] == "32768"
    assert written["agentModels"]["haiku"]["model"] == "fast", "one conversation, one model"
    agents = list((where.home / ".openclaude" / "agents").glob("*.md"))
    assert len(agents) == 5 and all(
        "\ntools: Read, Edit, Write, Bash, Grep, Glob\n---" in one.read_text() for one in agents
    )


def test_a_tier_that_was_chosen_in_openclaude_stays(where: Where) -> None:
    connect("openclaude", where, offered())
    written = settings_of(where)
    assert written["model"] == "balanced" and "OPENAI_MODEL" not in written["env"], "that one beats any choice"
    assert written["env"]["ANTHROPIC_DEFAULT_OPUS_MODEL"] == "deep-coder"
    written["model"] = "deep-logic"
    (where.home / ".openclaude" / "settings.json").write_text(json.dumps(written))
    connect("openclaude", where, offered())
    assert settings_of(where)["model"] == "deep-logic"


@pytest.mark.parametrize("rewritten", ["model dropped", "keys sorted", "model chosen", "address changed", "moved"])
def test_no_key_of_openclaude_stays_whatever_it_made_of_its_settings(where: Where, rewritten: str) -> None:
    file = where.home / ".openclaude" / "settings.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"theme": "dark", "env": {"EDITOR": "vi"}}))
    connect("openclaude", where, offered(Connection("http://10.0.0.2:8000", "sk-secret")))
    written = settings_of(where)
    if rewritten == "model dropped":  # as 0.1.8 does at any /model
        for one in written["agentModels"].values():
            del one["model"]
    elif rewritten == "model chosen":
        written["model"] = "deep-coder"
    elif rewritten == "address changed":
        for one in written["agentModels"].values():
            one["base_url"] = "http://10.0.0.9/v1"
    elif rewritten == "moved":
        written = {key: written[key] for key in reversed(written)}
    file.write_text(json.dumps(written, indent=4, sort_keys=rewritten == "keys sorted"))
    connect("openclaude", where, None)
    left = file.read_text()
    assert "sk-secret" not in left, left
    assert settings_of(where)["theme"] == "dark" and settings_of(where)["env"] == {"EDITOR": "vi"}


@pytest.mark.parametrize(
    ("context", "told"),
    [(16_384, ["0.1.8", "48,000", "--bare"]), (12_000, ["0.1.8", "0.29.1", "does not fit"]), (32_768, ["compacted"]),
     (65_536, [])],
)  # fmt: skip
def test_openclaude_says_beforehand_where_its_first_prompt_does_not_fit(
    where: Where, context: int, told: list[str]
) -> None:
    rows = [{"id": name, "description": name, "context_length": context, "max_output_tokens": 4096,
             "capabilities": ["chat"]} for name in (*TIERS, "auto", "resident")]  # fmt: skip
    notes = " ".join(CLIENTS["openclaude"].notes(catalogue(CONNECTION, {"data": rows}), where))
    assert all(word in notes for word in told) and bool(notes) is bool(told)
