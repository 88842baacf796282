"""`python -m tests.support.loopback COMMAND...`: runs a command where there is no network but loopback (a Linux network
namespace), and says so in its environment. Where that cannot be had it is run as it is."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

_NEW_NET, _NEW_USER = 0x40000000, 0x10000000  # unshare(2)
ALONE = "LOOPBACK_ALONE"
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1  # netdevice(7)


def main(words: list[str]) -> None:
    user, group = os.getuid(), os.getgid()
    if not sys.platform.startswith("linux"):
        print("loopback: there is no network of its own on this system: it runs as it is", file=sys.stderr)
        os.execvp(words[0], words)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NET | (_NEW_USER if user else 0)) != 0:
        told = os.strerror(ctypes.get_errno())
        print(f"loopback: no network of its own is to be had ({told}): it runs as it is", file=sys.stderr)
    else:
        if user:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
        _up()
        os.environ[ALONE] = "1"
    os.execvp(words[0], words)


def _up() -> None:
    """Of the loopback device, which a new namespace has, but down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(any_socket, _GET_FLAGS, asked))[1]
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh22x", b"lo", flags | _UP))


if __name__ == "__main__":
    main(sys.argv[1:])
