"""engine_models.json as text: its types out of it, or every mistake in it, each named by its JSON path.

Downloads nothing and looks at no hardware.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from variet.engine.config import (
    RESERVED_NAMES,
    AutoConfig,
    ContextConfig,
    EngineConfig,
    FileSpec,
    HardwareConfig,
    HistoryConfig,
    LlamaServerConfig,
    ModelConfig,
    ModelFiles,
    SchedulingConfig,
    ServerConfig,
    SideModelConfig,
    TierConfig,
)
from variet.errors import ConfigError, Mistake
from variet.tiers import TIERS


def parse(text: str, file: str) -> EngineConfig:
    """Check a configuration's text. Raises ConfigError with every mistake in it."""
    try:
        raw = json.loads(text, object_pairs_hook=_Pairs.of)
    except json.JSONDecodeError as error:
        place = f"$ (line {error.lineno}, column {error.colno})"
        raise ConfigError(
            file, [Mistake(place, f"not JSON: {error.msg}", "check for a missing comma or quote")]
        ) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(file, [Mistake("$", f"not readable as JSON: {error}", "simplify the file")]) from None
    if not isinstance(raw, dict):
        raise ConfigError(
            file,
            [
                Mistake(
                    "$", "the file holds no JSON object", "see docs/engine.md, or start from config/engine_models.json"
                )
            ],
        )
    mistakes: list[Mistake] = []
    config: EngineConfig | None = None
    try:
        config = EngineConfig.model_validate(raw)
    except ValidationError as error:
        mistakes += _from_pydantic(error, raw)
    mistakes += _references(raw)
    mistakes += [Mistake(_json_path(path), "written twice; the last one would win", "keep one") for path in _twice(raw)]
    if mistakes or config is None:
        raise ConfigError(file, mistakes)
    return config


class _Pairs(dict[str, Any]):
    """A JSON object that remembers which of its keys stood there twice."""

    twice: tuple[str, ...] = ()

    @classmethod
    def of(cls, pairs: list[tuple[str, Any]]) -> _Pairs:
        made = cls(pairs)
        names = [name for name, _ in pairs]
        made.twice = tuple(sorted({name for name in names if names.count(name) > 1}))
        return made


def _twice(value: object, at: tuple[int | str, ...] = ()) -> Iterator[tuple[int | str, ...]]:
    """Paths of all keys that stand twice in one object."""
    if isinstance(value, _Pairs):
        yield from ((*at, name) for name in value.twice)
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from _twice(child, (*at, key))


def load(path: Path) -> EngineConfig:
    """Read and check a file. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            str(path),
            [Mistake("$", f"cannot be read: {error}", "name a readable file (--config, VARIET_ENGINE_CONFIG)")],
        ) from None
    return parse(text, str(path))


def json_schema() -> dict[str, Any]:
    """JSON Schema of the file, for completion in editors."""
    schema = EngineConfig.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Variet Engine models",
        **schema,
    }


def _json_path(location: Iterable[int | str]) -> str:
    path = "$"
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.isidentifier():
            path += f".{part}"
        else:
            path += f"[{json.dumps(part)}]"
    return path


def _existing_part(location: tuple[int | str, ...], raw: object) -> list[int | str]:
    """Pydantic's locations also name union branches; keep what leads through the file itself."""
    kept: list[int | str] = []
    here: object = raw
    for index, part in enumerate(location):
        if isinstance(here, Mapping):
            if part in here:
                here = here[part]
            elif index != len(location) - 1 or part == "[key]":
                continue
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        elif isinstance(part, int) or not isinstance(here, Mapping):
            continue
        kept.append(part)
    return kept


