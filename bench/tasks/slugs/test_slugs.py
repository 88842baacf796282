from slugs import slug


def test_words():
    assert slug("Hello World") == "hello-world"


def test_punctuation_goes():
    assert slug("What's new?") == "whats-new"


def test_several_spaces_are_one_dash():
    assert slug("  a   b ") == "a-b"


def test_what_there_is_no_letter_of_is_untitled():
    assert slug("!!!") == "untitled"
