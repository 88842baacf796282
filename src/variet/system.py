"""What Variet asks of the system that runs it: other programs, and whoever started it as a service."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence

from variet.errors import VarietError

_LOG = logging.getLogger(__name__)

Runner = Callable[[Sequence[str]], tuple[int, str]]
"""Runs a command: (exit code, output)."""


def run_here(command: Sequence[str], timeout_s: float = 60.0) -> tuple[int, str]:
    """A `Runner` that really runs it."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, str(error)
    return done.returncode, done.stdout + done.stderr


def must(run: Runner, command: Sequence[str], next_step: str) -> None:
    """Raises VarietError with the program's own words."""
    code, output = run(command)
    if code != 0:
        raise VarietError(f"`{' '.join(command)}` failed ({code}): {output.strip()}", next_step=next_step)


def tell_supervisor(state: str, environment: Mapping[str, str] = os.environ) -> None:
    """systemd's notification protocol, sd_notify(3): a datagram to the socket it named, if any."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # Linux' abstract names
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(state.encode(), address)
    except OSError as error:
        _LOG.warning("the service manager could not be told %s: %s", state, error)
