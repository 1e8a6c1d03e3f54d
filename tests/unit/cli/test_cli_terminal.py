"""Attached streams: detach keys, input and output through one loop, statuses; and files that commands read and write."""

import os
import socket
import tarfile
import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from carrack.cli.attachment import Attachment, DetachKeys, read_detach_keys
from carrack.cli.config import Config
from carrack.cli.console import ReaderGone, write_all
from carrack.cli.containers.copy import extract_entry, plan_rename, split_argument, split_entry
from carrack.cli.failure import CommandFailure, run_failure
from carrack.cli.images.build_folder import _rules
from carrack.cli.logins import all_logins, encode_login, erase_login, find_login, store_login
from carrack.client.connection import Connection
from carrack.client.engine import Hijacked


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a,b", b"ab"),
        ("ctrl-@", b"\0"),
        ("ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x1b\x1c\x1d\x1e\x1f"),
    ],
)
def test_detach_keys_are_read(text: str, keys: bytes) -> None:
    assert read_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-1", "abc", "ctrl-", "alt-a"])
def test_keys_that_do_not_exist_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Unknown character"):
        read_detach_keys(text)


def test_a_sequence_begun_is_held_back_and_given_out_when_it_goes_on_otherwise() -> None:
    keys = DetachKeys(b"\x10\x11")
    assert keys.pass_on(b"ab\x10") == b"ab"
    assert keys.pass_on(b"x") == b"\x10x"
    assert not keys.found


def test_the_sequence_may_come_one_key_at_a_time_and_what_follows_is_lost() -> None:
    keys = DetachKeys(b"\x10\x11")
    assert [keys.pass_on(bytes([key])) for key in b"a\x10\x11"] == [b"a", b"", b""]
    assert keys.found


class Streams:
    """The parts of a session that an attachment uses, on descriptors of a test's own."""

    def __init__(self, stdin_fd: int) -> None:
        self.out = self.err = self
        self.input = self
        self.fd = stdin_fd
        self.lines: list[str] = []

    is_terminal = False

    def read(self, size: int) -> bytes:
        return os.read(self.fd, size)

    def line(self, text: str) -> None:
        self.lines.append(text)

    def flush(self) -> None:
        """Nothing is kept."""

    def restore(self) -> None:
        """There is no terminal."""

    def size(self) -> tuple[int, int]:
        return 0, 0


def test_input_and_output_pass_at_once_though_neither_side_reads_first(capfd: pytest.CaptureFixture[str]) -> None:
    """A container that prints a megabyte before it reads one: a client that only wrote would wait for ever."""
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    sent = b"i" * (1 << 20)
    received: list[bytes] = []

    def container() -> None:
        theirs.sendall(b"\1\0\0\0" + (1 << 20).to_bytes(4, "big") + b"o" * (1 << 20))
        while data := theirs.recv(65536):
            received.append(data)
        theirs.close()

    def typist() -> None:
        view = memoryview(sent)
        while view:
            view = view[os.write(writing, view) :]
        os.close(writing)

    threads = [threading.Thread(target=container), threading.Thread(target=typist)]
    for thread in threads:
        thread.start()
    session: Any = Streams(reading)
    attachment = Attachment(session, Hijacked(Connection(ours), ""), tty=False, stdin=True)
    attachment.prepare()
    attachment.run()
    for thread in threads:
        thread.join()
    attachment.close()
    os.close(reading)
    assert b"".join(received) == sent
    assert capfd.readouterr().out == "o" * (1 << 20)


def test_stdout_and_stderr_are_told_apart(capfd: pytest.CaptureFixture[str]) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b"\1\0\0\0\0\0\0\3out\2\0\0\0\0\0\0\3err")
    theirs.close()
    session: Any = Streams(0)
    attachment = Attachment(session, Hijacked(Connection(ours), ""), tty=False, stdin=False)
    attachment.run()
    attachment.close()
    assert capfd.readouterr() == ("out", "err")


def test_a_failure_of_the_daemon_in_the_stream_ends_the_command() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b"\3\0\0\0\0\0\0\4oops")
    theirs.close()
    session: Any = Streams(0)
    attachment = Attachment(session, Hijacked(Connection(ours), ""), tty=False, stdin=False)
    with pytest.raises(CommandFailure, match="error from daemon in stream: oops"):
        attachment.run()
    attachment.close()


def test_a_full_disk_is_the_commands_failure() -> None:
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(CommandFailure, match="no space left on device"):
        write_all(full.fileno(), b"x")


def test_a_reader_that_went_away_is_noticed() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(ReaderGone):
        write_all(writing, b"x")
    os.close(writing)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('exec: "x": executable file not found in $PATH', 127),
        ("stat /x: no such file or directory", 127),
        ('exec: "/etc": permission denied', 126),
        ('exec: "/etc": is a directory', 126),
        ("invalid mount config", 125),
    ],
)
def test_a_failed_start_has_the_code_a_shell_would_give(message: str, code: int) -> None:
    assert run_failure(CommandFailure(message)).code == code


