"""Who may ask: addresses, hosts, origins, keys and the admin scope."""

from __future__ import annotations

import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from variet.engine import trust
from variet.engine.addresses import is_private
from variet.engine.trust import Guard, KeyStore, check_binding, needs_admin
from variet.errors import TrustError


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("127.0.0.1", True), ("::1", True), ("192.168.1.5", True), ("10.1.2.3", True), ("172.16.0.1", True),
        ("100.64.0.1", True), ("100.127.255.254", True), ("fe80::1%eth0", True), ("fd00::1", True),
        ("::ffff:192.168.1.5", True), ("8.8.8.8", False), ("100.128.0.1", False), ("::ffff:8.8.8.8", False),
        ("2001:4860:4860::8888", False), ("0.0.0.0", False), ("224.0.0.1", False), ("example.org", False),
    ],
)  # fmt: skip
def test_private_addresses(address: str, private: bool) -> None:
    assert is_private(address) is private


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "config" / "keys.json")


def test_a_key_is_kept_as_a_hash_in_a_private_file(store: KeyStore) -> None:
    key = store.add("laptop", admin=False)
    text = store.path.read_text()
    assert key not in text and key.removeprefix("vk_") not in text
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    found = store.find(key)
    assert found is not None and found.name == "laptop" and store.find(key + "x") is None
    with pytest.raises(TrustError, match="already"):
        store.add("laptop", admin=True)
    store.remove("laptop")
    assert store.find(key) is None
    with pytest.raises(TrustError, match="no key"):
        store.remove("laptop")


def test_a_key_made_by_another_process_is_seen(store: KeyStore) -> None:
    assert store.all() == []
    key = KeyStore(store.path).add("other", admin=False)
    assert store.find(key) is not None


def test_a_key_removed_by_another_process_is_refused_soon(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    key = store.add("lost", admin=False)
    monkeypatch.setattr(trust, "FRESH_S", 3600.0)
    assert store.find(key) is not None
    KeyStore(store.path).remove("lost")
    assert store.find(key) is not None, "the file was just looked at"
    monkeypatch.setattr(trust, "FRESH_S", 0.0)
    assert store.find(key) is None


def test_a_damaged_key_file_lets_nobody_in(store: KeyStore) -> None:
    store.add("one", admin=False)
    store.path.write_text("{")
    with pytest.raises(TrustError):
        store.all()


def test_binding(store: KeyStore) -> None:
    check_binding("127.0.0.1", store)
    with pytest.raises(TrustError, match="public"):
        check_binding("8.8.8.8", store)
    with pytest.raises(TrustError, match="variet key add"):
        check_binding("192.168.1.2", store)
    store.add("one", admin=False)
    check_binding("192.168.1.2", store)
    check_binding("0.0.0.0", store)


async def ask(
    store: KeyStore, path: str = "/v1/chat/completions", method: str = "POST", peer: str = "127.0.0.1",
    twice: Sequence[tuple[bytes, bytes]] = (), **headers: str,
) -> int:  # fmt: skip
    """The status a guarded application answers with; the application itself says 299."""
    statuses: list[int] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 299, "headers": []})

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    guard = Guard(app, store, ("brain",), lambda origin: origin == "http://localhost:3000", "of this run")
    pairs = [
        (name.replace("_", "-").encode(), value.encode()) for name, value in {"host": "localhost", **headers}.items()
    ]
    pairs = [*(pair for pair in pairs if pair[0] not in dict(twice)), *twice]
    scope = {
        "type": "http", "path": path, "method": method, "client": (peer, 1), "server": ("192.168.1.20", 8000),
        "headers": pairs, "scheme": "http",
    }  # fmt: skip
    await guard(scope, None, send)
    return statuses[0]


async def test_on_loopback_without_keys_all_is_open(store: KeyStore) -> None:
    assert await ask(store) == 299
    assert await ask(store, "/engine/swap") == 299


async def test_strangers_rebinding_and_foreign_pages_are_refused(store: KeyStore) -> None:
    assert await ask(store, peer="8.8.8.8") == 403
    assert await ask(store, host="evil.example:8000") == 403
    assert await ask(store, host="brain:8000") == 299
    assert await ask(store, host="[::1]:8000") == 299
    assert await ask(store, host="brain.:8000") == 299, "the same name, written to its root"
    assert await ask(store, host=f"{socket.gethostname().partition('.')[0]}.local") == 299
    assert await ask(store, origin="https://evil.example") == 403
    assert await ask(store, origin="http://localhost:3000") == 299


