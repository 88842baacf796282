"""Engines on the real llama-server and the embedded models, which `make models` fetches."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.engine import EngineProcess, embedded_config, light_config, running
from tests.support.google import Google, google
from variet import paths

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # of a shell's background: all that is started would ignore it, too
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def models() -> Path:
    folder = paths.models_dir()
    assert folder.is_dir(), "the embedded models are missing: run `make models`"
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of Variet on Machine B, for what runs in the tests' own process."""
    monkeypatch.setenv("VARIET_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder that an agent works in."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "sums.py").write_text("def add(a, b):\n    return a - b\n")
    return folder


QUICK = {"max_wait_s": 1, "min_residency_s": 0.2, "preload": []}  # swaps come soon


@pytest.fixture
async def engine(request: pytest.FixtureRequest, tmp_path: Path, models: Path) -> AsyncIterator[EngineProcess]:
    """The embedded default with short waits; its larger models in long tests alone."""
    settings = embedded_config if request.node.get_closest_marker("long") else light_config
    async with running(tmp_path / "home", models, settings(scheduling=QUICK)) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_engine(tmp_path_factory: pytest.TempPathFactory, models: Path) -> AsyncIterator[EngineProcess]:
    """The same for all tests of a module, which run in one loop then: `pytest.mark.asyncio(loop_scope="module")`."""
    home = tmp_path_factory.mktemp("engine") / "home"
    async with running(home, models, light_config(scheduling=QUICK)) as made:
        yield made


@pytest_asyncio.fixture
async def strict(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Google]:
    """A Google on loopback; secrets go into a sealed file."""
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    async with google() as made:
        monkeypatch.setenv("VARIET_GOOGLE_URL", made.url)
        yield made
