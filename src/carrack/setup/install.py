"""`carrack system install` and `uninstall`: Carrack as a good citizen of its host, and gone without a trace.

Each step looks first and changes only what is not so; what it will put down is recorded before it does (record.py). A version is
a tree below /opt/carrack and becomes the current one by one rename of a link: containers do not notice, nor a way back.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from carrack.errors import InvalidParameter, SystemFailure
from carrack.setup import machine, places, tree
from carrack.setup.places import BIN, CONFIGURATION, CURRENT, DATA, GROUP, PREFIX, PREVIOUS, RUN, UNITS
from carrack.setup.record import Record

Say = Callable[[str], None]
_KEPT_TREES = 3


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asked for."""

    docker_socket: str = "auto"
    as_docker: bool = False
    start: bool = True
    wheels: Path | None = None
    rollback: bool = False


def install(wishes: Wishes, say: Say) -> None:
    """Install, upgrade, or go back to the version before. Raises SystemFailure with one sentence that says what to do."""
    machine.check()
    _check_unpackaged()
    if wishes.docker_socket not in ("auto", "yes", "no"):
        raise InvalidParameter(f"--docker-socket: want auto, yes or no, not {wishes.docker_socket!r}")
    record = Record.read()
    before = os.readlink(CURRENT) if CURRENT.is_symlink() else ""
    if wishes.rollback:
        _roll_back(record, before)
    else:
        _provide_packages(record, say)
        source = tree.find_source()
        if not tree.is_built(source):
            say("getting the Python libraries and building Carrack's own tree: about a minute")
        built = tree.build(source, wheels=wishes.wheels)
        _make_current(record, built.name, before)
    now = os.readlink(CURRENT)
    _put_in_place(record, wishes)
    if before and before != now:
        say(f"Carrack {now} is in force (before: {before}); containers go on as they are.")
    elif record.changes:
        say(f"Carrack {now} is installed in {PREFIX / now}.")
    else:
        say(f"Carrack {now} is installed already; nothing was changed.")
    _drop_old_trees(now)
    _begin(record, wishes, changed=before != now, say=say)


def _check_unpackaged() -> None:
    if (CURRENT / places.OF_DEBIAN).exists():
        raise SystemFailure("Carrack came as a Debian package here: upgrade and remove it with apt")


def _provide_packages(record: Record, say: Say) -> None:
    missing = machine.missing_packages()
    if missing:
        say(f"installing Debian's {', '.join(missing)}")
        record.packages += [name for name in missing if name not in record.packages]
        record.save()
        machine.install_packages(missing)
        record.changes += 1


def _make_current(record: Record, name: str, before: str) -> None:
    if before and before != name:
        record.put_link(PREVIOUS, Path(before))
    record.put_link(CURRENT, Path(name))


def _roll_back(record: Record, before: str) -> None:
    if not PREVIOUS.is_symlink() or not PREVIOUS.exists():
        raise SystemFailure("there is no earlier version to go back to")
    _make_current(record, os.readlink(PREVIOUS), before)


def _put_in_place(record: Record, wishes: Wishes) -> None:
    """Links, group, configuration, units, man pages, completions: whatever is not so already."""
    for name in ("carrack", *places.PROGRAMS):
        record.put_link(BIN / name, CURRENT / "bin" / name)
    if wishes.as_docker:
        if shutil.which("docker") not in (None, str(BIN / "docker")):
            raise SystemFailure(f"--as-docker: {shutil.which('docker')} is installed here: remove it first")
        record.put_link(BIN / "docker", CURRENT / "bin/carrack")
    if not machine.has_group(GROUP):
        record.group = True
        record.save()
        _run("groupadd", "--system", GROUP)
        record.changes += 1
    if not CONFIGURATION.exists():
        record.put_file(CONFIGURATION, json.dumps({"docker-socket": wishes.docker_socket}, indent=4) + "\n")
    record.put_file(UNITS / "carrackd.service", places.SERVICE)
    record.put_file(UNITS / "carrackd.socket", places.SOCKET)
    _put_pages(record)


def _put_pages(record: Record) -> None:
    for path, text in pages(CURRENT):
        record.put_file(path, text)


def pages(tree_: Path) -> Iterator[tuple[Path, str]]:
    """Completions and man pages of a complete tree, and where they go."""
    carrack = str(tree_ / "bin/carrack")
    for shell, path in places.COMPLETIONS.items():
        yield path, _run(carrack, "completion", shell)
    with tempfile.TemporaryDirectory() as scratch:
        built = int(tree.built_at(tree_))  # the same date each time
        _run("env", f"SOURCE_DATE_EPOCH={built}", carrack, "system", "manpages", scratch)
        for page in sorted(Path(scratch).rglob("*.1")):
            yield places.MAN / page.name, page.read_text(encoding="utf-8")


