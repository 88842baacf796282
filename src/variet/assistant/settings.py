"""What a person set for the assistant's tools, in `assistant.json` in Variet's configuration folder."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from variet import paths, settings_file


class SearchSettings(BaseModel):
    """`url`: of a SearXNG that gives JSON; `allow`: `host:port` of pages on one's own network that may be read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field("http://127.0.0.1:8888", pattern=r"^https?://")
    allow: tuple[str, ...] = ()
    language: str = Field("auto", description="of the hits, as `en` or `de-AT`")


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    search: SearchSettings = SearchSettings()
    browser: str = Field("auto", description="path of a Chromium that says what of a page is seen; auto: an installed "
                         "one; off: none")  # fmt: skip


def file() -> Path:
    return paths.config_dir() / "assistant.json"


def load() -> Settings:
    """Raises ConfigError that names each mistake; no file is no mistake."""
    return settings_file.read(file(), Settings) or Settings()
