"""The values of flags that have several: kinds of IPC, streams to attach, how binds propagate and are read-only."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.commands import run
from tests.rig.engine import CommandLine, Engine
from tests.rig.waiting import until

UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers").exists()


@pytest.mark.observes("docker run --ipc")
def test_ipc_none_has_no_shared_memory_and_private_is_not_shared(docker_cli: CommandLine) -> None:
    assert docker_cli.shell("grep -c ' /dev/shm ' /proc/mounts || true", "--ipc", "none").ok() == "0"
    docker_cli.ok("run", "-d", "--name", "own", "--ipc", "private", "busybox", "sleep", "1000")
    refused = docker_cli("run", "--rm", "--ipc", "container:own", "busybox", "true")
    assert refused.code == 125
    assert "non-shareable IPC" in refused.stderr


@pytest.mark.observes("docker run --attach")
@pytest.mark.parametrize(
    ("streams", "seen"),
    [("stdout", ["out", ""]), ("stderr", ["", "err"]), ("stdout stderr", ["out", "err"]), ("STDOUT", ["out", ""])],
)
def test_only_the_streams_that_are_attached_are_shown(docker_cli: CommandLine, streams: str, seen: list[str]) -> None:
    flags = [word for stream in streams.split() for word in ("-a", stream)]
    ended = docker_cli("run", "--rm", *flags, "busybox", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert [ended.stdout.strip(), ended.stderr.strip(), ended.code] == [*seen, 3]


@pytest.mark.observes("docker run --attach", "docker run --interactive")
def test_standard_input_alone_may_be_attached(docker_cli: CommandLine) -> None:
    docker_cli.ok("run", "--name", "reader", "-a", "stdin", "-i", "busybox", "cat", stdin="given")
    until(lambda: docker_cli.ok("inspect", "-f", "{{.State.Status}}", "reader") == "exited", "the end")
    assert docker_cli.ok("logs", "reader") == "given"


@pytest.mark.observes("docker run --publish-all", "docker run --expose")
def test_publish_all_opens_every_exposed_port(docker_cli: CommandLine) -> None:
    flags = ("-P", "--expose", "8080", "--expose", "9000-9001/udp")
    docker_cli.ok("run", "-d", "--name", "web", *flags, "busybox", "httpd", "-f", "-p", "8080", "-h", "/var/www")
    bound = json.loads(docker_cli.ok("inspect", "-f", "{{json .NetworkSettings.Ports}}", "web"))
    assert set(bound) == {"8080/tcp", "9000/udp", "9001/udp"}
    port = bound["8080/tcp"][0]["HostPort"]
    page = ("curl", "-sS", f"http://127.0.0.1:{port}/")
    until(lambda: docker_cli.engine.on_host(*page).stdout == "it works\n", "the page")


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A shared mount with another below it."""
    run(["mount", "-t", "tmpfs", "none", str(tmp_path)]).ok()
    run(["mount", "--make-shared", str(tmp_path)]).ok()
    (tmp_path / "below").mkdir()
    run(["mount", "-t", "tmpfs", "none", str(tmp_path / "below")]).ok()
    yield tmp_path
    run(["umount", "-R", "-l", str(tmp_path)]).ok()


@pytest.mark.peer_lacks("it runs in a mount namespace of its own, which these mounts do not reach")
@pytest.mark.observes("docker run --mount", "docker run --volume")
def test_a_bind_propagates_as_it_is_asked_to(docker_cli: CommandLine, shared: Path) -> None:
    admin = ("--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined")
    script = "mkdir /b/made; mount -t tmpfs none /b/made && touch /b/made/inside; sleep 1000"
    docker_cli.ok("run", "-d", "--name", "giver", *admin, "-v", f"{shared}:/b:rshared", "busybox", "sh", "-c", script)
    until((shared / "made/inside").exists, "what the container mounted to be seen outside")
    mount = f"type=bind,source={shared},target=/b,bind-propagation=rslave"
    docker_cli.ok("run", "-d", "--name", "taker", *admin, "--mount", mount, "busybox", "sleep", "1000")
    (shared / "later").mkdir()
    run(["mount", "-t", "tmpfs", "none", str(shared / "later")]).ok()
    (shared / "later/file").touch()
    docker_cli.ok("exec", "taker", "test", "-e", "/b/later/file")
    docker_cli.ok("exec", "taker", "sh", "-c", "mkdir -p /b/own && mount -t tmpfs none /b/own && touch /b/own/mine")
    assert not (shared / "own/mine").exists()
    private = docker_cli.ok("run", "-d", "-v", f"{shared}:/b", "busybox", "sleep", "1000")
    (shared / "last").mkdir()
    run(["mount", "-t", "tmpfs", "none", str(shared / "last")]).ok()
    (shared / "last/file").touch()
    assert docker_cli("exec", private, "test", "-e", "/b/last/file").code == 1