def _begin(record: Record, wishes: Wishes, *, changed: bool, say: Say) -> None:
    """Have the daemon running where systemd does, and say the next three commands."""
    if machine.has_systemd() and wishes.start:
        if record.changes:
            machine.systemctl("daemon-reload")
        units = ("carrackd.socket", "carrackd.service")
        if machine.systemctl("is-enabled", "--quiet", *units).returncode != 0:
            _run("systemctl", "enable", "--quiet", *units)
        verb = "restart" if changed and machine.systemctl("is-active", "--quiet", "carrackd.service").returncode == 0 else "start"
        done = machine.systemctl(verb, *(units if verb == "start" else units[1:]))
        if done.returncode != 0:
            raise SystemFailure("carrackd does not start: `journalctl -u carrackd -n 20` says why")
        say("carrackd runs, now and after each boot.")
    elif machine.has_systemd():
        say("To start it, now and after each boot:  systemctl enable --now carrackd.socket carrackd.service")
    else:
        say("There is no systemd here. To start the daemon:  carrackd >/var/log/carrackd.log 2>&1 &")
    say("Next:")
    say("    carrack run --rm hello-world            # as root, or as a member of the group carrack")
    say(f"    usermod -aG {GROUP} USER                 # who may use it: that is as good as root")
    say("    carrack doctor                          # whether this machine has all it needs")


def _drop_old_trees(now: str) -> None:
    """Keep the current version, the one before, and what was made last."""
    kept = {now, os.readlink(PREVIOUS) if PREVIOUS.is_symlink() else ""}
    trees = [path for path in PREFIX.iterdir() if path.is_dir() and not path.is_symlink()]
    trees.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in trees[_KEPT_TREES:]:
        if path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)


def uninstall(*, purge: bool, yes: bool, say: Say) -> None:
    """Take everything away: with `purge` also images, containers, volumes and the configuration, which is asked about first.

    Raises SystemFailure when the user says no, or nothing is installed.
    """
    machine.check()
    _check_unpackaged()
    record = Record.read()
    if not record.files:
        raise SystemFailure("Carrack is not installed here")
    running = _containers()
    volumes = sorted(path.name for path in (DATA / "volumes").glob("*") if path.is_dir()) if purge else []
    if running:
        _ask(f"{len(running)} running containers will be stopped: {', '.join(running[:5])}", yes)
    if volumes:
        _ask(f"{len(volumes)} volumes and what is in them will be removed for good: {', '.join(volumes[:5])}", yes)
    _stop_containers(running, purge=purge)
    _stop_daemon()
    for path in [*_enabled_links()]:
        path.unlink(missing_ok=True)
    if purge:
        shutil.rmtree(DATA, ignore_errors=True)
        shutil.rmtree(CONFIGURATION.parent, ignore_errors=True)
    elif str(CONFIGURATION) in record.files:
        record.files.remove(str(CONFIGURATION))
    record.remove_all()
    shutil.rmtree(PREFIX, ignore_errors=True)
    shutil.rmtree(RUN, ignore_errors=True)
    if machine.has_systemd():
        machine.systemctl("daemon-reload")
        machine.systemctl("reset-failed", "carrackd.service", "carrackd.socket")
    if record.group and (purge or not DATA.exists()):
        _run("groupdel", GROUP)
    if record.packages and shutil.which("apt-mark"):
        _run("apt-mark", "auto", *record.packages)
        packages = ", ".join(record.packages)
        say(f"Debian's {packages} were installed for Carrack: `apt autoremove` takes away what nothing else needs.")
    say(
        "Carrack is removed."
        if purge
        else f"Carrack is removed; images and volumes stay in {DATA} (uninstall --purge removes them)."
    )


def _containers() -> list[str]:
    """Names of the running containers; none when no daemon answers."""
    done = subprocess.run([str(BIN / "carrack"), "ps", "--format", "{{.Names}}"], capture_output=True, text=True, check=False)
    return done.stdout.split() if done.returncode == 0 else []


def _stop_containers(running: list[str], *, purge: bool) -> None:
    carrack = str(BIN / "carrack")
    if running:
        _run(carrack, "stop", *running)
    if purge:
        done = subprocess.run([carrack, "ps", "-aq"], capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.split():
            _run(carrack, "rm", "-f", "-v", *done.stdout.split())


def _stop_daemon() -> None:
    if machine.has_systemd():
        machine.systemctl("disable", "--now", "carrackd.socket", "carrackd.service")
        return
    try:
        pid = int((RUN / "carrackd.pid").read_text(encoding="ascii"))
        fd = os.pidfd_open(pid)
    except (OSError, ValueError):
        return
    import select
    import signal

    signal.pidfd_send_signal(fd, signal.SIGTERM)
    select.select([fd], [], [], 60)
    os.close(fd)


def _enabled_links() -> list[Path]:
    """What enabling has left, where systemd is not there to disable."""
    return [path for path in Path("/etc/systemd/system").glob("*.wants/carrackd.*") if path.is_symlink()]


def _ask(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise SystemFailure(f"{question}: say --yes if that is meant")
    sys.stdout.write(f"{question}. Go on? [y/N] ")
    sys.stdout.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise SystemFailure("nothing was changed")


def _run(*argv: str) -> str:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = ((done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise SystemFailure(f"{os.path.basename(argv[0])} {argv[1]}: {last}")
    return done.stdout
