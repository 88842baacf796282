"""What test runners say of their own time, in their own words."""

import pytest

from variet.agent.durations import without_durations


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("1 failed in 1.04s", "1 failed"),
        ("=== 1 failed, 2 passed in 0.12s ===\n(exit 1)", "=== 1 failed, 2 passed ===\n(exit 1)"),
        ("9 passed, 1 warning in 61.03s (0:01:01)", "9 passed, 1 warning"),
        ("Ran 3 tests in 0.001s\n\nFAILED (failures=1)", "Ran 3 tests\n\nFAILED (failures=1)"),
        ("test result: ok. 3 passed; 0 filtered out; finished in 0.00s", "test result: ok. 3 passed; 0 filtered out"),
        ("  3 passing (12ms)\n  1 failing", "  3 passing\n  1 failing"),
        ("Tests: 1 failed, 3 total\nTime:        1.234 s, estimated 2 s\nRan.", "Tests: 1 failed, 3 total\nRan."),
        ("   Start at  10:01:02\n   Duration  305ms (transform 21ms)\n", ""),
        ("Finished in 0.02 seconds (files took 0.1 seconds to load)\n12 examples", "12 examples"),
        ("--- FAIL: TestOne (0.00s)\nFAIL\nFAIL\tone/two\t0.004s", "--- FAIL: TestOne\nFAIL\nFAIL\tone/two"),
        ("ok  \tone/two\t0.004s", "ok  \tone/two"),
    ],
)  # fmt: skip
def test_a_runner_s_own_time_goes(said: str, kept: str) -> None:
    assert without_durations(said) == kept


@pytest.mark.parametrize(
    "said",
    [
        "E  assert '1.5s' == '1.50s'",
        "E  AssertionError: 3 tests took (2s), 1 at most was allowed",
        "the job ran in 3 s of 4",
        "Time flies 3",
        "step 2: 4 passed in 3s, see the log",
    ],
)
def test_a_time_that_is_what_failed_stays(said: str) -> None:
    assert without_durations(said) == said
