"""Snapshots are found by conversation, sealed, checked, and forgotten by a budget."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from variet.engine.conversation import Chain
from variet.engine.snapshots import Snapshot, Snapshots, validity

KIB = 1024


def chain(*names: str) -> Chain:
    """A chain of links of 100 bytes each."""
    return Chain(
        tuple("/".join(names[: n + 1]) for n in range(len(names))), tuple(100 * (n + 1) for n in range(len(names)))
    )


def store(folder: Path, most: int = 1_000 * KIB, free: int = 0) -> Snapshots:
    return Snapshots(folder / "snapshots", most, free)


def keep(
    where: Snapshots, of: Chain, *, key: str = "k", size: int = KIB, tokens: int = 300, model: str = "m"
) -> Snapshot:
    """As a child and the engine do it: write, take in, seal."""
    name = where.new_id()
    (where.place(model) / f"{name}.kv").write_bytes(os.urandom(size))
    one = where.add(name, model, key, of, tokens)
    where.seal(one, where.checksum(one))
    return next(known for known in where if known.id == name)


def test_the_longest_beginning_is_found(tmp_path: Path) -> None:
    where = store(tmp_path)
    one, two = keep(where, chain("sys", "a", "b")), keep(where, chain("sys", "x"))
    assert where.find("k", chain("sys", "a", "b", "c")) == (one, 3)
    assert where.find("k", chain("sys", "a", "other")) == (one, 2)
    assert where.find("k", chain("sys", "x", "y")) == (two, 2)
    found = where.find("k", chain("sys", "new"))
    assert found is not None and found[1] == 1, "a common system prompt is worth something, too"
    assert where.find("k", chain("else")) is None and where.find("another file", chain("sys", "a")) is None


def test_a_longer_state_replaces_its_beginning_only(tmp_path: Path) -> None:
    where = store(tmp_path)
    keep(where, chain("sys", "a"))
    branch = keep(where, chain("sys", "a", "other"))
    longer = keep(where, chain("sys", "a", "b"))
    assert {one.id for one in where} == {branch.id, longer.id}
    assert len(list(where.folder.glob("*/*.kv"))) == 2


def test_it_outlives_the_process_and_belongs_to_nobody_else(tmp_path: Path) -> None:
    where = store(tmp_path)
    one = keep(where, chain("sys", "a"))
    assert stat.S_IMODE(where.path(one).stat().st_mode) == 0o600
    assert stat.S_IMODE(where.path(one).with_suffix(".json").stat().st_mode) == 0o600
    assert stat.S_IMODE(where.path(one).parent.stat().st_mode) == 0o700
    again = store(tmp_path)
    assert again.find("k", chain("sys", "a", "b")) == (one, 2) and again.is_whole(one)


def test_what_was_not_sealed_goes_at_the_next_start(tmp_path: Path) -> None:
    where = store(tmp_path)
    whole = keep(where, chain("a"))
    cut = where.place("m") / "0123456789abcdef.kv"
    cut.write_bytes(b"half")
    unsealed = where.new_id()
    (where.place("m") / f"{unsealed}.kv").write_bytes(b"x")
    found = where.add(unsealed, "m", "k", chain("b"), 300)
    assert where.is_whole(found), "good for this process"
    assert [one.id for one in store(tmp_path)] == [whole.id]
    assert sorted(path.name for path in where.place("m").iterdir()) == [f"{whole.id}.json", f"{whole.id}.kv"]


@pytest.mark.parametrize("damage", ["flipped", "shorter", "gone"])
def test_damage_is_seen(tmp_path: Path, damage: str) -> None:
    where = store(tmp_path)
    one = keep(where, chain("a"), size=20 * KIB)
    data = bytearray(where.path(one).read_bytes())
    if damage == "flipped":
        data[9_000] ^= 1
        where.path(one).write_bytes(data)
    elif damage == "shorter":
        where.path(one).write_bytes(data[:-1])
    else:
        where.path(one).unlink()
    assert not where.is_whole(one)


@pytest.mark.parametrize("seal", ["{", "[]", '{"id": "x"}', "foreign"])
def test_a_seal_that_cannot_be_read_costs_its_snapshot_only(tmp_path: Path, seal: str) -> None:
    where = store(tmp_path)
    good, bad = keep(where, chain("a")), keep(where, chain("b"))
    path = where.path(bad).with_suffix(".json")
    text = path.read_text()
    path.write_text(json.dumps({**json.loads(text), "model": "../../etc"}) if seal == "foreign" else seal)
    assert [one.id for one in store(tmp_path)] == [good.id]
    assert not where.path(bad).exists()


def test_the_longest_unused_go_when_the_budget_is_spent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    monkeypatch.setattr("variet.engine.snapshots.time", SimpleNamespace(time=lambda: float(next(now))))
    where = store(tmp_path, most=35 * KIB)
    first, second, third = (keep(where, chain(name), size=10 * KIB) for name in "abc")
    where.touch(first)
    fourth = keep(where, chain("d"), size=10 * KIB)
    assert {one.id for one in where} == {first.id, third.id, fourth.id} and where.size <= 35 * KIB
    assert not where.path(second).exists()
    assert not where.room_for(36 * KIB), "larger than all there may be"
    assert {one.id for one in where} == {first.id, third.id, fourth.id}, "and nothing goes for it"
    assert where.room_for(30 * KIB) and len(list(where)) == 0, "room is made before it is written"


def test_a_full_disk_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = store(tmp_path, free=50 * KIB)
    keep(where, chain("a"), size=10 * KIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=55 * KIB))
    assert where.room_for(5 * KIB) and len(list(where)) == 1
    assert not where.room_for(6 * KIB) and not list(where), "old ones go first, and still it is not enough"


def test_a_state_is_valid_for_one_file_one_build_and_what_shapes_it(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF")
    args = ("--model", str(file), "--cache-type-k", "q8_0", "--parallel", "2", "--ctx-size", "8192")
    one = validity("b1", args, {"PATH": "x"}, [file])
    assert one == validity("b1", (*args, "--device", "none", "--n-gpu-layers", "9"), {"PATH": "y"}, [file])
    assert one != validity("b2", args, {}, [file])
    assert one != validity("b1", tuple("q4_0" if arg == "q8_0" else arg for arg in args), {}, [file])
    assert one != validity("b1", tuple("4096" if arg == "8192" else arg for arg in args), {}, [file]), "rope factors"
    assert one != validity("b1", args, {"LLAMA_ARG_ROPE_SCALE": "2"}, [file])
    os.utime(file, ns=(1, 1))
    assert one != validity("b1", args, {}, [file])
    with pytest.raises(OSError):
        validity("b1", args, {}, [tmp_path / "gone"])
