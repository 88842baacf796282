"""What measures; never part of the test run."""
