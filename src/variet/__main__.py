"""`python -m variet` is `variet`."""

from variet.cli import main

if __name__ == "__main__":
    main()
