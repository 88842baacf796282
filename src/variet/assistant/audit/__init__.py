"""What was asked for, decided and done: a log whose lines hold each other."""
