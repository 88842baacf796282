"""What a client has read, and what that means for a query or an address that it would let out."""

from __future__ import annotations

import base64
import codecs
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from variet.assistant.broker import fingerprints, store
from variet.assistant.broker.reading import Asker, Read, Reading
from variet.assistant.broker.store import Store
from variet.assistant.problems import ToolProblem
from variet.assistant.search.addresses import target
from variet.policy.action import Action
from variet.policy.assistant import MOST_VISITS, MOST_VISITS_OF_ALL, judge, sink

SECRET = "vermilion-otter-4471"
MAIL = f"""Dear Ada, your appointment with Dr. Brauner at Klinik Floridsdorf is on Tuesday at 14:30. The entry code is
839204, your key {SECRET}, the password hunterwolf. Write to marta.quill@example.org. Regards, Marta"""
TYPED = "What is the weather in Vienna on Tuesday, and who is Dr. Brauner?"
PUBLIC = "Vienna: trams, museums, the Prater. State-of-the-art coffee since 1880."


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Reading]:
    held = Store(tmp_path / "store.sqlite3")
    yield Reading(held)
    held.close()


async def conversation(reading: Reading) -> Asker:
    """Its person typed TYPED, PUBLIC was found, then MAIL was read."""
    asker = reading.asker("variet", reading.mint("variet", 0))
    await reading.add(asker, Read(typed=TYPED))
    await reading.add(asker, Read(public=(PUBLIC,)))
    await reading.add(asker, Read(private=(MAIL,)))
    return asker


def free(reading: Reading, asker: Asker, query: str) -> bool:
    taint = reading.taint(asker, "search", query)
    return judge(Action("search.search", sink("search.search"), "ask"), taint, None).answer == "allow"


@pytest.mark.parametrize(
    "query",
    ["weather Vienna", "vienna trams tuesday", "who is dr brauner", "museums in the Prater", "WEATHER, vienna!",
     "coffee since 1880", "state-of-the-art coffee", "art of coffee", "ｖｉｅｎｎａ trams"],
)  # fmt: skip
async def test_words_that_were_typed_or_public_before_are_free(reading: Reading, query: str) -> None:
    asker = await conversation(reading)
    assert free(reading, asker, query), reading.foreign(asker, query)


ENCODED = [
    SECRET, "ver mil ion ott er 447", "weather 83", "weather 92", "weather 04", "noilimrev retto",
    codecs.encode(SECRET, "rot13"), "hunter wolf", "hunterwolfs", "hunterwolf", "weather in vienna 8", "otter",
    "v e r m i l i o n", "vermilion vienna", "weаther", "eight three nine two zero four", "acht drei neun",
    SECRET.encode().hex(), base64.b64encode(SECRET.encode()).decode(), "museumsvermilion", "klinik floridsdorf",
    "marta quill", "vienna weather tuesday brauner clinic", "x", "4471", "vermil", "\u202ereverse", "🦦",
    "octo tri nona", "weather hunter", "viennavienna", "tramsmuseums", "the of and in",
]  # fmt: skip


@pytest.mark.parametrize("query", ENCODED)
async def test_whatever_a_secret_is_turned_into_asks(reading: Reading, query: str) -> None:
    asker = await conversation(reading)
    assert not free(reading, asker, query)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from("vermilion-otr4718392hukwf VIENNAweather,.!'  ößé漢"), max_size=40))
async def test_what_goes_out_unasked_is_made_of_known_words_alone(reading: Reading, query: str) -> None:
    """The rule, proven: whatever the query, what is sent is a list of words that were there before, each once, in one
    way of writing."""
    asker = await conversation(reading)
    if not free(reading, asker, query):
        return
    sent = reading.plain(asker, query)
    known = fingerprints.words_of(TYPED) | fingerprints.words_of(PUBLIC)
    words = sent.split(" ")
    assert words and set(words) <= known and len(set(words)) == len(words)
    assert sent == sent.casefold() and "  " not in sent


async def test_how_a_query_is_written_says_nothing(reading: Reading) -> None:
    asker = await conversation(reading)
    ways = ["Weather VIENNA", "weather  vienna", "weather, vienna!", "weather weather vienna", "the weather of vienna",
            "wEaThEr   (vienna)?", "weather.vienna", "vienna weather"]  # fmt: skip
    assert {reading.plain(asker, query) for query in ways} == {"vienna weather"}


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        ("C++ and c# weather", "c# c++ weather"),
        ("learn c", "c learn"),
        ("c++17", "17 c++"),
        ("C+ weather", "c weather"),
    ],
)
async def test_signs_that_make_another_word_stay(reading: Reading, query: str, sent: str) -> None:
    asker = reading.asker("variet", reading.mint("variet", 0))
    await reading.add(asker, Read(typed="learn C++ and C#, 17 weather vienna"))
    await reading.add(asker, Read(private=(MAIL,)))
    assert free(reading, asker, query) and reading.plain(asker, query) == sent


async def test_public_words_count_from_before_alone(reading: Reading) -> None:
    asker = await conversation(reading)
    await reading.add(asker, Read(public=("A page about hunterwolf and 839204",)))
    assert not free(reading, asker, "hunterwolf") and not free(reading, asker, "839204")
    await reading.add(asker, Read(typed="then search for hunterwolf"))
    assert free(reading, asker, "hunterwolf"), "the person's own words count whenever they are typed"


async def test_nothing_asks_before_private_text_was_read(reading: Reading) -> None:
    asker = reading.asker("variet", reading.mint("variet", 0))
    assert free(reading, asker, "anything at all 4711")


