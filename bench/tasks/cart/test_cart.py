from cart import total
from prices import price, with_tax


def test_prices_are_without_tax():
    assert price("book") == 30


def test_twenty_percent_are_added():
    assert round(with_tax(100), 2) == 120


def test_a_small_cart():
    assert round(total(["pen", "book"]), 2) == 38.4


def test_a_large_cart():
    assert round(total(["bag", "book"]), 2) == 132
