"""What a hostile container or image cannot do to the host through the engine: one test for each class of known escapes.

The host's side of each is a folder that a container knows the path of and has no way to: nothing of it may come out, nothing may
appear in it. A container that swaps links does so all the time while the engine works.
"""

import io
import os
import stat
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig.engine import CommandLine
from tests.rig.waiting import until

SECRET = "the host's own"
RACE_SECONDS = 1.5


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the host with a secret in it."""
    tmp_path.chmod(0o755)
    folder = tmp_path / "host"
    folder.mkdir()
    (folder / "secret").write_text(SECRET)
    return folder


@contextmanager
def swapping(cli: CommandLine, outside: Path, *flags: str) -> Iterator[str]:
    """A container that makes /a a folder and a link to the host's folder in turns, without a pause."""
    script = (
        "mkdir /real; echo inside >/real/secret; touch /ready;"
        f" while :; do mv /real /a; mv /a /real; ln -s {outside} /a; ln -sfn / /a/up 2>/dev/null; rm -f /a; done"
    )
    cli.ok("run", "-d", "--name", "swap", *flags, "busybox", "sh", "-c", script)
    until(lambda: cli("exec", "swap", "ls", "/ready").code == 0, "the swapping to begin")
    yield "swap"
    cli.ok("rm", "-f", "swap")


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = 4
            made.addfile(entry, io.BytesIO(b"evil"))
    return buffer.getvalue()


def put(cli: CommandLine, name: str, path: str, content: bytes, query: str = "") -> int:
    headers = {"Content-Type": "application/x-tar"}
    return cli.engine.api("PUT", f"/containers/{name}/archive?path={path}{query}", content, headers=headers).status


def untouched(outside: Path) -> bool:
    return os.listdir(outside) == ["secret"] and (outside / "secret").read_text() == SECRET


# CVE-2018-15664, CVE-2019-10152, CVE-2021-41089, CVE-2026-41568, CVE-2026-42306
@pytest.mark.observes("GET /containers/{id}/archive", "PUT /containers/{id}/archive")
def test_a_swapped_link_leads_no_copy_out_of_the_container(cli: CommandLine, outside: Path) -> None:
    with swapping(cli, outside) as name:
        ends = time.monotonic() + RACE_SECONDS
        answers: set[int] = set()
        while time.monotonic() < ends:
            found = cli.engine.api("GET", f"/containers/{name}/archive?path=/a/secret")
            assert SECRET.encode() not in found.body
            answers |= {
                found.status,
                put(cli, name, "/a", archive("planted")),
                put(cli, name, "/", archive("a/planted", "a/up/etc/x")),
            }
        assert len(answers) > 1  # it was met in more than one shape
    assert untouched(outside)
    assert not Path("/etc/x").exists()


@pytest.mark.observes("GET /containers/{id}/archive", "PUT /containers/{id}/archive", "docker cp")
def test_a_link_to_a_path_of_the_host_means_that_path_in_the_container(cli: CommandLine, outside: Path) -> None:
    for verb, flags in (("run", ["-d"]), ("create", [])):
        cli.ok(verb, *flags, "--name", verb, "busybox", "sleep", "1000")
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as made:
            for link, target in (("to-host", str(outside)), ("up", "../../../../../.." + str(outside))):
                entry = tarfile.TarInfo(link)
                entry.type, entry.linkname = tarfile.SYMTYPE, target
                made.addfile(entry)
        assert put(cli, verb, "/", buffer.getvalue()) == 200
        for link in ("to-host", "up"):
            assert cli.engine.api("GET", f"/containers/{verb}/archive?path=/{link}/secret").status == 404
            assert put(cli, verb, f"/{link}", archive("planted")) == 404
    assert untouched(outside)


