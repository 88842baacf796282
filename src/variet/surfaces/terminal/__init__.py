"""The agent in a terminal, a pipe, or a script."""
