"""Model files from the Hugging Face hub, through its own library: resumable, with the user's token and mirror."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from variet.engine.config import FileSpec
from variet.engine.sources.base import OnBytes
from variet.errors import PullFailed

_HINTS = {
    401: "Log in with `hf auth login` or set HF_TOKEN",
    403: "Accept the model's terms on its page",
    404: "Check the repository and file name",
}


def split(source: str) -> tuple[str, str, str | None]:
    """`hf:owner/repo/folder/file.gguf@main` -> ("owner/repo", "folder/file.gguf", "main")."""
    path, _, revision = source.removeprefix("hf:").partition("@")
    owner, repo, file = path.split("/", 2)
    return f"{owner}/{repo}", file, revision or None


class HfSource:
    """`hf:OWNER/REPO/FILE[@REVISION]`. HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE hold as everywhere."""

    async def fetch(self, spec: FileSpec, part: Path, on_bytes: OnBytes) -> str | None:
        return await asyncio.to_thread(self._fetch, spec, part, on_bytes)

    def _fetch(self, spec: FileSpec, part: Path, on_bytes: OnBytes) -> str | None:
        import huggingface_hub  # heavy: only a pull needs it
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        repo, file, revision = split(spec.source)
        staging = part.parent / ".hub"
        try:
            metadata = huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(repo, file, revision=revision))
            on_bytes(0, metadata.size)
            got = huggingface_hub.hf_hub_download(
                repo, file, revision=revision, local_dir=staging, tqdm_class=_progress(on_bytes)
            )
        except (HfHubHTTPError, LocalEntryNotFoundError) as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            hint = _HINTS.get(status or 0, "Check the network and pull again")
            raise PullFailed(f"the hub refused it: {error}", where=spec.source, next_step=hint) from None
        Path(got).replace(part)
        etag = (metadata.etag or "").strip('"')
        return etag if len(etag) == 64 else None  # for large files the hub's ETag is their SHA-256


def _progress(on_bytes: OnBytes) -> type[Any]:
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    class Report(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            kwargs["disable"] = False
            kwargs["file"] = _Nowhere()
            super().__init__(*args, **kwargs)

        def update(self, n: float | None = 1) -> bool | None:
            drawn: bool | None = super().update(n)
            on_bytes(int(self.n), int(self.total) if self.total else None)
            return drawn

    return Report


class _Nowhere:
    def write(self, _text: str) -> int:
        return 0

    def flush(self) -> None:
        """Nothing is kept back."""
