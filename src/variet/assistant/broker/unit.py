"""The broker as a service of systemd's: which user it is, and all that it can do without (systemd.exec(5))."""

from __future__ import annotations

from pathlib import Path

from variet.assistant.secrets.keep import CREDENTIAL

NAME = "variet-broker"
USER = NAME
PROGRAM = Path("/usr/local/lib") / NAME
FILE = Path("/etc/systemd/system") / f"{NAME}.service"
KEY = Path("/etc/variet/broker.key")
OWNER = Path("/etc/variet/broker.owner")  # whose it is that lies in STATE, after `uninstall` too
STATE = Path("/var/lib") / NAME
SOCKET = Path("/run") / NAME / "socket"
COMMAND = (str(PROGRAM / "bin" / "python"), "-I", "-m", "variet", "broker", "run")
ENDS_S = 150  # what is being done in a person's name is done before it ends

TEXT = f"""\
[Unit]
Description=Variet's broker: what is done in a person's name, after their yes
Wants=network-online.target
After=network-online.target
# However often it is ended: who needs it gets it again.
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={" ".join(COMMAND)}
User={USER}
Group={USER}
StateDirectory={STATE.name}
StateDirectoryMode=0700
RuntimeDirectory={SOCKET.parent.name}
# Its person reaches the socket; who knocks, the kernel tells.
RuntimeDirectoryMode=0755
WorkingDirectory={STATE}
# What its secrets are sealed with lies where root alone reads it, and is handed over at each start.
LoadCredential={CREDENTIAL}:{KEY}
Restart=on-failure
RestartSec=2
TimeoutStopSec={ENDS_S}
UMask=0077
LimitCORE=0
MemoryMax=2G
TasksMax=128
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectProc=invisible
ProcSubset=pid
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
KeyringMode=private
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources

[Install]
WantedBy=multi-user.target
"""
