"""What the mail tools answer with. Its words are strangers', most of them."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Hit(BaseModel):
    """A message that a search found. `date`: ISO 8601 with its zone; `thread`: what `read` wants."""

    thread: str
    message: str
    sender: str
    subject: str
    date: str
    snippet: str
    labels: list[str] = Field(default_factory=list)
    unread: bool = False


class Found(BaseModel):
    """`next_page`: what to ask for more, where there is more."""

    query: str
    hits: list[Hit]
    next_page: str = ""
    note: str = ""


class Attached(BaseModel):
    attachment: str
    name: str
    kind: str
    bytes: int


class Letter(BaseModel):
    """One message of a thread. `text`: as a person sees it, quotes folded; `note`: what was removed or left out."""

    message: str
    sender: str
    to: list[str]
    cc: list[str] = Field(default_factory=list)
    date: str
    subject: str
    text: str
    attachments: list[Attached] = Field(default_factory=list)
    labels: list[str] = Field(default_factory=list)
    note: str = ""


class Thread(BaseModel):
    """Newest first. `next_part`: what to ask for the rest, where there is more."""

    thread: str
    subject: str
    letters: list[Letter]
    count: int
    part: int
    next_part: int | None = None


class Content(BaseModel):
    """A part of an attachment's text."""

    name: str
    kind: str
    text: str
    part: int
    next_part: int | None = None
    note: str = ""


class Labels(BaseModel):
    labels: list[str]
