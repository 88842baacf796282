"""Variet: a locally hosted AI assistant for one developer on two machines."""

__version__ = "0.1.0"
