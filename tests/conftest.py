"""What tests start is not to hear how pytest itself was started; and of two workers each has one core.

Servers of mail and pages start a browser only in tests that ask for it: it takes two seconds.
"""

from __future__ import annotations

import os

from hypothesis import settings

# A loaded machine is no fault of the code: an example may take as long as it takes.
settings.register_profile("variet", deadline=None)
settings.load_profile("variet")
if "PYTEST_XDIST_WORKER" in os.environ:
    # llama-server's threads wait for each other by spinning: two servers of two threads on two cores take ten times
    # as long as two of one.
    os.environ.setdefault("LLAMA_ARG_THREADS", "1")
os.environ.setdefault("VARIET_BROWSER", "off")
for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_AUTO_NUM_WORKERS"):
    os.environ.pop(name, None)
