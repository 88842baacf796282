def slug(title):
    """A title as a part of a web address."""
    raise NotImplementedError
