"""What an edit or a command did can be taken back; what a person did since stays."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from variet.agent.changes import Selection
from variet.agent.checkpoints import MOST_FILE, Checkpoints, Step
from variet.agent.workspace import Workspace


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VARIET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "not-this-one"))  # of a hook that runs the agent
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "a.txt").write_text("a\n")
    (folder / ".gitignore").write_text(".env\n")
    (folder / ".env").write_text("NAME=1\n")
    nested = folder / "lib"
    nested.mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    for one in (folder, nested):
        subprocess.run(["git", "init", "-q"], cwd=one, check=True, env=clean)
    (nested / "inner.c").write_text("int x;\r\n")
    return folder


async def opened(root: Path) -> Checkpoints:
    kept = Checkpoints(Workspace(root), root.parent / "session" / "steps.json")
    await kept.open()
    return kept


async def step(kept: Checkpoints, act: Callable[[], object], only: list[Path] | None = None) -> Step:
    mark = await kept.before("call", "t1", "test", only)
    act()
    return await kept.after(mark)


async def test_a_command_is_taken_back_whatever_it_touched(root: Path) -> None:
    kept = await opened(root)

    def act() -> None:
        (root / "a.txt").write_text("b\n")
        (root / ".env").unlink()  # ignored by git
        (root / "lib" / "inner.c").write_text("int y;\n")  # of a nested repository
        (root / "new" / "deep").mkdir(parents=True)
        (root / "new" / "deep" / "file").write_text("x")
        (root / "run.sh").write_text("#!/bin/sh\n")
        (root / "link").symlink_to("a.txt")

    done = await step(kept, act)
    assert "-NAME=1" in await kept.diff([done])
    undone = await kept.undo([done])
    assert not undone.left and len(undone.restored) == 6
    assert (root / "a.txt").read_text() == "a\n" and (root / ".env").read_text() == "NAME=1\n"
    assert (root / "lib" / "inner.c").read_bytes() == b"int x;\r\n"
    assert not (root / "new").exists() and not (root / "run.sh").exists() and not (root / "link").is_symlink()


async def test_modes_and_links_come_back(root: Path) -> None:
    (root / "tool").write_text("#!/bin/sh\n")
    (root / "tool").chmod(0o755)
    (root / "to").symlink_to("a.txt")
    kept = await opened(root)

    def act() -> None:
        (root / "tool").unlink()
        (root / "to").unlink()
        (root / "to").write_text("no link")

    await kept.undo([await step(kept, act)])
    assert stat.S_IMODE((root / "tool").stat().st_mode) & 0o100 and (root / "to").readlink() == Path("a.txt")


async def test_what_a_person_changed_since_stays(root: Path) -> None:
    kept = await opened(root)
    first = await step(kept, lambda: (root / "a.txt").write_text("agent\n"), [root / "a.txt"])
    second = await step(kept, lambda: (root / "b.txt").write_text("agent\n"), [root / "b.txt"])
    (root / "a.txt").write_text("person\n")
    undone = await kept.undo([first, second])
    assert undone.restored == ("b.txt",) and "changed since" in undone.left["a.txt"]
    assert (root / "a.txt").read_text() == "person\n" and not (root / "b.txt").exists()


async def test_what_a_person_changed_between_two_steps_stays(root: Path) -> None:
    kept = await opened(root)
    file = root / "a.txt"
    first = await step(kept, lambda: file.write_text("agent 1\n"), [file])
    file.write_text("person\n")
    second = await step(kept, lambda: file.write_text("agent 2\n"), [file])
    undone = await kept.undo([first, second])
    assert file.read_text() == "agent 2\n" and "in between" in undone.left["a.txt"]
    assert (await kept.undo([second])).restored == ("a.txt",) and file.read_text() == "person\n"


async def test_a_file_that_came_and_went_with_its_folder_needs_nothing(root: Path) -> None:
    kept = await opened(root)

    def make() -> None:
        (root / "new" / "deep").mkdir(parents=True)
        (root / "new" / "deep" / "file").write_text("x")
        (root / "a.txt").write_text("agent\n")

    def remove() -> None:
        (root / "new" / "deep" / "file").unlink()
        (root / "new" / "deep").rmdir()
        (root / "new").rmdir()

    undone = await kept.undo([await step(kept, make), await step(kept, remove)])
    assert not undone.left and (root / "a.txt").read_text() == "a\n" and not (root / "new").exists()


async def test_a_file_comes_back_where_an_empty_folder_stands(root: Path) -> None:
    kept = await opened(root)

    def act() -> None:
        (root / "a.txt").unlink()
        (root / "a.txt").mkdir()

    undone = await kept.undo([await step(kept, act)])
    assert not undone.left and (root / "a.txt").read_text() == "a\n"


async def test_an_undo_can_be_undone(root: Path) -> None:
    kept = await opened(root)
    done = await step(kept, lambda: (root / "a.txt").write_text("agent\n"))
    await kept.undo([done])
    assert (root / "a.txt").read_text() == "a\n"
    await kept.undo([kept.steps[-1]])
    assert (root / "a.txt").read_text() == "agent\n"


async def test_a_change_of_the_same_size_right_after_the_scan_is_seen(root: Path) -> None:
    kept = await opened(root)
    for at in range(5):
        content = f"{at}\n"
        done = await step(kept, lambda content=content: (root / "a.txt").write_text(content))  # type: ignore[misc]
        assert done.after != done.before, at


async def test_a_step_that_changes_nothing_is_forgotten(root: Path) -> None:
    kept = await opened(root)
    await step(kept, lambda: None)
    assert kept.steps == []


async def test_a_step_cut_short_by_a_kill_can_be_undone(root: Path) -> None:
    kept = await opened(root)
    await kept.before("call", "t1", "cut")
    (root / "a.txt").write_text("half\n")
    again = await opened(root)
    assert (await again.undo(again.steps)).restored == ("a.txt",)
    assert (root / "a.txt").read_text() == "a\n"


async def test_the_workspace_and_its_repository_are_not_touched(root: Path) -> None:
    before = sorted(str(path) for path in root.rglob("*"))
    kept = await opened(root)
    await step(kept, lambda: None)
    assert sorted(str(path) for path in root.rglob("*")) == before
    assert all(
        stat.S_IMODE(one.stat().st_mode) & 0o077 == 0
        for one in (root.parent / "home" / "state" / "checkpoints").iterdir()
    )


async def test_large_files_and_what_is_made_again_are_left_out(root: Path) -> None:
    kept = await opened(root)

    def act() -> None:
        (root / "large").write_bytes(b"x" * (MOST_FILE + 1))
        (root / "node_modules").mkdir()
        (root / "node_modules" / "x").write_text("x")

    await step(kept, act)
    assert kept.steps == []


def test_a_home_folder_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert Checkpoints.refusal(tmp_path / "me") and Checkpoints.refusal(Path("/"))
    assert not Checkpoints.refusal(tmp_path / "me" / "project")


# --- by turn, by file, by hunk ---


async def of_turn(kept: Checkpoints, turn_id: str, act: Callable[[], object], only: list[Path] | None = None) -> Step:
    mark = await kept.before("call", turn_id, "test", only)
    act()
    return await kept.after(mark)


def numbered(count: int, **changed: str) -> str:
    """Lines with their numbers, some of them otherwise."""
    return "".join(f"{changed.get(f'n{at}', at)}\n" for at in range(count))


async def test_a_turn_is_taken_back_and_those_before_stay(root: Path) -> None:
    kept = await opened(root)
    await of_turn(kept, "t1", lambda: (root / "a.txt").write_text("one\n"))
    await of_turn(kept, "t2", lambda: (root / "a.txt").write_text("two\n"))
    await of_turn(kept, "t2", lambda: (root / "b.txt").write_text("new\n"))
    assert (await kept.undo(kept.chosen(Selection(which="turn")))).restored == ("a.txt", "b.txt")
    assert (root / "a.txt").read_text() == "one\n" and not (root / "b.txt").exists()
    assert [one.turn_id for one in kept.chosen(Selection(which="turn"))] == ["t1"], "the one before it comes next"
    again = await opened(root)
    assert (await again.undo(again.chosen(Selection(which="turn")))).restored == ("a.txt",)
    assert (root / "a.txt").read_text() == "a\n" and again.chosen(Selection(which="turn")) == []
    assert (await again.undo(again.chosen(Selection()))).restored == ("a.txt",), "and the undo is taken back"
    assert (root / "a.txt").read_text() == "one\n"


async def test_a_file_is_taken_back_alone(root: Path) -> None:
    kept = await opened(root)
    await of_turn(kept, "t1", lambda: [(root / name).write_text("x\n") for name in ("a.txt", "b.txt", "c.txt")])
    chosen = kept.chosen(Selection(paths=("b.txt",)))
    undone = await kept.undo(chosen, ("b.txt", "never.txt"))
    assert undone.restored == ("b.txt",) and undone.left == {"never.txt": "nothing was changed in it"}
    assert not (root / "b.txt").exists() and (root / "a.txt").read_text() == (root / "c.txt").read_text() == "x\n"


async def test_a_hunk_is_taken_back_and_a_persons_own_lines_stay(root: Path) -> None:
    file = root / "a.txt"
    file.write_text(numbered(60))
    kept = await opened(root)
    await of_turn(kept, "t1", lambda: file.write_text(numbered(60, n5="five", n30="thirty", n50="fifty")), [file])
    (change,) = (await kept.changes(kept.steps)).files
    assert len(change.hunks) == 3 and change.turns == ("t1",)
    file.write_text(numbered(60, n5="five", n30="thirty", n50="fifty", n12="mine"))
    undone = await kept.undo_hunks(kept.steps, [change.hunks[1].id])
    assert undone.restored == ("a.txt",) and not undone.left
    assert file.read_text() == numbered(60, n5="five", n50="fifty", n12="mine")
    assert (await kept.undo(kept.chosen(Selection()))).restored == ("a.txt",)
    assert file.read_text() == numbered(60, n5="five", n30="thirty", n50="fifty", n12="mine")


async def test_a_turn_is_taken_back_behind_one_of_its_hunks(root: Path) -> None:
    file = root / "a.txt"
    file.write_text(numbered(60))
    kept = await opened(root)

    def act() -> None:
        file.write_text(numbered(60, n5="five", n30="thirty", n50="fifty"))
        (root / "b.txt").write_text("new\n")

    await of_turn(kept, "t1", act)
    first, second, _ = [hunk.id for hunk in (await kept.changes(kept.steps)).files[0].hunks]
    for hunk in (second, first):
        await kept.undo_hunks(kept.chosen(Selection(turn_id="t1")), [hunk])
    undone = await kept.undo(kept.chosen(Selection(which="turn")))
    assert undone.restored == ("a.txt", "b.txt") and not undone.left
    assert file.read_text() == numbered(60) and not (root / "b.txt").exists()
    again = await kept.undo(kept.chosen(Selection(turn_id="t1")))
    assert again.restored == () and file.read_text() == numbered(60), "it is taken back already"


async def test_a_hunk_whose_lines_a_person_changed_stays(root: Path) -> None:
    file = root / "a.txt"
    file.write_text(numbered(60))
    kept = await opened(root)
    await of_turn(kept, "t1", lambda: file.write_text(numbered(60, n5="five", n50="fifty")), [file])
    (change,) = (await kept.changes(kept.steps)).files
    mine = numbered(60, n5="my own", n50="fifty")
    file.write_text(mine)
    undone = await kept.undo_hunks(kept.steps, [change.hunks[0].id])
    assert undone.left == {"a.txt": "these lines were changed since"} and file.read_text() == mine
    assert (await kept.undo_hunks(kept.steps, [change.hunks[1].id, "no such hunk"])).restored == ("a.txt",)
    assert file.read_text() == numbered(60, n5="my own")


async def test_the_hunk_of_a_file_that_was_made_or_removed_is_all_of_it(root: Path) -> None:
    kept = await opened(root)

    def act() -> None:
        (root / "new.txt").write_text("made\n")
        (root / "a.txt").unlink()

    await of_turn(kept, "t1", act)
    hunks = [hunk.id for file in (await kept.changes(kept.steps)).files for hunk in file.hunks]
    undone = await kept.undo_hunks(kept.steps, hunks)
    assert undone.restored == ("a.txt", "new.txt")
    assert (root / "a.txt").read_text() == "a\n" and not (root / "new.txt").exists()


async def test_hunks_keep_line_ends_and_what_stands_at_the_end(root: Path) -> None:
    file = root / "a.txt"
    before = b"\r\n".join(str(at).encode() for at in range(40))
    file.write_bytes(before)
    kept = await opened(root)
    after = before.replace(b"\r\n3\r\n", b"\r\nthree\r\n").replace(b"\r\n39", b"\r\nlast")
    await of_turn(kept, "t1", lambda: file.write_bytes(after), [file])
    (change,) = (await kept.changes(kept.steps)).files
    assert len(change.hunks) == 2
    await kept.undo_hunks(kept.steps, [change.hunks[1].id])
    assert file.read_bytes() == before.replace(b"\r\n3\r\n", b"\r\nthree\r\n")


# --- what could not be kept, and what a person changed since ---


@pytest.mark.parametrize("only", [False, True])
@pytest.mark.parametrize("grows", [False, True])
async def test_a_file_too_large_to_keep_stays_when_it_is_taken_back(root: Path, grows: bool, only: bool) -> None:
    """It is in one of the two trees alone: it was not made, and not removed."""
    big, small = b"x" * (MOST_FILE + 1), b"ten lines\n"
    before, after = (small, big) if grows else (big, small)
    file = root / "big.csv"
    file.write_bytes(before)
    kept = await opened(root)
    done = await of_turn(kept, "t1", lambda: file.write_bytes(after), [file] if only else None)
    undone = await kept.undo(kept.chosen(Selection(which="all")))
    assert file.read_bytes() == after and undone.restored == ()
    assert "too large" in undone.left["big.csv"] and done.unkept == ("big.csv",)
    changes = await kept.changes([done])
    assert changes.files == () and "big.csv" in changes.left
    again = await opened(root)
    assert (await again.undo([again.steps[0]])).restored == () and file.read_bytes() == after


async def test_a_mode_that_a_person_gave_since_stays(root: Path) -> None:
    file, other = root / "a.txt", root / "b.txt"
    other.write_text("b\n")
    for one in (file, other):
        one.chmod(0o644)
    kept = await opened(root)

    def act() -> None:
        file.write_text("secret\n")
        other.write_text("changed\n")
        other.chmod(0o755)

    await of_turn(kept, "t1", act)
    file.chmod(0o600)
    await kept.undo(kept.chosen(Selection()))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and file.read_text() == "a\n"
    assert stat.S_IMODE(other.stat().st_mode) == 0o644, "what the step changed is put back"


async def test_a_link_has_no_hunks(root: Path) -> None:
    (root / "l").symlink_to("a.txt")
    kept = await opened(root)

    def act() -> None:
        (root / "l").unlink()
        (root / "l").write_text("text\n")

    await of_turn(kept, "t1", act)
    (change,) = (await kept.changes(kept.steps)).files
    assert change.hunks == () and change.patch == "Link l changed\n"
    assert (await kept.undo(kept.steps)).restored == ("l",) and (root / "l").readlink() == Path("a.txt")
