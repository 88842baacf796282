from names import full


def badge(first, last):
    return f"[{full(first, last)}]"
