"""A person's calendars: read with a token that can do no more, written by the broker alone."""
