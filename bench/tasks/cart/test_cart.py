from cart import total
from prices import discounted


def test_small_amounts_stay():
    assert discounted(99) == 99


def test_ten_percent_off_from_one_hundred():
    assert discounted(100) == 90


def test_a_small_cart():
    assert total(["pen", "book"]) == 32


def test_a_large_cart():
    assert total(["bag", "book"]) == 99
