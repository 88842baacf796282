"""What a person decides by, in a terminal: nothing that a model or a stranger wrote gets out from behind its bar."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from variet.approval import Approval
from variet.surfaces.terminal.approvals import whole


def approval(summary: str, preview: str) -> Approval:
    return Approval(
        id="act-1", origin="broker", client="a-client", tool="mail.send", sink="act", account="me@example.org",
        summary=summary, preview=preview, payload_sha256="0" * 64, reason="it would be done in your name", created_ms=0,
    )  # fmt: skip


LETTERS = st.text(st.sampled_from("a 漢\N{WOMAN}\N{ZERO WIDTH JOINER}\u0301\u200b\t\n\r\x1b|[]y:ﷺ"), max_size=300)


@given(LETTERS, LETTERS)
def test_every_line_fits_and_stands_behind_its_bar(summary: str, preview: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "get_terminal_size", lambda _: shutil.os.terminal_size((60, 40)))  # type: ignore[attr-defined]
        lines = whole(approval(summary, preview)).split("\n")
    assert all(cell_len(line) <= 60 for line in lines), lines
    ours = ("asked for by", "with the account", "why you are asked", "pending")
    # The first line is the summary, folded behind four spaces; what else begins at the margin is the program's own.
    beginning = [line for line in lines[1:] if not line.startswith(("    ", "  | "))]
    assert all(line.startswith((*ours, "(")) for line in beginning), beginning


def test_wide_letters_do_not_push_words_to_the_margin() -> None:
    shown = whole(approval("Send mail", "漢" * 200 + "why you are asked: nothing"))
    assert all(line.startswith("  | ") for line in shown.split("\n") if "漢" in line)
