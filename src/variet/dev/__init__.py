"""What helps to develop and test Variet, shipped with it."""
