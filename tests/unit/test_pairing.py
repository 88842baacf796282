"""Pairing: a short code, proofs that cannot be passed on, a certificate that can speak for this network only."""

from __future__ import annotations

import datetime
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from variet import connection, pairing
from variet.engine.addresses import Names, local_url, names_here, reachable
from variet.engine.certificate import Certificates
from variet.engine.pairing import Pairing
from variet.engine.problems import Problem
from variet.engine.trust import KeyStore
from variet.errors import TrustError

HERE = Names(frozenset({"localhost", "brain.local"}), frozenset({"127.0.0.1", "::1", "192.168.1.20"}))
NONCE = b"n" * 16


def test_codes_are_forgiving_to_type_and_hard_to_guess() -> None:
    code = pairing.new_code()
    assert len(pairing.normalise(code)) == 8
    assert pairing.normalise("o1il-abcd") == "0111ABCD"
    assert pairing.normalise(f" {code.lower().replace('-', ' ')} ") == pairing.normalise(code)
    for wrong in ("", "ABC", "UUUU-UUUU", "ABCD-EFGHJ"):
        with pytest.raises(ValueError, match="eight"):
            pairing.normalise(wrong)


def test_a_proof_holds_for_its_side_and_its_parts_only() -> None:
    secret = pairing.stretch("K7QD-M2XF", b"salt")
    assert secret == pairing.stretch("k7qdm2xf", b"salt") != pairing.stretch("K7QD-M2XF", b"tlas")
    proof = pairing.prove(secret, "client", b"ab", b"c")
    assert pairing.proven(proof, secret, "client", b"ab", b"c")
    assert not pairing.proven(proof, secret, "engine", b"ab", b"c")
    assert not pairing.proven(proof, secret, "client", b"a", b"bc")
    assert not pairing.proven("ü", secret, "client", b"ab", b"c")


def test_what_is_trusted_is_what_was_fingerprinted(tmp_path: Path) -> None:
    """A text with a second certificate behind the first has the first one's fingerprint for a forgiving decoder."""
    mine, theirs = (Certificates(tmp_path / name) for name in ("mine", "theirs"))
    for one in (mine, theirs):
        one.refresh(HERE)
    alone = mine.authority_pem()
    assert pairing.one_certificate(alone.replace("\n", "\r\n")) == pairing.one_certificate(alone)
    for tampered in (
        alone + theirs.authority_pem(),
        alone + "x",
        alone.replace("-----END", "=QQ==\n-----END"),
        "",
        "x",
    ):
        with pytest.raises(ValueError):
            pairing.one_certificate(tampered)
    with pytest.raises(ValueError):
        pairing.fingerprint(alone + theirs.authority_pem())


def client_proof(code: str, hello: dict[str, str], name: str, authority: str) -> str:
    salt = bytes.fromhex(hello["salt"])
    secret = pairing.stretch(code, salt)
    return pairing.prove(secret, "client", salt, NONCE, name.encode(), pairing.fingerprint(authority))


