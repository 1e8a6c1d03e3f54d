"""Writing a running container out: which of its mounts and descriptors are the host's, and the talk with criu about the rest."""

from __future__ import annotations

import os
from typing import NamedTuple

import msgspec

from carrack.errors import SystemFailure
from carrack.kernel import lineage
from carrack.runtime.criu import rpc
from carrack.runtime.criu.conversation import ENVIRONMENT, Conversation, reason
from carrack.runtime.criu.images import CONTENTS, Contents

LOG = "dump.log"
_MADE_INSIDE = frozenset(("proc", "sysfs", "devpts", "mqueue", "tmpfs"))
"""File systems that criu makes anew; of any other kind is only the root, which is there before it."""


class MountLine(NamedTuple):
    """What counts of one line of mountinfo(5)."""

    device: str
    place: str
    file_system: str


def dump(
    criu: str,
    pid: int,
    directory: str,
    pipes: tuple[str, ...],
    *,
    leave_running: bool,
    log_directory: str = "",
    switches: tuple[int, ...] = (),
) -> None:
    """Write the processes below `pid` to a directory and end them, or let them go on.

    `pipes`: what descriptors 0, 1 and 2 of the container are outside, ``pipe:[INODE]`` each, or empty. The log stays in
    `log_directory`, or beside the images; `switches` are more of criu's (`rpc`). Blocks until it is done. Raises SystemFailure with
    criu's reason; the container has then gone on. Raises OSError when criu cannot be run.
    """
    mounts = outside(_mounts("self"), _mounts(str(pid)))
    network = os.stat(f"/proc/{pid}/ns/net").st_ino
    own_network = network != os.stat("/proc/self/ns/net").st_ino
    _write(directory, Contents(pipes, mounts))
    externals = [f"mnt[{place}]:{place}" for place in mounts]
    if own_network:
        externals.append(f"net[{network}]:{rpc.NETWORK_KEY}")
    log_directory = log_directory or directory
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    log_fd = os.open(log_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        options = rpc.Options(fd, log_fd, LOG, pid, leave_running, externals=externals, switches=switches)
        answer = _ask(criu, rpc.dump(options))
    finally:
        os.close(fd)
        os.close(log_fd)
    if not answer.success:
        raise SystemFailure(reason(answer.message, f"{log_directory}/{LOG}"))


def standard_pipes(pid: int) -> tuple[str, ...]:
    """What a process has as standard input, output and errors, where those are pipes: for want of a better record."""
    return tuple(each if each.startswith("pipe:") else "" for each in (_link(f"/proc/{pid}/fd/{place}") for place in range(3)))


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""


def outside(host: list[MountLine], container: list[MountLine]) -> tuple[str, ...]:
    """Where a container has something of the host mounted below its root: what the host has as well, or criu cannot make."""
    known = {each.device for each in host}
    places = (each.place for each in container if each.device in known or each.file_system not in _MADE_INSIDE)
    return tuple(dict.fromkeys(place for place in places if place != "/"))


def parse_mounts(text: str) -> list[MountLine]:
    """The lines of a mountinfo file."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        found.append(MountLine(fields[2], _unescaped(fields[4]), after.partition(" ")[0]))
    return found


def _mounts(pid: str) -> list[MountLine]:
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return parse_mounts(file.read())


def _unescaped(place: str) -> str:
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        place = place.replace(code, letter)
    return place


def _write(directory: str, contents: Contents) -> None:
    with open(f"{directory}/{CONTENTS}", "wb") as file:
        file.write(msgspec.json.encode(contents))


def _ask(criu: str, order: bytes) -> rpc.Answer:
    talk = Conversation()
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    pid = 0
    try:
        standard = [(os.POSIX_SPAWN_DUP2, null, place) for place in range(3)]
        place = talk.their_fd if talk.their_fd > 2 else 3
        pid = os.posix_spawn(
            criu,
            [criu, "swrk", str(place)],
            ENVIRONMENT,
            file_actions=[*standard, (os.POSIX_SPAWN_DUP2, talk.their_fd, place)],
            setsigmask=(),
            setsid=True,
        )
        talk.given()
        lineage.send_home(pid)  # the end of a service must not cut it short
        talk.send(order)
        answer, _ = talk.receive()
        while answer.kind == rpc.NOTIFY:
            talk.send(rpc.go_on())
            answer, _ = talk.receive()
        return answer
    finally:
        talk.close()
        os.close(null)
        if pid:
            os.waitpid(pid, 0)
