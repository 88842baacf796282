"""A person's settings, in a JSON file of their configuration folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from variet.errors import ConfigError, Mistake

Kind = TypeVar("Kind", bound=BaseModel)


def read(path: Path, kind: type[Kind]) -> Kind | None:
    """None where there is no such file, which is no mistake. Raises ConfigError that names each mistake."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [Mistake("$", f"it cannot be read: {error}")]) from None
    try:
        return kind.model_validate(json.loads(text))
    except ValidationError as error:
        wrong = [Mistake(".".join(("$", *map(str, one["loc"]))), one["msg"]) for one in error.errors()]
        raise ConfigError(str(path), wrong) from None
    except ValueError as error:
        raise ConfigError(str(path), [Mistake("$", f"it is not JSON: {error}")]) from None
