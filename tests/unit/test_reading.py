"""What a client has read, and what that means for a query or an address that it would let out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from variet.assistant.broker import fingerprints, store
from variet.assistant.broker.reading import Asker, Read, Reading
from variet.assistant.broker.store import Store
from variet.assistant.problems import ToolProblem

MAIL = """Dear Ada, your appointment with Dr. Brauner at Klinik Floridsdorf is on Tuesday at 14:30. The entry code is
483920, your reference AX-99812. Write to marta.quill@example.org if the biopsy must move. Regards, Marta"""


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Reading]:
    held = Store(tmp_path / "store.sqlite3")
    yield Reading(held)
    held.close()


@pytest.mark.parametrize(
    "query",
    [
        "483920", "code 483920 what is it", "dr brauner vienna", "Klinik Floridsdorf reviews", "floridsdorf",
        "marta.quill@example.org", "who is marta quill", "ax-99812", "ENTRY CODE", "biopsy must be done when",
        "the biopsy must move", "ｂｒａｕｎｅｒ", "brauner's practice",
    ],
)  # fmt: skip
async def test_words_of_what_is_private_are_found_again(reading: Reading, query: str) -> None:
    await reading.add(Asker("cli"), Read(private=(MAIL,)))
    assert reading.taint(Asker("cli"), "search", query).overlaps


@pytest.mark.parametrize("query", ["weather tomorrow", "python asyncio timeout", "how to be at a fair", "rust 2026"])
async def test_other_words_are_not(reading: Reading, query: str) -> None:
    await reading.add(Asker("cli"), Read(private=(MAIL,)))
    taint = reading.taint(Asker("cli"), "search", query)
    assert taint.private and not taint.overlaps and not taint.opaque


@pytest.mark.parametrize(
    "query",
    [
        "4 8 3 9 2 0", "four 48 three 39 20", "NDgzOTIwIGlzIHRoZSBjb2Rl", "7468652063", "s e c r e t", "x" * 30,
        "four seven one one", "2012 1987",
        "deadbeefcafe12", "qzkvtrpw", "word " * 40, "a\u200bb", "KrXwPqLm", "\U000e0041 tag",
    ],
)  # fmt: skip
def test_what_could_be_a_code_is_seen_by_its_shape(query: str) -> None:
    assert fingerprints.opaque(query)


async def test_what_the_person_wrote_may_be_searched_for(reading: Reading) -> None:
    asker = reading.asker("variet", reading.mint("variet", 0))
    await reading.add(asker, Read(private=(MAIL,), typed="Who is Dr. Brauner? See https://clinic.example/a_b?c=1#top."))
    assert not reading.taint(asker, "search", "dr brauner").overlaps
    assert reading.taint(asker, "search", "dr brauner klinik floridsdorf").overlaps
    assert reading.taint(asker, "page", "https://clinic.example/a_b?c=1").typed
    assert not reading.taint(Asker("variet"), "page", "https://clinic.example/a_b?c=1").typed


async def test_an_address_counts_letter_by_letter_and_its_site_by_when_a_search_gave_it(reading: Reading) -> None:
    cli = Asker("cli")
    await reading.add(cli, Read(hits=("https://docs.example/a",), addresses=("https://linked.example/b",)))
    await reading.add(cli, Read(private=(MAIL,)))
    await reading.add(cli, Read(hits=("https://late.example/c", "https://docs.example/d")))
    for address, named, hit, before in (
        ("https://docs.example/a", True, True, True),
        ("https://docs.example/a#part", True, True, True),
        ("https://docs.example/a?x=483920", False, False, True),
        ("https://docs.example/d", True, True, True),
        ("https://linked.example/b", True, False, False),
        ("https://late.example/c", True, True, False),
        ("https://docs.example@evil.example/a", False, False, False),
        ("https://docs.example:8443/a", False, False, False),
    ):
        taint = reading.taint(cli, "page", address)
        assert (taint.named, taint.hit, taint.host_before) == (named, hit, before), address
        assert taint.private and not taint.typed


async def test_a_site_that_another_conversation_saw_first_is_before_nothing(reading: Reading) -> None:
    one, two = (reading.asker("variet", reading.mint("variet", 0)) for _ in range(2))
    await reading.add(one, Read(private=(MAIL,)))
    await reading.add(two, Read(hits=("https://docs.example/a",)))
    assert reading.taint(two, "page", "https://docs.example/a").host_before
    assert not reading.taint(Asker("variet"), "page", "https://docs.example/a").host_before


async def test_more_than_is_remembered_makes_every_query_ask(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_MOST_PRINTS", 50)
    await reading.add(Asker("cli"), Read(private=(" ".join(f"Name{number}" for number in range(80)),)))
    assert reading.taint(Asker("cli"), "search", "weather tomorrow").overlaps
    await reading.add(Asker("other"), Read(private=("a " * 300_000,)))
    assert reading.taint(Asker("other"), "search", "weather tomorrow").overlaps


async def test_what_a_client_read_is_forgotten_where_its_person_says_so(reading: Reading) -> None:
    await reading.add(Asker("cli"), Read(private=(MAIL,)))
    assert reading._store.readers() == [("cli", True)]
    assert reading._store.forget_reader("cli") and not reading._store.forget_reader("cli")
    assert not reading.taint(Asker("cli"), "search", "483920").private


@given(st.text(max_size=300), st.text(max_size=80))
def test_any_text_is_read_and_every_query_answered(private: str, query: str) -> None:
    prints = {fingerprints.hashed(part, b"k" * 32) for part in fingerprints.telling(private)}
    assert all(len(one) == 8 for one in prints)
    fingerprints.opaque(query)
    fingerprints.sought(query)


PLAIN = """Your password is hunter2, or correct horse battery staple. Code ab12. Your diagnosis: hiv positive, she is
pregnant. Pin 2012. 私の密码は桜です. كلمة السر وردة. Write to ada@example.com."""


@pytest.mark.parametrize(
    "query",
    [
        "hunter2 login", "staple battery horse correct", "correct and horse and battery", "ada example com", "ab12",
        "hiv diagnosis", "pregnant signs", "2012", "密码", "what is وردة", "ada",
    ],
)  # fmt: skip
async def test_plain_words_are_found_again_in_any_order_and_script(reading: Reading, query: str) -> None:
    await reading.add(Asker("cli"), Read(private=(PLAIN,)))
    assert reading.taint(Asker("cli"), "search", query).overlaps


async def test_what_was_read_without_a_name_or_handle_counts_for_all(reading: Reading) -> None:
    handle = reading.mint("variet", 0)
    await reading.add(Asker("variet"), Read(private=(MAIL,)))
    assert reading.taint(reading.asker("variet", handle), "search", "brauner").overlaps
    await reading.add(Asker(""), Read(private=("Zebedee",)))
    assert reading.taint(Asker("other"), "search", "zebedee").overlaps
    with pytest.raises(ToolProblem, match="characters at once"):
        await reading.add(Asker("cli"), Read(private=("x" * 1_000_001,)))


@given(st.lists(st.from_regex(r"[A-Za-z][a-z]{3,9}", fullmatch=True), min_size=2, max_size=6), st.data())
def test_any_word_that_stood_in_private_is_found_in_any_case(words: list[str], data: st.DataObject) -> None:
    prints = set(fingerprints.telling(" and then ".join(words)))
    word = data.draw(st.sampled_from(words))
    known = word.casefold() not in fingerprints._frequent() | fingerprints._EVERYWHERE
    assert bool(fingerprints.sought(f"{word.upper()} here") & prints) or not known
