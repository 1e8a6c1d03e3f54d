"""Names of what there is, for completion: asked of the daemon with little patience, and silently none when it does not answer."""

from __future__ import annotations

import os

from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from carrack.cli.session import Session

    Candidates = list[tuple[str, str]]

PATIENCE_SECONDS = 2.0
_CAPABILITIES = """
ALL AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH
FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE
NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE
SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM
"""
_SIGNALS = "SIGHUP SIGINT SIGKILL SIGQUIT SIGSTOP SIGTERM SIGUSR1 SIGUSR2"


class Names:
    """Lists of names, each fetched when first asked for. `globals_given` are the global flags on the line being completed."""

    def __init__(self, globals_given: Mapping[str, str]) -> None:
        self._given = globals_given
        self._session: Session | None = None

    def expand(self, text: str, *, state: str = "") -> Candidates:
        """The words of a text; `@kind` stands for the names of that kind, `@kind:` for these with a colon behind each."""
        found: Candidates = []
        for word in text.split():
            if not word.startswith("@"):
                found.append((word, ""))
                continue
            mark = word[-1] if word[-1] in ":=" else ""
            kind = word[1:].rstrip(":=")
            found += [(f"{name}{mark}", description) for name, description in self._of_kind(kind, state)]
        return found

    def _of_kind(self, kind: str, state: str) -> Candidates:
        try:
            if kind == "containers":
                return self._containers(state)
            return _KINDS[kind](self)
        except (CarrackError, KeyError, OSError, TypeError):
            return []

    def _ask(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        if self._session is None:
            from carrack.cli.flags import parse, parse_table
            from carrack.cli.session import GLOBAL_FLAGS, Session

            flags = {name: value for name, value in self._given.items() if name in ("host", "context", "config")}
            words = [word for name, value in flags.items() for word in (f"--{name}", value)]

            self._session = Session(parse(words, parse_table(GLOBAL_FLAGS)))
        with _Patience():
            return self._session.engine.json("GET", path, query) or []

    def _containers(self, state: str) -> Candidates:
        rows = self._ask("/containers/json", {"all": "1"})
        wanted: dict[str, Callable[[str], bool]] = {
            "running": lambda found: found in ("running", "paused", "restarting"),
            "stopped": lambda found: found in ("created", "exited", "dead"),
            "paused": lambda found: found == "paused",
        }
        fits: Callable[[str], bool] = wanted.get(state) or (lambda _found: True)
        return sorted(
            [(str(row["Names"][0]).lstrip("/"), f"{row['Image']}, {row['Status']}") for row in rows if fits(row["State"])]
        )

    def _images(self) -> Candidates:
        names = [name for row in self._ask("/images/json") for name in row.get("RepoTags") or () if name != "<none>:<none>"]
        return sorted([(name.removesuffix(":latest"), "") for name in names])

    def _named(self, path: str, field: str = "Name") -> Candidates:
        return sorted([(str(row[field]), str(row.get("Driver") or "")) for row in self._ask(path)])

    def _volumes(self) -> Candidates:
        return sorted([(str(row["Name"]), str(row.get("Driver") or "")) for row in self._ask("/volumes")["Volumes"] or ()])

    def _specs(self, path: str) -> Candidates:
        return sorted([(str(row["Spec"]["Name"]), "") for row in self._ask(path)])

    def _nodes(self) -> Candidates:
        return sorted([("self", "this node"), *((str(row["Description"]["Hostname"]), row["ID"]) for row in self._ask("/nodes"))])

    def _stacks(self) -> Candidates:
        label = "com.docker.stack.namespace"
        return [
            (name, "")
            for name in sorted(
                {row["Spec"]["Labels"][label] for row in self._ask("/services") if label in row["Spec"].get("Labels", {})}
            )
        ]

    def _drivers(self) -> Candidates:
        plugins = self._ask("/info")["Plugins"]
        return [(name, "") for name in sorted({*plugins.get("Network", ()), *plugins.get("Volume", ())})]

    def _contexts(self) -> Candidates:
        from carrack.cli.config import Config
        from carrack.cli.contexts.store import ContextStore

        directory = Config(self._given.get("config", "")).directory
        return [("default", ""), *((name, "") for name in ContextStore(directory).names())]

    def _servers(self) -> Candidates:
        from carrack.cli.config import Config

        return [(name, "") for name in sorted(Config(self._given.get("config", "")).table("auths"))]


_KINDS: dict[str, Callable[[Names], Candidates]] = {
    "images": Names._images,
    "networks": lambda names: names._named("/networks"),
    "volumes": Names._volumes,
    "plugins": lambda names: names._named("/plugins"),
    "secrets": lambda names: names._specs("/secrets"),
    "configs": lambda names: names._specs("/configs"),
    "services": lambda names: names._specs("/services"),
    "nodes": Names._nodes,
    "stacks": Names._stacks,
    "drivers": Names._drivers,
    "contexts": Names._contexts,
    "servers": Names._servers,
    "capabilities": lambda _names: [(name, "") for name in _CAPABILITIES.split()],
    "signals": lambda _names: [(name, "") for name in _SIGNALS.split()],
    "variables": lambda _names: [(name, "") for name in sorted(os.environ)],
}


class _Patience:
    """Ends what takes too long: a daemon behind a dead network must not hold up a key press."""

    def __enter__(self) -> None:
        import signal

        def give_up(*_: object) -> None:
            raise OSError("no answer in time")

        self._before = signal.signal(signal.SIGALRM, give_up)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS)

    def __exit__(self, *_: object) -> None:
        import signal

        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)
