"""What running a model taught: how long it loads, and how much more memory an allocation wanted than was planned.

Kept by model and configuration in one small file; a model whose configuration changed is learnt anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from variet import paths
from variet.engine.config import ModelConfig

log = logging.getLogger("variet.engine.learned")
_STEP_MIB = 256
_MOST_MIB = 4096
# What llama.cpp and its backends say when a device has no room: CUDA, Vulkan, ggml's own allocator.
_OUT_OF_MEMORY = re.compile(
    r"cudaMalloc failed|out of memory|ErrorOutOfDeviceMemory|(?:failed|unable) to allocate (?:CUDA|Vulkan|ROCm|SYCL)\d",
    re.IGNORECASE,
)
_OF_THE_HOST = re.compile(r"cpu|host", re.IGNORECASE)  # more of the model on the host would not help there
_WANTED = re.compile(r"allocating ([\d.]+) MiB on device", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Lesson:
    """`gpu_mib` is added to the estimate on each GPU; `load_ms` is the last measured load."""

    key: str
    gpu_mib: int = 0
    load_ms: float | None = None


class Learned:
    """Lessons by model name; reading and writing never raise, since nothing depends on them."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or paths.state_dir() / "learned.json"
        self._lessons: dict[str, Lesson] = {}
        try:
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            self._lessons = {name: Lesson(**one) for name, one in stored.items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, AttributeError) as error:
            log.warning("%s cannot be read and is begun anew: %s", self._path, error)

    def of(self, name: str, model: ModelConfig) -> Lesson:
        key = hashlib.sha256(model.model_dump_json().encode()).hexdigest()[:16]
        known = self._lessons.get(name)
        return known if known is not None and known.key == key else Lesson(key)

    def loaded(self, name: str, model: ModelConfig, load_ms: float) -> None:
        self._keep(name, replace(self.of(name, model), load_ms=round(load_ms, 1)))

    def failed(self, name: str, model: ModelConfig, last_lines: Sequence[str]) -> bool:
        """Learn from a load that failed; whether it was for lack of memory and there is something left to try."""
        lines = [line for line in last_lines if _OUT_OF_MEMORY.search(line) and not _OF_THE_HOST.search(line)]
        lesson = self.of(name, model)
        if not lines or lesson.gpu_mib >= _MOST_MIB:
            return False
        wanted = max((float(found) for line in lines for found in _WANTED.findall(line)), default=0.0)
        step = max(_STEP_MIB, lesson.gpu_mib, min(1024, int(wanted)))  # doubling: a few tries, not many
        self._keep(name, replace(lesson, gpu_mib=lesson.gpu_mib + step))
        log.warning("%s found less memory than planned: %s MiB more are counted on each GPU from now on", name, step)
        return True

    def _keep(self, name: str, lesson: Lesson) -> None:
        self._lessons[name] = lesson
        try:
            paths.private_dir(self._path.parent)
            paths.write_whole(self._path, json.dumps({key: asdict(one) for key, one in self._lessons.items()}))
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error)
