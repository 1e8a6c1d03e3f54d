"""Volumes as a whole: options of the local driver, subpaths, limits, and what Carrack adds: rename, clone, export, import."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.rig.engine import CommandLine, Engine, carrack_program


@pytest.fixture
def carrack(engine: Engine) -> CommandLine:
    """Our own client: docker's has no such commands."""
    if engine.kind != "carrackd":
        pytest.skip("only Carrack has these")
    return CommandLine(engine, [carrack_program()])


@pytest.fixture
def filled(carrack: CommandLine) -> CommandLine:
    script = "mkdir -p /d/sub; echo one > /d/sub/f; ln /d/sub/f /d/hard; ln -s /etc/passwd /d/soft; "
    script += "chown 5:6 /d/sub; chmod 751 /d/sub"
    carrack.ok("volume", "create", "--label", "role=db", "data")
    carrack.ok("run", "--rm", "-v", "data:/d", "busybox", "sh", "-c", script)
    return carrack


LOOK = "cat /d/sub/f; readlink /d/soft; stat -c '%u:%g %a' /d/sub; stat -c %h /d/hard; ls -A /d"
WANTED = ["one", "/etc/passwd", "5:6 751", "2", "hard", "soft", "sub"]


def test_a_renamed_volume_keeps_its_content_and_loses_its_old_name(filled: CommandLine) -> None:
    filled.ok("volume", "rename", "data", "kept")
    assert filled.ok("volume", "ls", "-q").split() == ["kept"]
    assert filled.ok("run", "--rm", "-v", "kept:/d", "busybox", "sh", "-c", LOOK).split("\n") == WANTED
    shown = json.loads(filled.ok("volume", "inspect", "kept"))[0]
    assert shown["Labels"] == {"role": "db"}
    assert shown["Mountpoint"].endswith("/volumes/kept/_data")
    assert filled.ok("volume", "create", "data") == "data"
    assert filled.ok("run", "--rm", "-v", "data:/d", "busybox", "ls", "-A", "/d") == ""


def test_a_rename_refuses_a_volume_in_use_a_taken_name_and_a_bad_one(filled: CommandLine) -> None:
    assert "no such volume" in filled("volume", "rename", "nothing", "other").stderr
    filled.ok("volume", "create", "other")
    assert "already exists" in filled("volume", "rename", "data", "other").stderr
    assert "invalid characters" in filled("volume", "rename", "data", "../x").stderr
    container = filled.ok("create", "-v", "data:/d", "busybox")
    assert f"volume is in use - [{container}]" in filled("volume", "rename", "data", "free").stderr
    assert filled.ok("volume", "ls", "-q").split() == ["data", "other"]


def test_a_clone_is_the_same_and_its_own(filled: CommandLine) -> None:
    filled.ok("run", "-d", "--name", "user", "-v", "data:/d", "busybox", "sleep", "1000")
    assert filled.ok("volume", "clone", "data", "copy") == "copy"
    filled.ok("exec", "user", "sh", "-c", "echo two > /d/sub/f")
    assert filled.ok("run", "--rm", "-v", "copy:/d", "busybox", "sh", "-c", LOOK).split("\n") == WANTED
    assert json.loads(filled.ok("volume", "inspect", "copy"))[0]["Labels"] == {"role": "db"}
    assert "already exists" in filled("volume", "clone", "data", "copy").stderr


def test_an_exported_volume_can_be_imported(filled: CommandLine, tmp_path: Path) -> None:
    archive = filled.output("volume", "export", "data")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert {member.name.rstrip("/") for member in tar} - {"", "."} == {"hard", "soft", "sub", "sub/f"}
    (tmp_path / "saved.tar").write_bytes(archive)
    assert filled.ok("volume", "import", "--label", "from=tar", str(tmp_path / "saved.tar"), "again") == "again"
    assert filled.ok("run", "--rm", "-v", "again:/d", "busybox", "sh", "-c", LOOK).split("\n") == WANTED
    assert json.loads(filled.ok("volume", "inspect", "again"))[0]["Labels"] == {"from": "tar"}
    filled.ok("volume", "export", "-o", str(tmp_path / "twice.tar"), "again")
    assert filled.ok("volume", "import", "-", "third", stdin=(tmp_path / "twice.tar").read_bytes()) == "third"