@pytest.mark.observes("GET /containers/{id}/export", "POST /commit", "GET /containers/{id}/changes")
def test_a_swapped_link_brings_nothing_of_the_host_into_an_export_or_an_image(cli: CommandLine, outside: Path) -> None:
    with swapping(cli, outside) as name:
        ends = time.monotonic() + RACE_SECONDS
        while time.monotonic() < ends:
            assert SECRET.encode() not in cli.engine.api("GET", f"/containers/{name}/export").body
            cli.engine.api("GET", f"/containers/{name}/changes")
            cli.engine.api("GET", "/containers/json?size=1")
        image = cli.ok("commit", "--pause=false", name)
        assert SECRET.encode() not in cli.output("save", image)


# CVE-2019-14271, CVE-2026-41567
@pytest.mark.observes("PUT /containers/{id}/archive")
def test_nothing_that_lies_in_a_container_is_executed_or_loaded_by_a_copy(cli: CommandLine) -> None:
    script = """
        mkdir -p /usr/bin /lib/x86_64-linux-gnu /usr/lib/python3.11/encodings
        for p in xz unxz gzip gunzip unpigz pigz bzip2 zstd tar; do
            printf '#!/bin/sh\\ntouch /executed\\n' >/usr/bin/$p; chmod 755 /usr/bin/$p; cp /usr/bin/$p /bin/$p
        done
        for l in nss_files nss_compat nss_systemd; do cp /bin/busybox /lib/x86_64-linux-gnu/lib$l.so.2; done
        for m in cp437 idna latin_1; do echo "open('/executed','w')" >/usr/lib/python3.11/encodings/$m.py; done
        sleep 1000"""
    cli.ok("run", "-d", "--name", "trap", "--user", "root", "busybox", "sh", "-c", script)
    until(lambda: cli("exec", "trap", "ls", "/usr/lib/python3.11/encodings/latin_1.py").code == 0, "the traps to be set")
    for mode in ("w:gz", "w:bz2", "w:xz"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode) as made:
            made.addfile(tarfile.TarInfo("caf\u00e9"), io.BytesIO())
        assert put(cli, "trap", "/", buffer.getvalue(), "&copyUIDGID=1") == 200
    cli.engine.api("GET", "/containers/trap/archive?path=/usr")
    assert cli("exec", "trap", "ls", "/executed").code == 1


# CVE-2021-21285, CVE-2026-47262
@pytest.mark.peer_lacks("reads it to its end")
@pytest.mark.observes("docker exec --user", "PUT /containers/{id}/archive")
def test_an_endless_user_file_costs_the_daemon_nothing(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "huge", "--user", "1234", "busybox", "sleep", "1000")
    cli.ok(
        "exec",
        "-u",
        "0",
        "huge",
        "sh",
        "-c",
        "truncate -s 20G /etc/group; mkfifo /etc/passwd.fifo; mv /etc/passwd.fifo /etc/passwd",
    )
    begun = time.monotonic()
    cli("exec", "-u", "nobody", "huge", "true")
    put(cli, "huge", "/tmp", archive("x"), "&copyUIDGID=1")
    assert cli.ok("exec", "huge", "echo", "alive") == "alive"
    assert time.monotonic() - begun < 20


# CVE-2024-40635, CVE-2026-46680
@pytest.mark.observes("docker run --user")
@pytest.mark.parametrize("user", ["4294967296", "2147483648", "0x0", "-1", "1:4294967296"])
def test_a_number_that_overflows_never_becomes_root(cli: CommandLine, user: str) -> None:
    assert cli("run", "--rm", "--user", user, "busybox", "id", "-u").code != 0


# CVE-2022-23648, CVE-2021-43816, CVE-2026-53489
@pytest.mark.observes("docker run --volume")
def test_an_images_volume_that_is_a_link_fills_the_volume_with_nothing_of_the_host(cli: CommandLine, outside: Path) -> None:
    cli.ok("run", "--name", "maker", "busybox", "ln", "-s", str(outside), "/data")
    cli.ok("commit", "--change", "VOLUME /data", "maker", "evil:1")
    shown = cli("run", "--rm", "evil:1", "sh", "-c", "find / -name secret -type f -exec cat {} + 2>/dev/null")
    assert SECRET not in shown.stdout + shown.stderr
    assert untouched(outside)


