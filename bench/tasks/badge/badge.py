from names import full


def badge(first, last):
    return full(first, last)
