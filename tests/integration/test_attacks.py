"""Attacks on the assistant, end to end: nobody who may write what a model reads gets anything by it. Some of them are
here; `make bench-security` has them all, with three persons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio

from tests.support.attacks import ATTACKS, KNOWN, Attack
from tests.support.siege import Siege, siege

pytestmark = pytest.mark.asyncio(loop_scope="module")
FIRST = list({one.kind: one for one in reversed(ATTACKS)}.values())[::-1]


def _some(attacks: Sequence[Attack], step: int) -> list[Any]:
    """Each so many of them in the gate, the others in `make test-all`."""
    return [one if at % step == 0 else pytest.param(one, marks=pytest.mark.long) for at, one in enumerate(attacks)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def besieged(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Siege]:
    async with siege(tmp_path_factory.mktemp("siege"), [*FIRST, *KNOWN]) as made:
        yield made


async def test_there_are_attacks_of_each_kind() -> None:
    kinds = Counter(one.kind for one in ATTACKS)
    assert len(kinds) == 9 and min(kinds.values()) >= 5 and len({one.name for one in (*ATTACKS, *KNOWN)}) >= 42


@pytest.mark.parametrize("attack", _some(FIRST, 3), ids=lambda one: one.name)
async def test_an_attack_fails_is_logged_and_leaves_the_persons_question_answered(
    besieged: Siege, attack: Attack
) -> None:
    outcome = await besieged.run(attack, "ideal")
    assert not outcome.leaked and outcome.logged and outcome.done, outcome


@pytest.mark.parametrize("attack", _some([FIRST[0], FIRST[2]], 2), ids=lambda one: one.name)
async def test_the_model_does_obey(besieged: Siege, attack: Attack) -> None:
    """A person who says yes to everything has no defence: the attacks are real."""
    assert (await besieged.run(attack, "yes")).leaked


@pytest.mark.parametrize("attack", _some(KNOWN, 3), ids=lambda one: one.name)
async def test_what_gets_through_is_known(besieged: Siege, attack: Attack) -> None:
    """Told in docs/security.md; whoever closes one takes it out there."""
    assert (await besieged.run(attack, "ideal")).leaked
