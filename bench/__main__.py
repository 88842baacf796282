"""`python -m bench [NAME ...]`: measures, prints, and keeps results. NAME: first_byte, load, swaps, contexts, prefetch,
starts, auto, first_request, exercises, chaos, gpu_memory.

A run that was cut goes on where it was; `--fresh` begins again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from bench import (
    auto,
    chaos,
    contexts,
    exercises,
    first_byte,
    first_request,
    gpu_memory,
    load,
    prefetch,
    report,
    starts,
    swaps,
)
from bench.results import Results, machine

_ROUNDS = {"first_byte": 200, "load": 3, "swaps": 5, "contexts": 1, "prefetch": 5, "starts": 5, "auto": 50,
           "first_request": 1, "exercises": 1, "chaos": 30, "gpu_memory": 1}  # fmt: skip
# An hour; hours; 400 MB of other people's programs; a GPU.
_BY_NAME_ONLY = {"chaos", "exercises", "first_request", "gpu_memory"}


async def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else an engine would stay behind
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "benches",
        nargs="*",
        default=[name for name in _ROUNDS if name not in _BY_NAME_ONLY],
        help=f"of {', '.join(_ROUNDS)}; by default all but chaos, exercises, first_request, gpu_memory",
    )
    parser.add_argument("--rounds", type=int, help="how often each case is measured")
    parser.add_argument("--out", type=Path, default=Path("bench-results.jsonl"))
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run wrote")
    options = parser.parse_args()
    unknown = set(options.benches) - set(_ROUNDS)
    if unknown:
        parser.error(f"there is no bench {', '.join(sorted(unknown))}; there are: {', '.join(_ROUNDS)}")
    results = Results(options.out, fresh=options.fresh)
    run = {
        "first_byte": first_byte.run, "load": load.run, "swaps": swaps.run, "contexts": contexts.run,
        "prefetch": prefetch.run, "starts": starts.run, "auto": auto.run,
        "first_request": first_request.run, "exercises": exercises.run, "chaos": chaos.run,
        "gpu_memory": gpu_memory.run,
    }  # fmt: skip
    for name in options.benches:
        print(f"{name}:", flush=True)
        await run[name](results, options.rounds or _ROUNDS[name])
    here = machine()
    options.out.with_suffix(".json").write_text(
        json.dumps({"machine": here, "cases": results.cases}, indent=1), encoding="utf-8"
    )
    print(report.text(results, here))


if __name__ == "__main__":
    asyncio.run(main())
