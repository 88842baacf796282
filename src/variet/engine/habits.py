"""Pure, but for one small file: which model is wanted at which time of the day, from the days before."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from variet import paths

log = logging.getLogger("variet.engine.habits")
_MOST_DAYS = 28
_FEWEST_DAYS = 3  # on which a model came at this time, before that is called a habit
_SHARE = 0.5  # and of the days with any work
_SAME_COMING = timedelta(minutes=15)  # a model that goes and comes again within it tells nothing new
_AHEAD = timedelta(minutes=45)
_BEHIND = timedelta(minutes=15)


def likely(comings: Iterable[tuple[datetime, str]], now: datetime, but: Iterable[str] = ()) -> str | None:
    """The model that most often came at about this time of a day, from a quarter of an hour ago to three quarters
    ahead: on at least three days, and on half of those with work, of the last 28; workdays and weekends apart.

    `comings`: when which model was asked for and loaded, local time; `but`: models that need not come any more.
    """
    excluded = set(but)
    worked: set[datetime] = set()
    came: dict[str, set[datetime]] = {}
    for at, model in comings:
        if not timedelta(0) < now - at <= timedelta(days=_MOST_DAYS) or at.date() == now.date():
            continue
        if (at.weekday() >= 5) != (now.weekday() >= 5):
            continue
        day = at.replace(hour=0, minute=0, second=0, microsecond=0)
        worked.add(day)
        same_time = now.replace(year=at.year, month=at.month, day=at.day)
        if -_BEHIND <= at - same_time <= _AHEAD:
            came.setdefault(model, set()).add(day)
    ranked = sorted(((len(days), model) for model, days in came.items() if model not in excluded), reverse=True)
    for days, model in ranked[:1]:
        if days >= _FEWEST_DAYS and days >= _SHARE * len(worked):
            return model
    return None


class Habits:
    """The comings of the last weeks; reading and writing them never raise, since nothing depends on them."""

    def __init__(self, path: Path) -> None:
        self.comings: list[tuple[datetime, str]] = []
        self._path = path
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            read = [(datetime.fromisoformat(at), str(model)) for at, model in stored]
            self.comings = [one for one in read if one[0].tzinfo is None]
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError) as error:
            log.warning("%s cannot be read and is begun anew: %s", path, error)

    def came(self, model: str, at: datetime) -> None:
        """A model was asked for and loaded."""
        recently = (one for one in reversed(self.comings) if one[1] == model)
        last = next(recently, None)
        if last is not None and timedelta(0) <= at - last[0] < _SAME_COMING:
            return
        oldest = at - timedelta(days=_MOST_DAYS)
        self.comings = [one for one in self.comings if one[0] > oldest]
        self.comings.append((at.replace(microsecond=0), model))
        try:
            paths.write_whole(self._path, json.dumps([(when.isoformat(), name) for when, name in self.comings]))
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error)
