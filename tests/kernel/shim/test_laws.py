"""The process laws, each by an attempt to break it from inside a container or a tree."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from carrack.oci.runtime_spec import Namespace, Process
from carrack.shim import messages as m
from carrack.shim import wire
from carrack.shim.zygote_process import order_start
from tests.kernel.shim.harness import Container, Harness, children_of, end_process, pair, read_all, unframe

pytestmark = pytest.mark.root

ALL = tuple(f"CAP_{name}" for name in ("SYS_PTRACE", "SYS_ADMIN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "KILL", "SETUID", "SETGID"))
HOSTS_PIDS = tuple(Namespace(each) for each in ("mount", "uts", "ipc", "network"))


def says(container: Container, command: str) -> bytes:
    """What an exec of the shell prints."""
    ours, theirs = pair()
    done = container.exec(command, theirs)
    assert isinstance(done, m.Done), done
    return unframe(read_all(ours))[1]


# ── law 1: nothing imports after it forks ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.law(1)
def test_a_shim_cannot_import_the_containers_files(harness: Harness) -> None:
    """Every place from which an interpreter could import is laid with traps, in the image and as the working directory."""
    trap = "open('/tmp/trapped', 'w').close()\n"
    for folder in ("usr/lib/python3.11/encodings", "usr/lib/python3/dist-packages", "encodings", ""):
        place = harness.image / folder
        place.mkdir(parents=True, exist_ok=True)
        for name in ("idna.py", "cp437.py", "site.py", "__init__.py"):
            (place / name).write_text(trap)
    container = harness.container("echo ok; exec sleep 1000", env=("PATH=/bin", "PYTHONPATH=/", "PYTHONHOME=/"))
    container.start()
    assert says(container, "ls /tmp") == b""
    assert not Path("/tmp/trapped").exists()


@pytest.mark.parametrize("kind", ["zygote", "shim"])
def test_no_process_of_ours_has_more_than_one_thread(harness: Harness, kind: str) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    container.start()
    pid = harness.zygote.pid if kind == "zygote" else container.shim_pid
    assert len(os.listdir(f"/proc/{pid}/task")) == 1


# ── law 2: an exec shows nothing but the program ───────────────────────────────────────────────────────────────────────


# CVE-2016-9962
@pytest.mark.law(2)
def test_an_exec_with_ptrace_finds_no_process_but_the_containers_own(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"), capabilities=ALL)
    container.start()
    listing = says(container, "for p in /proc/[0-9]*; do cat $p/cmdline; echo; done")
    assert b"carrack" not in listing
    assert b"python" not in listing


@pytest.mark.law(2)
def test_an_exec_holds_no_descriptor_but_its_own(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    container.start()
    assert says(container, "ls /proc/self/fd").split() == [b"0", b"1", b"2", b"3"]  # 3 is the listing's own


def test_init_holds_no_descriptor_but_its_own(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    container.start()
    assert sorted(os.listdir(f"/proc/{container.pid}/fd")) == ["0", "1", "2"]


# ── law 3: the interpreter cannot be written ───────────────────────────────────────────────────────────────────────────


@pytest.mark.law(3)
@pytest.mark.parametrize("kind", ["zygote", "shim"])
def test_the_interpreter_cannot_be_opened_for_writing_through_proc(harness: Harness, kind: str) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    container.start()
    pid = harness.zygote.pid if kind == "zygote" else container.shim_pid
    assert os.statvfs(f"/proc/{pid}/exe").f_flag & os.ST_RDONLY
    with pytest.raises(OSError, match="Read-only file system"):
        os.open(f"/proc/{pid}/exe", os.O_WRONLY | os.O_TRUNC)


# CVE-2019-5736
@pytest.mark.law(3)
def test_the_interpreter_cannot_be_written_after_the_process_has_died(harness: Harness) -> None:
    """While it lives, "text file busy" would hide a hole; truncation is refused for the mount's sake before that is asked."""
    container = harness.container(("/bin/sleep", "1000"))
    container.start()
    held = os.open(f"/proc/{container.shim_pid}/exe", os.O_PATH)
    end_process(container.shim_pid)
    try:
        with pytest.raises(OSError, match="Read-only file system"):
            os.open(f"/proc/self/fd/{held}", os.O_WRONLY | os.O_TRUNC)
    finally:
        os.close(held)