# the class of CVE-2022-1227, CVE-2023-0778, CVE-2025-9566, CVE-2026-55686: paths that an image names
@pytest.mark.observes("docker run --workdir")
def test_a_working_directory_that_is_a_link_stays_inside(cli: CommandLine, outside: Path) -> None:
    cli.ok("run", "--name", "maker", "busybox", "ln", "-s", f"../../../../../..{outside}", "/work")
    cli.ok("commit", "--change", "WORKDIR /work", "maker", "evil:1")
    shown = cli("run", "--rm", "evil:1", "sh", "-c", "cat secret; touch planted")
    assert SECRET not in shown.stdout
    assert untouched(outside)


@pytest.mark.peer_lacks("knows no subpath of a volume")
@pytest.mark.observes("docker run --mount")
def test_a_subpath_of_a_volume_that_is_a_link_leads_nowhere_else(cli: CommandLine, outside: Path) -> None:
    cli.ok("run", "--rm", "-v", "shared:/v", "busybox", "ln", "-s", str(outside), "/v/link")
    wanted = "type=volume,source=shared,target=/x,volume-subpath=link"
    shown = cli("run", "--rm", "--mount", wanted, "busybox", "sh", "-c", "cat /x/secret; touch /x/planted")
    assert SECRET not in shown.stdout
    cli("create", "--name", "rest", "--mount", wanted, "busybox", "true")
    assert SECRET.encode() not in cli.engine.api("GET", "/containers/rest/archive?path=/x").body
    assert untouched(outside)


@pytest.mark.observes("docker run --health-cmd")
def test_a_health_check_runs_inside_and_its_output_is_bounded(cli: CommandLine, outside: Path) -> None:
    check = f"cat {outside}/secret; head -c 3000000 /dev/zero | tr '\\0' x; exit 1"
    cli.ok(
        "run",
        "-d",
        "--name",
        "sick",
        "--health-cmd",
        check,
        "--health-interval",
        "200ms",
        "--health-retries",
        "1",
        "busybox",
        "sleep",
        "99",
    )
    health = "{{json .State.Health}}"
    until(lambda: "unhealthy" in cli.ok("inspect", "-f", "{{.State.Health.Status}}", "sick"), "the check to fail")
    shown = cli.ok("inspect", "-f", health, "sick")
    assert SECRET not in shown
    assert len(shown) < 100_000


# CVE-2021-21284, CVE-2021-41091, CVE-2020-15257
@pytest.mark.observes("docker run --network")
def test_no_other_user_of_the_host_gets_at_the_engines_files_or_sockets(cli: CommandLine) -> None:
    if cli.engine.kind == "dockerd":
        pytest.skip("about where Carrack keeps things")
    cli.ok("run", "-d", "--name", "c1", "--log-driver", "json-file", "busybox", "sh", "-c", "echo private; sleep 1000")
    data_root = cli.engine.data_root
    for folder in (data_root, data_root / "containers", data_root / "layers"):
        assert stat.S_IMODE(folder.stat().st_mode) & 0o007 == 0, folder
    log = Path(cli.ok("inspect", "-f", "{{.LogPath}}", "c1"))
    assert stat.S_IMODE(log.stat().st_mode) & 0o007 == 0
    for socket in (cli.engine.exec_root / "shims").glob("*.sock"):
        assert stat.S_IMODE(socket.stat().st_mode) & 0o077 == 0
    shown = cli.ok("run", "--rm", "--network", "host", "busybox", "cat", "/proc/net/unix")
    assert not [line for line in shown.splitlines() if "@" in line and "carrack" in line]


@pytest.mark.observes("docker logs")
def test_a_log_file_that_was_replaced_by_a_link_is_not_written_through(cli: CommandLine, outside: Path) -> None:
    if cli.engine.kind == "dockerd":
        pytest.skip("about where Carrack keeps things")
    cli.ok("run", "--name", "c1", "busybox", "echo", "first")
    log = Path(cli.ok("inspect", "-f", "{{.LogPath}}", "c1"))
    log.unlink()
    log.symlink_to(outside / "secret")
    cli("start", "-a", "c1")
    assert SECRET not in cli("logs", "c1").stdout
    assert untouched(outside)


