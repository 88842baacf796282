"""What the search tools answer with."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

Category = Literal["general", "news", "it", "science", "files", "images", "videos", "social media"]
Span = Literal["day", "week", "month", "year"]


class Hit(BaseModel):
    """One result. Its words are a stranger's."""

    title: str
    url: str
    snippet: str = ""
    published: str | None = None
    engines: list[str] = Field(default_factory=list)


class Found(BaseModel):
    """`note`: what its reader should know: engines that failed, what was removed, that there is more."""

    query: str
    hits: list[Hit]
    answers: list[str] = Field(default_factory=list, description="direct answers, as of a calculator")
    note: str = ""


class Page(BaseModel):
    """A part of a page's text; `next_part`: what to ask for the one behind it, where there is one."""

    url: str
    title: str
    text: str
    part: int
    next_part: int | None = None
    note: str = ""