def test_a_bad_archive_leaves_no_volume(carrack: CommandLine) -> None:
    assert carrack("volume", "import", "-", "bad", stdin=b"garbage" * 500).code == 1
    with io.BytesIO() as content:
        with tarfile.open(fileobj=content, mode="w") as tar:
            evil = tarfile.TarInfo("../../escape")
            evil.size = 1
            tar.addfile(evil, io.BytesIO(b"x"))
        assert carrack("volume", "import", "-", "bad", stdin=content.getvalue()).code == 1
    assert carrack.ok("volume", "ls", "-q") == ""
    volumes = carrack.engine.data_root / "volumes"
    assert list(volumes.iterdir()) == []


def mounted(engine: Engine, subpath: str, command: str) -> tuple[int, str]:
    """A container that sees a part of the volume `data` at /d, through the API: docker's client of Debian has no such option."""
    mount = {"Type": "volume", "Source": "data", "Target": "/d", "VolumeOptions": {"Subpath": subpath}}
    body = {"Image": "busybox", "Cmd": ["sh", "-c", command], "HostConfig": {"Mounts": [mount]}}
    made = engine.api("POST", "/containers/create", body)
    if made.status != 201:
        return made.status, made.json["message"]
    container = made.json["Id"]
    started = engine.api("POST", f"/containers/{container}/start")
    if started.status != 204:
        return started.status, started.json["message"]
    assert engine.api("POST", f"/containers/{container}/wait").json["StatusCode"] == 0
    return 204, engine.api("GET", f"/containers/{container}/logs?stdout=1").body[8:].decode().strip()


def test_a_subpath_shows_a_part_of_a_volume_and_never_the_host(filled: CommandLine, engine: Engine) -> None:
    assert mounted(engine, "sub", "cat /d/f") == (204, "one")
    link = "ln -s sub /d/inside; ln -s /etc /d/outside; ln -s ../../../../../../../../../etc /d/up"
    filled.ok("run", "--rm", "-v", "data:/d", "busybox", "sh", "-c", link)
    assert mounted(engine, "inside", "cat /d/f") == (204, "one")
    for way_out in ("outside", "up", "outside/apt"):
        status, message = mounted(engine, way_out, "ls /d")
        assert status >= 400
        assert "leads out of it" in message
    status, message = mounted(engine, "missing", "true")
    assert (status >= 400, "no such file or directory" in message) == (True, True)
    assert mounted(engine, "../other", "true")[0] == 400


def test_a_size_limit_is_refused_where_the_file_system_has_none(cli: CommandLine) -> None:
    ended = cli("volume", "create", "--opt", "size=10m", "small")
    assert ended.code == 1
    assert "quota size requested but no quota support" in ended.stderr
    assert cli.ok("volume", "ls", "-q") == ""


@pytest.mark.observes("docker volume create --opt")
def test_a_tmpfs_volume_has_its_size_and_is_gone_with_its_last_container(cli: CommandLine) -> None:
    options = ("--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=3m,uid=1000")
    cli.ok("volume", "create", *options, "fast")
    look = "df -P /f | tail -1 | awk '{print $1, $2}'; stat -c %u /f"
    assert cli.ok("run", "--rm", "-v", "fast:/f", "busybox", "sh", "-c", look).split() == ["tmpfs", "3072", "1000"]


@pytest.mark.observes("docker volume create --opt")
def test_a_bind_volume_shows_a_directory_of_the_host(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").write_text("host")
    cli.ok("volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", f"device={tmp_path}/there", "bound")
    assert cli.ok("run", "--rm", "-v", "bound:/b", "busybox", "cat", "/b/file") == "host"
    cli.ok("volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", f"device={tmp_path}/missing", "broken")
    ended = cli("run", "--rm", "-v", "broken:/b", "busybox", "true")
    assert "failed to mount local volume" in ended.stderr
    assert "no such file or directory" in ended.stderr


@pytest.mark.observes("docker volume create --opt")
def test_an_nfs_volume_is_mounted_by_address(cli: CommandLine) -> None:
    """No NFS server is here: the kernel is asked, in the syntax that Docker's documentation gives, and its refusal is told."""
    cli.ok("volume", "create", "--opt", "type=nfs", "--opt", "o=addr=127.0.0.1,rw,nolock", "--opt", "device=:/export", "shared")
    ended = cli("run", "--rm", "-v", "shared:/s", "busybox", "true")
    assert ended.code == 125
    assert "failed to mount local volume: mount :/export:" in ended.stderr
