"""Pure: what an edit left broken, said at once: syntax of Python, JSON and TOML."""

from __future__ import annotations

import ast
import json
import tomllib
import warnings
from pathlib import Path


def complaint(path: Path, text: str) -> str:
    """Why a file of this name cannot be right, with the line; empty where nothing is known to be wrong."""
    suffix = path.suffix.lower()
    try:
        if suffix in (".py", ".pyi"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ast.parse(text)
        elif suffix == ".json":
            json.loads(text)
        elif suffix == ".toml":
            tomllib.loads(text)
    except SyntaxError as error:
        line = f"\n  {error.text.strip()}" if error.text else ""
        return f"SYNTAX ERROR in line {error.lineno}: {error.msg}{line}\nThe file is written; mend it."
    except (ValueError, RecursionError, MemoryError) as error:
        return f"NOT VALID {suffix[1:].upper()}: {error}\nThe file is written; mend it."
    return ""
