"""CRIU's protocol as bytes, what of a container is outside it, and why a talk failed."""

import os
import subprocess
from pathlib import Path

import pytest

from carrack.errors import InvalidParameter, SystemFailure
from carrack.runtime.criu import images, rpc
from carrack.runtime.criu.conversation import Conversation, reason
from carrack.runtime.criu.dump import MountLine, outside, parse_mounts, standard_pipes


def test_an_order_to_dump_is_what_crius_own_library_would_send() -> None:
    order = rpc.dump(rpc.Options(7, 8, "dump.log", 300, leave_running=True, externals=["mnt[/a]:/a"]))
    # type = DUMP, then the options: 1 images, 8 file locks, 9 and 10 log, 17 its directory, 29 and 30 mounts shared with outside,
    # 34 cgroups, 50 terminals, 51 configuration, 64 network lock, 37 externals, 2 pid, 3 leave running
    options = (
        b"\x08\x07@\x01H\x04R\x08dump.log\x88\x01\x08\xe8\x01\x01\xf0\x01\x01\x90\x02\x00\x90\x03\x01"
        b"\x9a\x03\x13/etc/criu/runc.conf\x80\x04\x03\xaa\x02\nmnt[/a]:/a\x10\xac\x02\x18\x01"
    )
    assert order == b"\x08\x01\x12" + bytes([len(options)]) + options


def test_an_order_to_restore_names_what_is_given_in() -> None:
    order = rpc.restore(rpc.Options(3, 3, "l", root="/r", inherited=[("pipe:[9]", 6)], joins=[("ipc", "/proc/5/ns/ipc")]))
    assert order.startswith(b"\x08\x02\x12")
    for part in (
        b"j\x02/r",
        b"\xd0\x01\x01",
        b"\xda\x01\x0c\n\x08pipe:[9]\x10\x06",
        b"\xba\x02\x15\n\x03ipc\x12\x0e/proc/5/ns/ipc",
    ):
        assert part in order
    assert rpc.go_on() == b"\x08\x06\x18\x01"


def test_answers_are_read_whatever_else_is_in_them() -> None:
    notification = b"\x08\x06\x10\x01*\x15\n\x10setup-namespaces\x10\xac\x02"
    assert rpc.answer(notification) == rpc.Answer(rpc.NOTIFY, True, "setup-namespaces", 300, "")
    failed = b"\x08\x01\x10\x008\x08" + b"J\x05Error" + b"\x99\x06" + bytes(8) + b"\x9d\x06" + bytes(4)
    assert rpc.answer(failed) == rpc.Answer(rpc.DUMP, False, "", 0, "Error")


@pytest.mark.parametrize("packet", [b"\x08", b"\x12\x05abc", b"\xff" * 12, b"\x0b\x01", b"\x99\x06\x01"])
def test_what_is_no_message_is_refused(packet: bytes) -> None:
    with pytest.raises(SystemFailure, match="no message of its protocol"):
        rpc.answer(packet)


def test_what_the_host_has_mounted_too_is_outside() -> None:
    host = parse_mounts("22 1 8:1 / / rw - ext4 /dev/vda rw\n30 22 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n")
    text = """\
1 0 0:50 / / rw - overlay overlay rw
2 1 8:1 /v/a\\040b /data\\040here rw master:3 - ext4 /dev/vda rw
3 1 0:51 / /proc rw - proc proc rw
4 1 0:52 / /dev rw - tmpfs tmpfs rw
5 3 0:52 /null /proc/keys rw - tmpfs tmpfs rw
6 1 0:30 /c /sys/fs/cgroup ro - cgroup2 cgroup rw
7 1 0:53 / /opt/image ro - overlay overlay ro
"""
    assert outside(host, parse_mounts(text)) == ("/data here", "/sys/fs/cgroup", "/opt/image")
    assert outside([], [MountLine("0:1", "/", "overlay"), MountLine("0:2", "/x", "xfs")]) == ("/x",)


def test_the_last_errors_of_the_log_are_the_reason(tmp_path: Path) -> None:
    log = tmp_path / "dump.log"
    log.write_text(
        "(00.000001) Version: 4.2\n"
        "(00.000002) Error (criu/util.c:1): rlimit: Can't setup RLIMIT_NOFILE for self: no\n"
        "(00.000003) Error (a.c:1): first\n(00.000004)      1: Error (a.c:2): second\n(00.000005) all is well\n"
        "(00.000006) Error (a.c:3): third\n(00.000007) Error (a.c:4): fourth\n"
    )
    assert reason("", str(log)) == "criu failed: Error (a.c:2): second; Error (a.c:3): third; Error (a.c:4): fourth"
    assert reason("what it said", str(tmp_path / "none")) == "criu failed: what it said"
    assert reason("", str(tmp_path / "none")) == "criu failed: it does not say why"


def test_a_criu_that_ends_without_a_word_is_noticed() -> None:
    talk = Conversation()
    talk.given()
    with pytest.raises(SystemFailure, match="ended"):
        talk.receive()
    with pytest.raises(SystemFailure, match="ended"):
        talk.send(rpc.go_on())
    talk.close()


def test_what_is_no_checkpoint_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="holds no checkpoint"):
        images.read(str(tmp_path))
    (tmp_path / "carrack.json").write_text('{"pipes": 5}')
    with pytest.raises(InvalidParameter, match="holds no checkpoint"):
        images.read(str(tmp_path))


def test_pipes_are_known_by_what_proc_shows() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        names = [f"pipe:[{os.fstat(each.fileno()).st_ino}]" for each in (process.stdin, process.stdout)]
        assert standard_pipes(process.pid) == (*names, "")
        process.stdin.close()
    assert standard_pipes(process.pid) == ("", "", "")