async def test_a_code_is_good_for_one_key(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys.json")
    store.add("laptop", admin=True)
    offers = Pairing(store, "")
    with pytest.raises(Problem, match="no pairing code"):
        offers.hello()
    code = await offers.open(admin=False)
    made = offers.finish("laptop", NONCE, client_proof(code, offers.hello(), "laptop", ""))
    assert made["name"] == "laptop-2"
    key = store.find(made["key"])
    assert key is not None and not key.admin
    assert offers.state() == {"state": "paired", "name": "laptop-2"}
    with pytest.raises(Problem, match="no pairing code"):
        offers.finish("other", NONCE, "0" * 64)


async def test_wrong_codes_and_a_machine_in_between_get_nothing(tmp_path: Path) -> None:
    mine, theirs = (Certificates(tmp_path / name) for name in ("mine", "theirs"))
    for one in (mine, theirs):
        one.refresh(HERE)
    store = KeyStore(tmp_path / "keys.json")
    offers = Pairing(store, mine.authority_pem())
    code = await offers.open(admin=True)
    passed_on = client_proof(code, offers.hello(), "laptop", theirs.authority_pem())
    with pytest.raises(Problem, match="in between"):
        offers.finish("laptop", NONCE, passed_on)
    for _ in range(4):
        with pytest.raises(Problem, match="not the code"):
            offers.finish("laptop", NONCE, "0" * 64)
    with pytest.raises(Problem, match="no pairing code"):  # five wrong ones ended it, for the right one too
        offers.finish("laptop", NONCE, client_proof(code, {"salt": "00"}, "laptop", mine.authority_pem()))
    assert store.all() == []


def test_the_authority_may_speak_for_private_addresses_only(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path / "tls")
    assert certificates.refresh(HERE)
    authority = x509.load_pem_x509_certificate(certificates.authority_pem().encode())
    constraints = authority.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical and constraints.value.permitted_subtrees
    networks = {str(one.value) for one in constraints.value.permitted_subtrees if isinstance(one, x509.IPAddress)}
    assert {"192.168.0.0/16", "10.0.0.0/8", "127.0.0.0/8"} <= networks and "0.0.0.0/0" not in networks
    for secret in ("authority.key", "server.key"):
        assert stat.S_IMODE((tmp_path / "tls" / secret).stat().st_mode) == 0o600


def test_a_certificate_stays_until_names_change_or_its_end_is_near(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = Certificates(tmp_path / "tls")
    assert certificates.refresh(HERE)
    authority = certificates.authority_pem()
    assert not certificates.refresh(HERE)
    moved = Names(HERE.dns, HERE.addresses | {"192.168.1.77"})
    assert certificates.refresh(moved) and not certificates.refresh(moved)
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=350)
    monkeypatch.setattr("variet.engine.certificate._now", lambda: later)
    assert certificates.refresh(moved)
    assert certificates.authority_pem() == authority  # whoever paired still trusts it
    newer = Names(moved.dns | {"renamed.example", "brain.lan"}, moved.addresses)
    assert certificates.refresh(newer) and not certificates.refresh(newer), "what it may not sign for is left out"
    leaf = x509.load_pem_x509_certificate((tmp_path / "tls" / "server.pem").read_bytes())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    assert "brain.lan" in names and "renamed.example" not in names
    other = Certificates(tmp_path / "other")
    other.refresh(moved)
    (tmp_path / "tls" / "server.key").write_bytes((tmp_path / "other" / "server.key").read_bytes())
    assert certificates.refresh(newer), "a renewal that was interrupted between its two files is done again"
    certificates.context(newer)
    (tmp_path / "tls" / "server.pem").write_text("nonsense")
    with pytest.raises(TrustError, match=r"certificate cannot be made or read"):
        certificates.refresh(moved)


def test_names_of_this_machine() -> None:
    here = names_here("192.168.1.20", ["brain.lan", "10.0.0.9"])
    assert {"localhost", "brain.lan"} <= here.dns and here.addresses == {"127.0.0.1", "::1", "192.168.1.20", "10.0.0.9"}
    assert "127.0.0.1" in names_here("0.0.0.0", []).addresses
    assert reachable("192.168.1.20", 8000, secure=True) == ("https://192.168.1.20:8000",)
    assert reachable("::1", 8000, secure=False) == ("http://[::1]:8000",)
    assert local_url("0.0.0.0", 8000, secure=True) == "https://127.0.0.1:8000"
    assert local_url("192.168.1.20", 8000, secure=True) == "https://192.168.1.20:8000"


def test_where_the_engine_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VARIET_HOME", str(tmp_path))
    for name in ("VARIET_ENGINE_URL", "VARIET_API_KEY", "VARIET_ENGINE_CA"):
        monkeypatch.delenv(name, raising=False)
    assert connection.find() == connection.Connection("http://127.0.0.1:8000")
    connection.announce("http://127.0.0.1:9000", "run", None)
    assert connection.find() == connection.Connection("http://127.0.0.1:9000", "run", key_lasts=False)
    certificates = Certificates(tmp_path / "tls")
    certificates.refresh(HERE)
    stored = connection.save_pairing("https://192.168.1.20:8000", "vk_x", certificates.authority_pem())
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    found = connection.find()
    assert (found.url, found.key) == ("https://192.168.1.20:8000", "vk_x")
    assert isinstance(found.tls(), ssl.SSLContext)
    monkeypatch.setenv("VARIET_API_KEY", "vk_y")
    assert connection.find().key == "vk_y"
    monkeypatch.setenv("VARIET_ENGINE_URL", "http://127.0.0.1:1/")
    assert connection.find() == connection.Connection("http://127.0.0.1:1", "vk_y")
    monkeypatch.delenv("VARIET_ENGINE_URL")
    monkeypatch.delenv("VARIET_API_KEY")
    assert connection.forget_pairing() and not connection.forget_pairing()
    connection.withdraw("http://127.0.0.1:1")
    assert connection.find().url == "http://127.0.0.1:9000"  # another engine's announcement is not ours to undo
    connection.withdraw("http://127.0.0.1:9000")
    assert connection.find().url == connection.DEFAULT_URL
    stored.write_text("{")
    with pytest.raises(TrustError, match="pair again"):
        connection.find()
