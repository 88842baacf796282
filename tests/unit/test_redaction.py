"""What looks like a secret stands in no log, whoever logs it and however."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from variet.assistant.audit import redaction

SECRETS = (
    "ya29.a0AfB_by-C9.x", "1//0gLongRefreshTokenOfTwenty", "4/0AbUR2VMeHxLongCodeOfTwenty", "GOCSPX-abcDEF_12",
    "Bearer s3cr3t-value", "refresh_token=abcd1234", '"client_secret": "hunter22"', "code=abc123&state=x",
    "pin: 471100",
)  # fmt: skip


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    before = logging.getLogRecordFactory()
    redaction.install()
    log, stream = logging.getLogger("redaction-test"), io.StringIO()
    handler = logging.StreamHandler(stream)
    log.addHandler(handler)
    yield stream
    log.removeHandler(handler)
    logging.setLogRecordFactory(before)


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_taken_out_of_words_arguments_and_errors(out: io.StringIO, secret: str) -> None:
    log = logging.getLogger("redaction-test")
    log.warning("it said %s, then went", secret)
    log.warning(secret.replace("%", "%%"))
    try:
        raise ValueError(f"refused: {secret}")
    except ValueError:
        log.exception("failed with %s", secret)
    told = out.getvalue()
    for value in ("a0AfB", "LongRefresh", "LongCode", "abcDEF", "s3cr3t", "abcd1234", "hunter22", "abc123", "471100"):
        assert value not in told, told
    assert "ValueError" in told and "then went" in told and "test_redaction" in told


@pytest.mark.parametrize(
    "plain", ["act-0123456789ab broke off (TimeoutError)", "the code is fine", "pin set", "port 443"]
)
def test_what_is_no_secret_stays(out: io.StringIO, plain: str) -> None:
    logging.getLogger("redaction-test").warning(plain)
    assert out.getvalue() == f"{plain}\n"


def test_a_line_that_does_not_fit_its_arguments_ends_nothing(out: io.StringIO) -> None:
    logging.getLogger("redaction-test").warning("%d of %s", "x")
    assert "does not fit" in out.getvalue()