# -- copies


@pytest.mark.parametrize(
    ("text", "split"),
    [("box:/x", ("box", "/x")), ("/a:b", ("", "/a:b")), ("./a:b", ("", "./a:b")), ("plain", ("", "plain")), ("box:", ("box", ""))],
)
def test_an_argument_names_a_container_or_a_local_path(text: str, split: tuple[str, str]) -> None:
    assert split_argument(text) == split


@pytest.mark.parametrize(
    ("path", "split"), [("/a/b", ("/a", "b")), ("/a/b/", ("/a", "b")), ("/a/.", ("/a", ".")), ("a", (".", "a"))]
)
def test_a_path_is_split_into_folder_and_entry(path: str, split: tuple[str, str]) -> None:
    assert split_entry(path) == split


def test_a_folder_cannot_be_copied_onto_a_file() -> None:
    with pytest.raises(CommandFailure, match="cannot copy directory"):
        plan_rename("/a", "/", "a", "src", exists=True, target_is_folder=False, source_is_folder=True)


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "../outside", "type": tarfile.REGTYPE},
        {"name": "link/outside", "type": tarfile.REGTYPE},
        {"name": "hard", "type": tarfile.LNKTYPE, "linkname": "../secret"},
        {"name": "hard", "type": tarfile.LNKTYPE, "linkname": "link/secret"},
    ],
)
def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path, entry: dict[str, Any]) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "elsewhere"
    inside.mkdir()
    outside.mkdir()
    (tmp_path / "secret").write_text("kept")
    (outside / "secret").write_text("kept")
    (inside / "link").symlink_to(outside)
    info = tarfile.TarInfo(entry["name"])
    info.type, info.linkname = entry["type"], entry.get("linkname", "")
    with (
        tarfile.open(fileobj=BytesIO(bytes(1024)), mode="r:") as archive,
        pytest.raises(CommandFailure, match="refusing an archive entry"),
    ):
        extract_entry(archive, info, str(inside))
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "inside", "secret"]


def test_a_file_replaces_a_link_instead_of_writing_through_it(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("kept")
    (tmp_path / "x").symlink_to("target")
    source = BytesIO()
    with tarfile.open(fileobj=source, mode="w") as archive:
        info = tarfile.TarInfo("x")
        info.size = 3
        archive.addfile(info, BytesIO(b"new"))
    source.seek(0)
    with tarfile.open(fileobj=source) as archive:
        extract_entry(archive, archive.getmembers()[0], str(tmp_path))
    assert (tmp_path / "target").read_text() == "kept"
    assert (tmp_path / "x").read_text() == "new"


# -- .dockerignore


@pytest.mark.parametrize(
    ("text", "name", "ignored"),
    [
        ("*.log", "a.log", True),
        ("*.log", "sub/a.log", False),
        ("**/*.log", "sub/deep/a.log", True),
        ("**/*.log", "a.log", True),
        ("node_modules", "node_modules/x/y", True),
        ("/build/", "build/x", True),
        ("a?c", "abc", True),
        ("*.md\n!README.md", "README.md", False),
        ("*\n!src\nsrc/*.tmp", "src/x.tmp", True),
        ("*\n!src", "src/main.py", False),
        ("# comment\n\n  x  ", "x", True),
        ("sub/**", "sub/a/b", True),
        ("[ab].txt", "a.txt", True),
        (".", "x", False),
    ],
)
def test_patterns_say_what_stays_here(text: str, name: str, ignored: bool) -> None:
    assert _rules(text, ".dockerignore").excludes(name) is ignored


# -- logins


def test_a_login_is_kept_found_and_forgotten(tmp_path: Path) -> None:
    config = Config(str(tmp_path / "new"))
    store_login(config, "r.example", {"username": "me", "password": "pass:word"})
    assert (tmp_path / "new/config.json").stat().st_mode & 0o777 == 0o600
    again = Config(str(tmp_path / "new"))
    assert find_login(again, "r.example") == {"username": "me", "password": "pass:word", "serveraddress": "r.example"}
    assert list(all_logins(again)) == ["r.example"]
    assert erase_login(again, "r.example")
    assert find_login(Config(str(tmp_path / "new")), "r.example") == {}


def test_a_credential_helper_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "docker-credential-test"
    helper.write_text(
        '#!/bin/sh\nread server\n[ "$1 $server" = "get r.example" ] && echo \'{"Username":"<token>","Secret":"abc"}\'\n'
    )
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text('{"credHelpers": {"r.example": "test"}, "keptKey": 1}')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find_login(Config(str(tmp_path)), "r.example") == {"identitytoken": "abc", "serveraddress": "r.example"}


def test_the_header_is_url_safe() -> None:
    assert encode_login({"password": "???>>>"}) == "eyJwYXNzd29yZCI6Ij8_P1x1MDAzZVx1MDAzZVx1MDAzZSJ9"


def test_a_settings_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CommandFailure, match="error parsing config file"):
        _ = Config(str(tmp_path)).document
