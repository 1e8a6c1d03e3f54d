"""Where an installation is, and the texts of the files it puts there. Only the standard library: this runs before anything is."""

from __future__ import annotations

from pathlib import Path

PREFIX = Path("/opt/carrack")
CURRENT = PREFIX / "current"
PREVIOUS = PREFIX / "previous"
RECORD = PREFIX / "installed.json"
OF_DEBIAN = ".debian-package"
"""In a tree that dpkg has put there."""
BIN = Path("/usr/local/bin")
UNITS = Path("/usr/local/lib/systemd/system")
MAN = Path("/usr/local/share/man/man1")
COMPLETIONS = {
    "bash": Path("/usr/local/share/bash-completion/completions/carrack"),
    "zsh": Path("/usr/local/share/zsh/site-functions/_carrack"),
    "fish": Path("/usr/local/share/fish/vendor_completions.d/carrack.fish"),
}
CONFIGURATION = Path("/etc/carrack/daemon.json")
DATA, RUN = Path("/var/lib/carrack"), Path("/run/carrack")
GROUP = "carrack"
PROGRAMS = {
    "carrackd": "carrack.daemon.__main__",
    "carrack-oci": "carrack.runtime.__main__",
}
"""Beside `carrack` itself, which has a launcher of its own."""

# Sandboxing settings (ProtectSystem=, NoNewPrivileges=, SystemCallFilter=, RestrictNamespaces=, CapabilityBoundingSet=, even
# ProtectClock= and LockPersonality=) are left out on purpose: each is inherited by what carrackd starts, so every container would
# lose that mount, call or capability, also one that was given it. Containers have confinement of their own.
SERVICE = f"""[Unit]
Description=Carrack, containers behind Docker's API
Documentation=man:carrack(1)
After=network-online.target nss-lookup.target time-set.target firewalld.service nftables.service ufw.service
Wants=network-online.target
Requires=carrackd.socket
RequiresMountsFor={DATA}
StartLimitIntervalSec=60
StartLimitBurst=10

[Service]
Type=notify
NotifyAccess=main
ExecStart={CURRENT}/bin/carrackd
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=1
# Containers, and what looks after them, live in carrack.scope: nothing that happens to this service reaches them.
KillMode=process
# At shutdown each container gets its own time to end.
TimeoutStopSec=5min
TimeoutStartSec=2min
# A daemon that does not answer systemd for a minute is ended, its stacks in the journal, and another takes its place.
WatchdogSec=60
TimeoutAbortSec=10
OOMScoreAdjust=-500
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity

[Install]
WantedBy=multi-user.target
"""

SOCKET = f"""[Unit]
Description=Carrack's API socket

[Socket]
ListenStream={RUN}/carrack.sock
SocketMode=0660
SocketUser=root
SocketGroup={GROUP}

[Install]
WantedBy=sockets.target
"""


def program_text(python: str, module: str) -> str:
    """A program of the tree: its own Python, nothing of the user's environment."""
    return f"#!{python} -I\nimport sys\n\nfrom {module} import main\n\nsys.exit(main())\n"