@pytest.mark.docker_since(25)
@pytest.mark.peer_lacks("it knows no recursive read-only")
@pytest.mark.observes("docker run --mount")
@pytest.mark.parametrize(
    ("option", "below"),
    [
        ("", "closed"),
        (",bind-recursive=readonly,bind-propagation=rprivate", "closed"),
        (",bind-recursive=writable", "open"),
        (",bind-recursive=disabled", "gone"),
    ],
)
def test_a_read_only_bind_is_so_below_too_unless_told_otherwise(
    docker_cli: CommandLine, shared: Path, option: str, below: str
) -> None:
    (shared / "below/there").touch()
    script = """touch /b/x 2>/dev/null && echo top
        if [ ! -e /b/below/there ]; then echo gone; elif touch /b/below/x 2>/dev/null; then echo open; else echo closed; fi"""
    mount = f"type=bind,source={shared},target=/b,readonly{option}"
    assert docker_cli.ok("run", "--rm", "--mount", mount, "busybox", "sh", "-c", script) == below


@pytest.mark.observes("docker run --volume")
def test_labels_of_selinux_are_taken_and_nocopy_leaves_a_volume_empty(docker_cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("here")
    assert docker_cli.shell("cat /b/given", "-v", f"{tmp_path}:/b:z,ro").ok() == "here"
    assert docker_cli.shell("ls /var/www | wc -l", "-v", "empty:/var/www:nocopy").ok() == "0"
    assert docker_cli.shell("ls /var/www | wc -l", "-v", "full:/var/www").ok() != "0"


@pytest.mark.peer_lacks("20.10 makes no source for a mount")
@pytest.mark.observes("POST /containers/create")
def test_the_source_of_a_mount_is_made_when_that_is_asked(engine: Engine, docker_cli: CommandLine, tmp_path: Path) -> None:
    mount = {"Type": "bind", "Source": f"{tmp_path}/new", "Target": "/b", "BindOptions": {"CreateMountpoint": True}}
    wish = {"Image": "busybox", "Cmd": ["touch", "/b/x"], "HostConfig": {"Mounts": [mount]}}
    container = engine.api("POST", "/containers/create", wish).json["Id"]
    docker_cli.ok("start", "-a", container)
    assert (tmp_path / "new/x").exists()


@pytest.mark.observes("docker run --memory", "GET /events")
def test_a_kill_for_want_of_memory_is_an_event_and_stays_in_the_record(docker_cli: CommandLine) -> None:
    docker_cli.ok("run", "-d", "--name", "host", "--memory", "20m", "busybox", "sleep", "1000")
    with docker_cli.pipes("events", "--filter", "container=host", "--filter", "event=oom", "--format", "{{.Action}}") as told:
        docker_cli("exec", "host", "dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1")
        told.expect("oom")
    assert docker_cli.ok("inspect", "-f", "{{.State.Status}}", "host") == "running"  # an exec was killed, not the container


@pytest.mark.observes("docker run --volume", "docker run --tmpfs")
@pytest.mark.parametrize("flags", [("--tmpfs", "/etc"), ("-v", "conf:/etc"), ("--mount", "type=tmpfs,target=/etc")])
def test_what_is_mounted_on_etc_hides_neither_names_nor_hosts(docker_cli: CommandLine, flags: tuple[str, str]) -> None:
    seen = docker_cli.shell("hostname; cat /etc/hostname; grep -c ship /etc/hosts; cat /etc/given", *flags, "--hostname", "ship")
    assert seen.stdout.split() == ["ship", "ship", "1"]
    nested = docker_cli.shell("cat /etc/hostname", *flags, "-v", "/etc/passwd:/etc/hostname:ro").ok()
    assert nested.startswith("root:")


@pytest.mark.observes("docker run --tmpfs", "docker run --mount")
def test_a_tmpfs_has_the_mode_of_what_it_covers(docker_cli: CommandLine) -> None:
    script = "stat -c '%a %n' /root /tmp /fresh"
    assert docker_cli.shell(script, "--tmpfs", "/root", "--tmpfs", "/tmp", "--tmpfs", "/fresh").ok().split("\n") == [
        "755 /root",
        "1777 /tmp",
        "1777 /fresh",
    ]


@pytest.mark.peer_lacks("its runc gives the mode of what is covered in any case")
@pytest.mark.observes("docker run --tmpfs", "docker run --mount")
def test_the_mode_that_is_asked_of_a_tmpfs_is_the_one_it_has(docker_cli: CommandLine) -> None:
    flags = ("--tmpfs", "/root:mode=1777,uid=3,gid=4", "--mount", "type=tmpfs,target=/fresh,tmpfs-mode=0710")
    assert docker_cli.shell("stat -c '%a %u %g' /root /fresh", *flags).ok().split("\n") == ["1777 3 4", "710 0 0"]


@pytest.mark.observes("docker run --workdir", "docker run --user", "docker run --volumes-from")
def test_paths_and_users_are_read_as_docker_reads_them(docker_cli: CommandLine) -> None:
    assert docker_cli.ok("run", "--rm", "-w", "/a/../b//c/.", "busybox", "pwd") == "/b/c"
    assert docker_cli.ok("run", "--rm", "-u", "app:wheel:what-follows", "busybox", "id", "-gn") == "wheel"
    volumes: dict[str, dict[str, str]] = {"data": {}, "/other/../more/": {}}
    wish = {"Image": "busybox", "Cmd": ["sh", "-c", "touch /data/x /more/x && echo made"], "Volumes": volumes}
    container = docker_cli.engine.api("POST", "/containers/create", wish).json["Id"]
    assert docker_cli.ok("start", "-a", container) == "made"
    docker_cli.ok("create", "--name", "donor", "-v", "/etc:/b:ro", "busybox")
    docker_cli.ok("create", "--name", "heir", "--volumes-from", "donor", "busybox")
    form = "{{range .Mounts}}{{.Destination}} {{.RW}} [{{.Mode}}]{{end}}"
    assert docker_cli.ok("inspect", "-f", form, "heir") == "/b false []"


@pytest.mark.observes("docker run --ulimit", "docker run --oom-score-adj")
def test_what_the_machine_cannot_raise_is_said(engine: Engine) -> None:
    """Where carrackd holds CAP_SYS_RESOURCE nothing is said, for nothing is lowered."""
    host = {"Ulimits": [{"Name": "nofile", "Soft": 1 << 40, "Hard": 1 << 40}], "OomScoreAdj": -999}
    answer = engine.api("POST", "/containers/create", {"Image": "busybox", "HostConfig": host})
    assert answer.status == 201
    status = Path("/proc/self/status").read_text().splitlines()
    bound = not int(next(line for line in status if line.startswith("CapEff")).split()[1], 16) >> 24 & 1
    lost = [warning for warning in answer.json["Warnings"] or [] if "CAP_SYS_RESOURCE" in warning]
    assert len(lost) == (2 if bound and engine.kind == "carrackd" else 0)


@pytest.mark.skipif(UNIFIED, reason="version 2 has a scale of its own, onto which these are clamped")
@pytest.mark.observes("docker run --cpu-shares")
@pytest.mark.parametrize(("shares", "message"), [("1", "the minimum allowed cpu-shares is 2"), ("262145", "cpu-shares is 262144")])
def test_shares_that_the_kernel_would_change_are_refused(docker_cli: CommandLine, shares: str, message: str) -> None:
    refused = docker_cli("run", "--rm", "--cpu-shares", shares, "busybox", "true")
    assert (refused.code, message in refused.stderr) == (125, True)
