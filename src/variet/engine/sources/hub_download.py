"""A process of its own that fetches one file from a hub: `python -m ... REPO FILE REVISION FOLDER`.

Apart from the engine because the hub's library cannot be interrupted: ending the process is how a pull is cancelled,
and what it had so far stays for the next try. Each line on stdout is a JSON object: `{"done", "total"}` on the way, at
last `{"path", "etag"}`, or `{"error", "status", "errno"}`.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

_EVERY_S = 0.2


def say(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


def main(repo: str, file: str, revision: str, folder: str) -> None:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    class Report(tqdm):  # type: ignore[misc]
        last = 0.0

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": False, "file": _Nowhere()})

        def update(self, n: float | None = 1) -> bool | None:
            drawn: bool | None = super().update(n)
            if time.monotonic() - Report.last > _EVERY_S or self.n == self.total:
                Report.last = time.monotonic()
                say(done=int(self.n), total=int(self.total) if self.total else None)
            return drawn

    try:
        known = huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(repo, file, revision=revision or None))
        say(done=0, total=known.size)
        path = huggingface_hub.hf_hub_download(
            repo, file, revision=revision or None, local_dir=folder, tqdm_class=Report
        )
    except HfHubHTTPError as error:
        say(error=str(error), status=error.response.status_code if error.response is not None else None)
    except OSError as error:  # a full disk; whatever else happens is told by the last line on stderr
        say(error=str(error), errno=error.errno)
    else:
        say(path=path, etag=(known.etag or "").strip('"'))


class _Nowhere:
    def write(self, _text: str) -> int:
        return 0

    def flush(self) -> None:
        """Nothing is kept back."""


if __name__ == "__main__":
    main(*sys.argv[1:5])
