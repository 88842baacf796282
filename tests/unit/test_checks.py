"""Whether a check failed, or could not be run."""

import pytest

from variet.agent.checks import cannot_run


@pytest.mark.parametrize(
    ("command", "said", "expected"),
    [
        ("pytest -q", "bash: pytest: command not found\n(exit 127)", True),
        ("python3 check.py", "shims/python3: line 12: No such file\n(exit 127)", True),
        ("make test", "bash: /usr/bin/make: Permission denied\n(exit 126)", True),
        ("./run_tests.sh", "bash: ./run_tests.sh: No such file or directory\n(exit 127)", False),  # it may be wanted
        ("cd sub && ./test.sh", "bash: ./test.sh: No such file or directory\n(exit 127)", False),
        ("python3 check.py", "(exit 1)", False),
        ("python3 check.py", "it says (exit 127) somewhere\n(exit 1)", False),
    ],
)
def test_a_check_that_cannot_be_run_is_known(command: str, said: str, expected: bool) -> None:
    assert cannot_run(command, said) is expected
