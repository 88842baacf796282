"""Other clients' configuration: changed value by value, put back, and nobody's words lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from variet import paths
from variet.connect import changes
from variet.connect.catalogue import Catalogue, catalogue
from variet.connect.clients import CLIENTS, Where
from variet.connect.clients.claude_code import key_words
from variet.connect.documents import ABSENT, DocumentProblem, Place, document
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
    ],
)
def test_json_keeps_all_that_is_not_changed(text: str, at: Place, value: Any, after: str) -> None:
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
    ],
)
def test_what_is_removed_from_json_leaves_no_trace(text: str, at: Place, after: str) -> None:
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


def offered(connection: Connection = CONNECTION, *, lasting_key: bool = True, **more: Any) -> Catalogue:
    """An engine as its `/v1/models` describes it."""
    entries = [
        {"id": name, "description": name, "context_length": 32768, "max_output_tokens": 8192, "capabilities": ["chat"]}
        for name in (*TIERS, "auto", "resident")
    ]
    return catalogue(connection, {"data": entries, **more}, lasting_key=lasting_key)


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
    engine = offered(Connection("http://127.0.0.1:8000", "sk-of-this-run"), lasting_key=False)
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
    told = "".join(one.diff(["sk-secret"]) for one in made.changes)
    assert "sk-secret" not in told and '"api_key": "…"' in told
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
    assert key_words()[1] == "-P"


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
