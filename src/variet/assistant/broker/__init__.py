"""What stands between a model and whatever it would do: the process that holds the keys and asks a person."""