@pytest.mark.parametrize("host", ["evil.local", "box.local", "localhost.evil.example", "127.0.0.1.evil.example", ""])
async def test_names_that_are_not_its_own_are_refused(store: KeyStore, host: str) -> None:
    assert await ask(store, "/engine/requests", "GET", host=host) == 403


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "DELETE"])
@pytest.mark.parametrize("site", ["cross-site", "same-site", "nonsense"])
@pytest.mark.parametrize("path", ["/props", "/engine/status", "/v1/chat/completions", "/engine/swap", "/metrics"])
async def test_other_sites_are_refused_whatever_they_leave_out(
    store: KeyStore, method: str, site: str, path: str
) -> None:
    for mode in ("no-cors", "navigate", "cors"):
        assert await ask(store, path, method, sec_fetch_site=site, sec_fetch_mode=mode) == 403


async def test_a_link_may_lead_to_the_page_and_nowhere_else(store: KeyStore) -> None:
    led: Any = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    assert await ask(store, "/", "GET", **led) == 299 and await ask(store, "/engine/docs", "GET", **led) == 299
    assert await ask(store, "/props?model=ultra", "GET", **led) == 403
    assert await ask(store, "/", "POST", **led) == 403


async def test_the_engines_own_page_may_ask_by_whatever_name_it_was_opened(store: KeyStore) -> None:
    for host in ("127.0.0.1:8000", "localhost:8000", "brain:8000", "[::1]:8000"):
        assert await ask(store, "/engine/swap", host=host, origin=f"http://{host}") == 299
        assert await ask(store, "/engine/swap", host=host, origin=f"https://{host}") == 403, "another origin"
        assert await ask(store, "/engine/swap", host=host, origin=f"http://{host}1") == 403
    assert await ask(store, "/engine/swap", origin="null") == 403


async def test_headers_of_which_there_may_be_one_are_not_there_twice(store: KeyStore) -> None:
    key = store.add("one", admin=True)
    for name, values in (("host", (b"127.0.0.1", b"evil.example")), ("origin", (b"http://127.0.0.1", b"http://x")),
                         ("authorization", (b"Bearer x", f"Bearer {key}".encode()))):  # fmt: skip
        for pair in (values, values[::-1]):
            assert await ask(store, twice=[(name.encode(), value) for value in pair]) == 400


async def test_beyond_this_machine_a_key_is_always_needed(store: KeyStore) -> None:
    store.add("last", admin=True)
    store.remove("last")
    assert await ask(store, peer="192.168.1.9") == 401 and await ask(store) == 299


async def test_a_damaged_key_file_keeps_everybody_out_at_each_request(store: KeyStore) -> None:
    key = store.add("one", admin=True)
    store.path.write_text("{")
    fresh = KeyStore(store.path)
    assert [await ask(fresh) for _ in range(3)] == [500, 500, 500]
    assert await ask(fresh, x_api_key=key) == 500


async def test_the_key_of_this_run_is_for_this_machine_only(store: KeyStore) -> None:
    store.add("one", admin=False)
    for peer, status in (("127.0.0.1", 299), ("192.168.1.20", 299), ("192.168.1.9", 401)):
        assert await ask(store, "/engine/swap", peer=peer, x_api_key="of this run") == status


async def test_tags_of_foreign_pages_reach_no_model(store: KeyStore) -> None:
    assert await ask(store, "/props", "GET", sec_fetch_site="cross-site") == 403
    assert await ask(store, "/props", "GET", sec_fetch_site="cross-site", origin="http://localhost:3000") == 299
    assert await ask(store, "/engine/status", "GET", sec_fetch_site="none") == 299


async def test_with_a_key_every_request_needs_one(store: KeyStore) -> None:
    key = store.add("models only", admin=False)
    admin = store.add("owner", admin=True)
    assert await ask(store) == 401
    assert await ask(store, authorization="Bearer nonsense") == 401
    assert await ask(store, authorization=f"Bearer {key}") == 299
    assert await ask(store, authorization=f"bearer {key}") == 299
    assert await ask(store, x_api_key=key) == 299
    assert await ask(store, "/engine/swap", x_api_key=key) == 403
    assert await ask(store, "/engine/logs/m", "GET", x_api_key=key) == 403
    assert await ask(store, "/engine/status", "GET", x_api_key=key) == 299
    assert await ask(store, "/engine/swap", x_api_key=admin) == 299
    assert await ask(store, "/props", x_api_key=key) == 403
    assert await ask(store, "/health", "GET") == 299


def test_whatever_changes_the_engine_needs_admin() -> None:
    assert needs_admin("DELETE", "/engine/contexts/x") and not needs_admin("GET", "/engine/contexts")
    assert needs_admin("POST", "/engine/config/reload") and needs_admin("POST", "/lora-adapters")
    assert not needs_admin("GET", "/props") and not needs_admin("POST", "/v1/messages")