async def test_conversations_are_told_apart_and_clients_without_one_share(reading: Reading) -> None:
    first, second = (reading.asker("variet", reading.mint("variet", 0)) for _ in range(2))
    await reading.add(first, Read(typed="weather vienna"))
    await reading.add(first, Read(private=(MAIL,)))
    assert free(reading, second, "otter") and not free(reading, first, "otter")
    await reading.add(second, Read(private=(MAIL,)))
    assert not free(reading, second, "weather vienna"), "they were typed in another conversation"
    assert not free(reading, Asker("variet"), "weather vienna"), "without a handle nobody saw them typed"
    await reading.add(Asker(""), Read(private=("Zebedee",)))
    assert not free(reading, Asker("other"), "anything"), "an unnamed client may be any"
    with pytest.raises(ToolProblem, match="characters at once"):
        await reading.add(Asker("cli"), Read(private=("x" * 1_000_001,)))


async def test_an_address_counts_letter_by_letter_and_from_before(reading: Reading) -> None:
    cli = Asker("cli")
    await reading.add(cli, Read(hits=("https://docs.example/a",), addresses=("https://linked.example/b",)))
    await reading.add(cli, Read(private=(MAIL,)))
    await reading.add(cli, Read(hits=("https://late.example/c", "https://docs.example/d")))
    for address, named, hit, before in (
        ("https://docs.example/a", True, True, True),
        ("https://docs.example/a#part", True, True, True),
        ("https://docs.example/a?x=483920", False, False, False),
        ("https://docs.example/d", True, True, False),
        ("https://linked.example/b", True, False, False),
        ("https://late.example/c", True, True, False),
        ("https://docs.example@evil.example/a", False, False, False),
        ("https://docs.example:8443/a", False, False, False),
    ):
        taint = reading.taint(cli, "page", address)
        assert (taint.named, taint.hit, taint.hit_before) == (named, hit, before), address
        assert taint.private and not taint.typed


async def test_pages_are_counted_by_site_and_together(reading: Reading) -> None:
    asker = await conversation(reading)
    for number in range(MOST_VISITS):
        assert reading.taint(asker, "page", "https://a.example/").visits == number
        reading.visited(asker, f"https://a.example/{number}")
    assert reading.taint(asker, "page", "https://a.example/x").visits == MOST_VISITS
    assert reading.taint(asker, "page", "https://b.example/").visits == 0
    for number in range(MOST_VISITS, MOST_VISITS_OF_ALL):
        reading.visited(asker, f"https://site{number}.example/")
    assert reading.taint(asker, "page", "https://new.example/").visits_of_all == MOST_VISITS_OF_ALL


async def test_an_address_that_was_typed_counts_in_its_conversation(reading: Reading) -> None:
    asker = reading.asker("variet", reading.mint("variet", 0))
    await reading.add(asker, Read(private=(MAIL,), typed="See https://clinic.example/a_b?c=1#top."))
    assert reading.taint(asker, "page", "https://clinic.example/a_b?c=1").typed
    assert not reading.taint(Asker("variet"), "page", "https://clinic.example/a_b?c=1").typed


async def test_more_than_is_remembered_makes_queries_ask(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_MOST_PRINTS", 50)
    asker = reading.asker("variet", reading.mint("variet", 0))
    await reading.add(asker, Read(public=(" ".join(f"name{number}" for number in range(80)),)))
    await reading.add(asker, Read(private=(MAIL,), typed="weather"))
    assert not free(reading, asker, "name7") and free(reading, asker, "weather")


async def test_what_a_client_read_is_forgotten_where_its_person_says_so(reading: Reading) -> None:
    await reading.add(Asker("cli"), Read(private=(MAIL,)))
    assert reading._store.readers() == [("cli", True)]
    assert reading._store.forget_reader("cli") and not reading._store.forget_reader("cli")
    assert not reading.taint(Asker("cli"), "search", "483920").private


async def test_nothing_of_private_text_is_kept(reading: Reading) -> None:
    await reading.add(Asker("cli"), Read(private=(MAIL,)))
    count = reading._store._db.execute("SELECT COUNT(*) FROM prints").fetchone()[0]
    assert count == 0, "that it was read is enough"


@given(st.text(max_size=300), st.text(max_size=80))
def test_any_text_is_read_and_every_query_answered(text: str, query: str) -> None:
    assert all(len(fingerprints.hashed(part, b"k" * 32)) == 8 for part in fingerprints.words_of(text))
    assert set(fingerprints.query_words(query)) <= fingerprints.words_of(query)


BLANKS = ["\u00a0", "\u2003", "\u3000", "\t", " ", "\n", "\u200b", "\x85", "\u2028"]


@pytest.mark.parametrize("blank", BLANKS)
async def test_an_address_with_blanks_around_it_is_another_one(reading: Reading, blank: str) -> None:
    asker = Asker("cli")
    await reading.add(asker, Read(hits=("https://a.example/p",)))
    await reading.add(asker, Read(private=(MAIL,)))
    for address in (f"https://a.example/p{blank}", f"{blank}https://a.example/p", f"https://a.example/p{blank * 9}"):
        taint = reading.taint(asker, "page", address)
        assert not (taint.hit or taint.hit_before or taint.named or taint.typed)
        with pytest.raises(ToolProblem, match="not an address"):
            target(address)


async def test_words_keep_the_marks_that_write_their_vowels(reading: Reading) -> None:
    asker = reading.asker("variet", reading.mint("variet", 0))
    await reading.add(asker, Read(typed="हिन्दी समाचार, und Größe", private=(MAIL,)))
    assert reading.plain(asker, "समाचार हिन्दी") == "समाचार हिन्दी" and free(reading, asker, "हिन्दी")
    assert not free(reading, asker, "ह") and not free(reading, asker, "समाच") and not free(reading, asker, "हन्द")
    assert free(reading, asker, "GRÖSSE") and free(reading, asker, "Gro\u0308ße"), "however it is composed"
