from prices import price


def total(items):
    return sum(price(name) for name in items)
