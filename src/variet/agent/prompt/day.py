"""What an assistant is told of the day: when it is, in which zone, and which days come, so that none is miscounted."""

from __future__ import annotations

from datetime import datetime, timedelta

_DAYS = 14


def today(now: datetime | None = None) -> str:
    """For the first words of a conversation. `now`: with its zone."""
    at = now or _now()
    coming = ", ".join(f"{day:%a} {day:%Y-%m-%d}" for day in (at + timedelta(days=n) for n in range(1, _DAYS + 1)))
    return f"<context>\n{_moment(at)}\nComing days: {coming}\n</context>"


def again(now: datetime | None = None) -> str:
    """For later words: it may be another hour, or day."""
    return f"<context>\n{_moment(now or _now())}\n</context>"


def _moment(at: datetime) -> str:
    return f"Now: {at:%A} {at:%Y-%m-%d} {at:%H:%M} ({at.tzinfo})"


def _now() -> datetime:
    import tzlocal  # 30 ms, which a coding agent need not spend

    return datetime.now(tzlocal.get_localzone())
