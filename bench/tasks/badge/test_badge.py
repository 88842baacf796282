from badge import badge
from names import full, initials


def test_full():
    assert full("Ada", "Lovelace") == "Ada Lovelace"


def test_initials():
    assert initials("Ada", "Lovelace") == "AL"


def test_badge():
    assert badge("Ada", "Lovelace") == "AL"


def test_another_badge():
    assert badge("Alan", "Turing") == "AT"