# CVE-2026-30892
@pytest.mark.observes("docker exec --user")
@pytest.mark.parametrize("user", ["4294967296", "2147483648", "0x0", "-1", "1:4294967296", "nobody:-1", "\u00b2", "1 0"])
def test_an_exec_by_a_user_that_is_none_runs_as_nobody_at_all(cli: CommandLine, user: str) -> None:
    cli.ok("run", "-d", "--name", "c1", "--user", "1234", "busybox", "sleep", "1000")
    shown = cli("exec", "-u", user, "c1", "id", "-u")
    assert shown.code != 0
    assert not [line for line in shown.stdout.splitlines() if line.strip().isdigit()]


# CVE-2023-25809
@pytest.mark.observes("docker run --cgroupns")
def test_the_hosts_control_groups_are_not_writable_without_a_namespace_of_them(cli: CommandLine) -> None:
    script = "for d in /sys/fs/cgroup/*/; do mkdir $d/mine && echo made; done 2>/dev/null; cat /proc/self/cgroup"
    shown = cli.ok("run", "--rm", "--cgroupns", "host", "busybox", "sh", "-c", script)
    assert "made" not in shown
    assert shown


# CVE-2023-6476, CVE-2024-3154, CVE-2026-53488, CVE-2026-53492, CVE-2026-50195, CVE-2024-8676
@pytest.mark.peer_lacks("knows no annotations of a container")
@pytest.mark.observes("POST /containers/create")
def test_neither_annotations_nor_the_labels_of_an_image_steer_the_host(cli: CommandLine) -> None:
    """What other engines' runtimes take for orders: devices, limits, groups, hooks, mounts, host paths."""
    wishes = {
        "org.systemd.property.DeviceAllow": "[('/dev/mem', 'rwm')]",
        "org.systemd.property.DevicePolicy": "'auto'",
        "org.systemd.property.TasksMax": "uint64 1",
        "run.oci.keep_original_groups": "1",
        "run.oci.hooks.stderr": "/hooked",
        "run.oci.mount_context_type": "context",
        "io.crun.mounts": "/:/host",
        "io.container.manager.checkpoint": "/etc",
        "io.kubernetes.cri-o.Devices": "/dev/mem",
        "io.containerd.image.volumes": "/:/host",
        "com.docker.network.endpoint.sysctls": "net.ipv4.ip_forward=1",
        "desktop.docker.io/binds/0/Source": "/",
        "desktop.docker.io/binds/0/Target": "/host",
    }
    cli.ok("create", "--name", "maker", "busybox")
    words = [word for name, value in wishes.items() for word in ("--change", f'LABEL "{name}"="{value}"')]
    cli.ok("commit", *words, "maker", "labelled:1")
    look = (
        "id -G; cat /sys/fs/cgroup/devices/devices.list /sys/fs/cgroup/pids/pids.max; mknod /m c 1 1; dd if=/m count=1; mount; ls /"
    )
    api, seen, records = cli.engine.api, [], []
    for image, annotations in (("busybox", {}), ("labelled:1", {}), ("busybox", wishes)):
        body = {"Image": image, "Cmd": ["sh", "-c", look], "HostConfig": {"Annotations": annotations}}
        made = api("POST", "/containers/create", body).json["Id"]
        told = api("GET", f"/containers/{made}/json").json
        records.append((told["Mounts"], {**told["HostConfig"], "Annotations": None}))
        cli("start", "-a", made)
        shown = cli("logs", made)
        seen.append(
            [line for line in (shown.stdout + shown.stderr).splitlines() if made[:12] not in line and "upperdir" not in line]
        )
    assert seen[0] == seen[1] == seen[2]
    assert any("Operation not permitted" in line for line in seen[0])
    assert records[0] == records[1] == records[2]
