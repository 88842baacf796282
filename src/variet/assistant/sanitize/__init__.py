"""What a model reads of others is cleaned first: what a person would not see goes, and is counted."""