def _from_pydantic(error: ValidationError, raw: object) -> list[Mistake]:
    mistakes: dict[tuple[str, str], Mistake] = {}
    errors = error.errors(include_url=False)
    for item in errors:
        location = tuple(item["loc"])
        deeper = any(other["loc"][: len(location)] == location and other is not item for other in errors)
        if item["type"] == "too_short" and deeper:
            continue  # only short because what was there is wrong
        path = _json_path(_existing_part(location, raw))
        what = item["msg"].removeprefix("Value error, ")
        way_out = ""
        if item["type"] == "extra_forbidden":
            what = "unknown key"
            way_out = _nearest(str(location[-1]), _known_keys(location[:-1]))
        elif item["type"] == "missing":
            what = "missing"
            way_out = "add it" + (
                f" (all five tiers are needed: {', '.join(TIERS)})"
                if len(location) == 2 and location[0] == "tiers"
                else ""
            )
        elif item["type"] == "literal_error":
            way_out = _nearest(str(item.get("input")), [*TIERS]) if "[key]" in location else ""
        mistakes.setdefault((path, what), Mistake(path, what, way_out))
    return list(mistakes.values())


_SHAPES: dict[str, type[BaseModel]] = {
    "server": ServerConfig, "hardware": HardwareConfig, "llama_server": LlamaServerConfig,
    "scheduling": SchedulingConfig, "context": ContextConfig, "auto": AutoConfig, "history": HistoryConfig,
    "models": ModelConfig, "side_models": SideModelConfig, "tiers": TierConfig,
}  # fmt: skip


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    if not location:
        return [field.alias or name for name, field in EngineConfig.model_fields.items()]
    shape: type[BaseModel] = _SHAPES.get(str(location[0]), EngineConfig)
    if "files" in location:
        shape = ModelFiles if location[-1] == "files" else FileSpec
    return list(shape.model_fields)


def _nearest(word: str, known: Iterable[str]) -> str:
    choices = sorted(known)
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(choices)}"


def _references(raw: Mapping[str, Any]) -> list[Mistake]:
    """What pydantic cannot see: names that point at something which is not there, names taken twice."""

    def table(key: str) -> Mapping[str, Any]:
        value = raw.get(key)
        return value if isinstance(value, Mapping) else {}

    models, sides, tiers, aliases = table("models"), table("side_models"), table("tiers"), table("aliases")
    found: list[Mistake] = []
    for tier in TIERS:
        if isinstance(raw.get("tiers"), Mapping) and tier not in tiers:
            found.append(
                Mistake(
                    _json_path(("tiers", tier)),
                    "missing",
                    "all five tiers are needed; several may name one model",
                )
            )
    for key, value in tiers.items():
        model = value.get("model") if isinstance(value, Mapping) else None
        if isinstance(model, str) and model not in models:
            found.append(Mistake(_json_path(("tiers", key, "model")), f"no model {model!r}", _nearest(model, models)))
    for name in [*models, *sides]:
        where = "models" if name in models else "side_models"
        if name in RESERVED_NAMES:
            found.append(
                Mistake(_json_path((where, name)), "this name is a tier's or the engine's own", "rename the model")
            )
    for name in set(models) & set(sides):
        found.append(Mistake(_json_path(("side_models", name)), "is in $.models too", "rename one of them"))
    targets = [*TIERS, *models, *sides, "resident"]
    for alias, target in aliases.items():
        path = _json_path(("aliases", alias))
        if alias in (*targets, "auto"):
            found.append(Mistake(path, "is already the name of a tier or model", "remove the alias"))
        if isinstance(target, str) and target not in (*targets, "auto"):
            found.append(Mistake(path, f"points at {target!r}, which is no tier or model", _nearest(target, targets)))
    scheduling = table("scheduling")
    used = {value.get("model") for value in tiers.values() if isinstance(value, Mapping)}
    pinned = [
        name for name in models if name in used and isinstance(models[name], Mapping) and models[name].get("pinned")
    ]
    limit = scheduling.get("max_resident")
    if isinstance(limit, int) and pinned and (len(pinned) > limit or (len(pinned) == limit and len(used) > limit)):
        found.append(
            Mistake(
                _json_path(("scheduling", "max_resident")),
                f"{limit} with {len(pinned)} pinned leaves no room for any other model ({', '.join(pinned)})",
                "raise it or pin fewer",
            )
        )
    preload = scheduling.get("preload")
    for index, name in enumerate(preload if isinstance(preload, list) else []):
        if isinstance(name, str) and name not in targets:
            path = _json_path(("scheduling", "preload", index))
            found.append(Mistake(path, f"no tier or model {name!r}", _nearest(name, targets)))
    return found
