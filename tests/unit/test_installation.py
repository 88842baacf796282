"""The broker as a user of its own: what is believed, what is copied, on which Python it runs."""

from __future__ import annotations

import json
import os
import shutil
import stat
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import variet
from variet.assistant.broker import installation, installed, place, program, unit
from variet.assistant.broker.account import Account
from variet.assistant.broker.place import Place
from variet.assistant.problems import ToolProblem
from variet.assistant.secrets.keep import CREDENTIAL, handed_key, keep
from variet.assistant.secrets.sealed import SealedFile
from variet.errors import TrustError, VarietError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="users are told apart by number")
ROOT = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root, to write as root")
ME = os.geteuid() if os.name == "posix" else 0
KEY = b"k" * 32


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What says that a broker is installed for this user."""
    file = tmp_path / "broker.json"
    monkeypatch.setattr(installed, "FILE", file)
    monkeypatch.delenv("VARIET_HOME", raising=False)
    says(file, owner_uid=ME, broker_uid=12345)
    return file


def says(file: Path, **what: object) -> None:
    file.write_text(json.dumps({"folder": "/var/lib/x", "socket": "/run/x/socket", **what}))
    file.chmod(0o644)


@ROOT
def test_a_client_believes_what_root_wrote(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert place.mine() == Place(Path("/var/lib/x"), 12345, "/run/x/socket") and place.mine().own_user
    with pytest.raises(VarietError, match="sudo systemctl start variet-broker"):
        place.served()
    says(told, owner_uid=12345, broker_uid=ME)
    assert place.served() == Place(Path("/var/lib/x"), 12345, "/run/x/socket")
    says(told, owner_uid=1, broker_uid=2)
    assert not place.mine().own_user, "it is somebody else's"
    says(told, owner_uid=ME, broker_uid=2)
    monkeypatch.setenv("VARIET_HOME", str(told.parent))
    assert not place.mine().own_user


@ROOT
def test_what_others_may_have_written_is_not_believed_nor_passed_over(told: Path) -> None:
    told.chmod(0o664)
    with pytest.raises(TrustError, match="others than root"):
        place.mine()
    told.chmod(0o644)
    os.chown(told, 12345, 0)
    with pytest.raises(TrustError, match="others than root"):
        place.mine()
    os.chown(told, 0, 0)
    told.write_text('{"socket": "/tmp/mine"}')
    with pytest.raises(TrustError, match="none of ours"):
        place.mine()
    told.unlink()
    assert not place.mine().own_user


def test_who_is_at_the_other_end_must_be_known_where_it_is_another_user() -> None:
    same, other = Place(Path("x"), 1000), Place(Path("x"), 1000, "/run/x")
    assert [where.trusts(uid) for where in (same, other) for uid in (1000, 0, None)] == [
        True, False, True, True, False, False,
    ]  # fmt: skip


def test_what_the_system_s_key_seals_opens_by_it_alone(tmp_path: Path) -> None:
    (tmp_path / CREDENTIAL).write_bytes(KEY)
    assert handed_key({"CREDENTIALS_DIRECTORY": str(tmp_path)}) == KEY
    assert handed_key({}) is None and handed_key({"CREDENTIALS_DIRECTORY": str(tmp_path / "none")}) is None
    held = keep(tmp_path, KEY)
    assert held.get("google-read") is None
    held.put("google-read", "1//token")
    held.reseal("a new PIN of the person")
    assert keep(tmp_path, KEY).get("google-read") == "1//token", "no PIN is asked for"
    sealed = tmp_path / "secrets.sealed"
    assert b"1//token" not in sealed.read_bytes() and stat.S_IMODE(sealed.stat().st_mode) == 0o600
    with pytest.raises(ToolProblem, match="another key"):
        keep(tmp_path, b"x" * 32).get("google-read")
    with pytest.raises(ToolProblem, match="sealed by the system's key"):
        SealedFile(sealed).unlock("a new PIN of the person")
    (tmp_path / CREDENTIAL).write_bytes(b"")
    with pytest.raises(VarietError, match="the key has 0 bytes"):
        handed_key({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    sealed.unlink()
    by_pin = SealedFile(sealed, cost=2**12)
    by_pin.unlock("123456")
    by_pin.put("google-read", "1//token")
    with pytest.raises(ToolProblem, match="sealed by a PIN"):
        keep(tmp_path, KEY).get("google-read")


def test_what_is_needed_is_found_with_its_extras_and_without_the_engine() -> None:
    names = program.needed("variet[agent]")
    assert {"variet", "pydantic-core", "cryptography", "cffi", "lxml-html-clean", "keyring", "secretstorage"} <= {
        *names
    }
    assert not {"fastapi", "pytest", "uvloop", "nvidia-ml-py"} & {*names}
    assert "cryptography" not in program.needed("variet")
    with pytest.raises(VarietError, match="make setup-client"):
        program.needed("no-such-thing")


@ROOT
def test_a_link_in_a_checkout_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, checkout, folder = tmp_path / "secret", tmp_path / "checkout" / "variet", tmp_path / "broker"
    secret.write_text("root's")
    checkout.mkdir(parents=True)
    (checkout / "__init__.py").write_text("")
    (checkout / "cli.py").symlink_to(secret)
    monkeypatch.setattr(variet, "__file__", str(checkout / "__init__.py"))
    monkeypatch.setattr(program, "needed", lambda _: ["click"])
    with pytest.raises(VarietError, match="no plain file"):
        program.install(Path(sys.executable), folder)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "checkout", secret], "nothing is left behind"
    (checkout / "cli.py").unlink()
    (checkout / "cli.py").write_text("def main(): print('new')")
    (checkout / "__pycache__").mkdir()
    (checkout / "__pycache__" / "cli.cpython-311.pyc").write_text("evil")
    folder.mkdir()
    (folder / "old").write_text("")
    old = os.umask(0o077)
    try:
        program.install(Path(sys.executable), folder)
    finally:
        os.umask(old)
    assert not (folder / "old").exists() and not (tmp_path / "broker.old").exists()
    [compiled] = folder.rglob("variet/__pycache__/cli.*.pyc")
    assert b"evil" not in compiled.read_bytes()
    for path in folder.rglob("*"):
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            assert path.stat().st_uid == 0 and mode & 0o022 == 0 and mode & 0o044 == 0o044, path


def acl(uid: int) -> bytes:
    """One more user may write, acl(5): version 2, then (tag, rights, id) of owner, user, group, mask and others."""
    nobody = 0xFFFFFFFF
    entries = [(1, 7, nobody), (2, 7, uid), (4, 5, nobody), (16, 7, nobody), (32, 5, nobody)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


SYSTEM_S = Path(f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}")


@ROOT
@pytest.mark.skipif(not SYSTEM_S.exists(), reason=f"{SYSTEM_S} is not here")
def test_a_python_that_its_person_can_change_is_refused() -> None:
    owner = Account("ada", 12345, 12345, (12345,), Path("/nowhere"))
    assert program.sound_python(SYSTEM_S, owner) == SYSTEM_S.resolve()
    folder = Path("/var/tmp") / f"variet-python-{os.getpid()}"
    folder.mkdir()
    try:
        folder.chmod(0o755)
        python = folder / "python3"
        with pytest.raises(VarietError, match="is not there"):
            program.sound_python(python, owner)
        shutil.copy(SYSTEM_S, python)
        os.chown(python, owner.uid, 0)
        python.chmod(0o555)
        with pytest.raises(VarietError, match=f"{python} is user id 12345's") as failed:
            program.sound_python(python, owner)
        assert "--python PATH" in str(failed.value)
        os.chown(python, 0, 0)
        folder.chmod(0o777)
        with pytest.raises(VarietError, match=f"everybody can change {folder}"):
            program.sound_python(python, owner)
        folder.chmod(0o755)
        os.setxattr(folder, "system.posix_acl_access", acl(owner.uid))  # which no mode tells
        with pytest.raises(VarietError, match=f"ada can change {folder}"):
            program.sound_python(python, owner)
        os.removexattr(folder, "system.posix_acl_access")
        folder.chmod(0o700)
        with pytest.raises(VarietError, match="ada cannot run it"):
            program.sound_python(python, owner)
    finally:
        shutil.rmtree(folder)


@ROOT
def test_whatever_makes_one_root_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import grp

    def run(command: Sequence[str]) -> tuple[int, str]:
        assert command == ("sudo", "-n", "-l", "-U", "ada")
        return 0, "User ada may run the following commands:\n    (ALL) NOPASSWD: ALL\n"

    groups = {"docker": grp.struct_group(("docker", "x", 77, []))}

    def found(name: str) -> grp.struct_group:
        return groups[name]

    monkeypatch.setattr(grp, "getgrnam", found)
    assert installation.doubts(Account("ada", 1000, 1000, (1000, 77), Path("/home/ada")), run) == [
        "ada is in the group docker, by which they become root without a password",
        "ada may use sudo without a password",
    ]
    assert installation.doubts(Account("ada", 1000, 1000, (1000,), Path("/home/ada")), lambda _: (1, "")) == []


@ROOT
def test_a_folder_of_a_group_is_its_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import grp

    shared = tmp_path / "shared"
    shared.mkdir()
    os.chown(shared, 0, 4242)
    shared.chmod(0o2775)
    assert program.others_can_change([str(shared)]) == "", "nobody is in it"
    monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group(("staff", "x", gid, ["ada", "root"])))
    assert program.others_can_change([str(shared)]) == f"ada can change {shared}, by its group"
    inside = tmp_path / "mine" / "deep"
    inside.mkdir(parents=True)
    os.chown(inside, 12345, 0)
    assert program.others_can_change([str(inside.parent)]) == f"{inside} is user id 12345's"
    assert program.others_can_change([str(inside.parent)], inside=False) == ""


@ROOT
def test_what_is_kept_is_one_person_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OWNER", "STATE", "KEY"):
        monkeypatch.setattr(unit, name, tmp_path / name)
    monkeypatch.setattr(installed, "FILE", tmp_path / "FILE")
    ada = Account("ada", 1000, 1000, (1000,), Path("/home/ada"))
    installation._nobody_else_s(ada)
    (tmp_path / "STATE").mkdir()
    with pytest.raises(VarietError, match="nobody knows whom"):
        installation._nobody_else_s(ada)
    (tmp_path / "OWNER").write_text(json.dumps({"uid": 1000, "name": "ada"}))
    installation._nobody_else_s(ada)
    for other in (Account("bob", 1001, 1, (1,), Path()), Account("bob", 1000, 1, (1,), Path())):  # a number again
        with pytest.raises(VarietError, match=r"that of ada \(user id 1000\)"):
            installation._nobody_else_s(other)
    installation._key()
    key = (tmp_path / "KEY").read_bytes()
    installation._key()
    assert len(key) == 32 and (tmp_path / "KEY").read_bytes() == key
    (tmp_path / "KEY").write_bytes(b"")
    (tmp_path / "STATE" / "secrets.sealed").write_text("{}")
    with pytest.raises(VarietError, match="it is no key"):
        installation._key()
    (tmp_path / "STATE" / "secrets.sealed").unlink()
    installation._key()
    assert len((tmp_path / "KEY").read_bytes()) == 32


def test_whoever_does_not_end_is_not_taken_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("FILE", "PROGRAM", "STATE", "KEY", "OWNER"):
        monkeypatch.setattr(unit, name, tmp_path / name)
    monkeypatch.setattr(installed, "FILE", tmp_path / "told")
    monkeypatch.setattr(installation, "has_systemd", lambda: True)
    with pytest.raises(VarietError, match="no broker is installed"):
        installation.uninstall(lambda _: (0, ""), purge=True)
    (tmp_path / "FILE").write_text("")
    with pytest.raises(VarietError, match="is deactivating, and nothing was removed"):
        installation.uninstall(lambda command: (3, "deactivating\n" if "is-active" in command else ""), purge=False)
    assert (tmp_path / "FILE").exists()
    assert installation.uninstall(lambda _: (3, "inactive\n"), purge=False) == [str(tmp_path / "FILE")]