def test_a_container_that_sees_the_hosts_processes_cannot_write_the_interpreter(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"), namespaces=HOSTS_PIDS, capabilities=ALL)
    container.start()
    assert b"read-only file system" in says(container, f"(echo evil > /proc/{container.shim_pid}/exe) 2>&1").lower()


@pytest.mark.parametrize("kind", ["zygote", "shim"])
def test_our_processes_are_not_dumpable(harness: Harness, kind: str) -> None:
    """The kernel gives a non-dumpable process's files in /proc to root, so nobody else may look into it."""
    container = harness.container(("/bin/sleep", "1000"))
    container.start()
    pid = harness.zygote.pid if kind == "zygote" else container.shim_pid
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            os.readlink(f"/proc/{pid}/exe")
        except PermissionError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


# ── law 5: init is its shim's child and goes with it; the status is on disk first (test_survival, test_container_life) ─


def test_init_is_a_child_of_the_shim_and_execs_are_of_its_hand(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    container.start()
    done = container.exec("exec sleep 1000")
    assert isinstance(done, m.Done)
    assert container.children_of_shim() == {container.pid, container.hand()}
    assert children_of(container.hand()) == {done.pid}


@pytest.mark.parametrize("of", ["init", "exec"])
def test_a_program_begins_with_every_signal_at_its_default(harness: Harness, of: str) -> None:
    """The zygote ignores some, and what is ignored stays so across an exec."""
    ours, theirs = pair()
    show = ("/bin/cat", "/proc/self/status")
    if of == "init":
        container = harness.container(show, attached=[(m.Attach(stdout=True), theirs)])
        container.start()
    else:
        container = harness.container(("/bin/sleep", "1000"))
        container.start()
        container.ask(m.Exec(1, "e", Process(show), m.Attach(stdout=True)), theirs)
    lines = unframe(read_all(ours))[1].splitlines()
    assert [line.split()[1] for line in lines if line.startswith((b"SigBlk", b"SigIgn"))] == [b"0" * 16] * 2


# ── law 6: one mount per container ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.law(6)
def test_the_root_is_mounted_in_no_namespace_but_the_containers(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    container.start()
    for pid in (os.getpid(), harness.zygote.pid, container.shim_pid):
        assert container.id not in Path(f"/proc/{pid}/mountinfo").read_text()


@pytest.mark.law(6)
def test_a_second_shim_of_the_same_container_does_not_mount_beside_the_first(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    container.start()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, order_start(harness.zygote.socket_path, container.order(), (theirs.fileno(),)):
        theirs.close()
        ours.settimeout(0.5)
        with pytest.raises(TimeoutError):
            wire.receive(ours)
        assert container.ask(m.Signal(1, 0)) == m.Done(1)


# ── secrets ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_secret_of_an_order_stays_in_the_zygote(harness: Harness) -> None:
    secret = os.urandom(16).hex()
    container = harness.container(("/bin/sleep", "1000"), env=("PATH=/bin", f"PASSWORD={secret}"))
    container.start()
    assert says(container, "cat /proc/1/environ | head -c 1000").count(secret.encode()) == 1
    assert secret.encode() not in memory(harness.zygote.pid)


def test_the_environment_is_forgotten_by_the_shim(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    container.start()
    assert b"carrack-shim" in Path(f"/proc/{container.shim_pid}/cmdline").read_bytes()
    assert Path(f"/proc/{container.shim_pid}/environ").read_bytes().count(b"=") <= 1


def memory(pid: int) -> bytes:
    """Everything writable that the process holds in memory."""
    content = bytearray()
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            span, rights, *_ = line.split()
            if rights.startswith("rw"):
                start, end = (int(each, 16) for each in span.split("-"))
                mem.seek(start)
                content += mem.read(end - start) or b""
    return bytes(content)
