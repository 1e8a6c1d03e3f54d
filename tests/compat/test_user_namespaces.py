"""`--userns-remap` and `--userns=host`: the container's root is nobody on the host, and nothing of the image has to be copied."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import EnginePool, MakeEngine
from tests.rig.carrackd import Carrackd, shim_above
from tests.rig.engine import CommandLine, docker_program
from tests.rig.namespaces import HeldNamespace
from tests.rig.waiting import until

FIRST = 231_000

pytestmark = pytest.mark.peer_lacks("its layers would have to be copied, below a data-root of another name")


@pytest.fixture(scope="module")
def remapped(engine_pool: EnginePool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A client of a daemon with `--userns-remap nobody`, on a host (a mount namespace) whose /etc/subuid knows that user."""
    with HeldNamespace(mounts=True) as host:
        folder = tmp_path_factory.mktemp("etc")
        for name in ("subuid", "subgid"):
            (folder / name).write_text(f"nobody:{FIRST}:65536\n")
            place = Path(f"/etc/{name}")
            if not place.exists():  # Debian has both; bind what is there over what would be
                host.run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={folder}:/etc", "/etc").ok()
                break
            host.run("mount", "--bind", str(folder / name), str(place)).ok()
        engine = engine_pool.build("carrackd", ("--userns-remap", "nobody"), host=host)
        try:
            engine_pool.start(engine)
            yield CommandLine(engine, [docker_program()])
        finally:
            engine.close()


@pytest.fixture(autouse=True)
def swept(remapped: CommandLine) -> Iterator[None]:
    yield
    remapped.engine.sweep(frozenset({remapped.ok("images", "-q", "--no-trunc", "busybox")}))


def pid_of(cli: CommandLine, name: str) -> int:
    return int(cli.ok("inspect", "-f", "{{.State.Pid}}", name))


@pytest.mark.observes("docker run --userns")
def test_the_containers_root_is_nobody_on_the_host(remapped: CommandLine) -> None:
    remapped.ok("run", "-d", "--name", "small", "busybox", "sleep", "1000")
    pid = pid_of(remapped, "small")
    assert remapped.ok("exec", "small", "id", "-u") == "0"
    assert os.stat(f"/proc/{pid}").st_uid == FIRST
    assert Path(f"/proc/{pid}/uid_map").read_text().split() == ["0", str(FIRST), "65536"]
    assert remapped.ok("exec", "small", "cat", "/proc/self/uid_map").split() == ["0", str(FIRST), "65536"]
    assert "name=userns" in json.loads(remapped.ok("info", "-f", "{{json .SecurityOptions}}"))


def test_the_images_files_are_roots_inside_and_unchanged_on_disk(remapped: CommandLine) -> None:
    script = "stat -c %u:%g /bin/busybox; touch /made && chown app /made && stat -c %u:%g /made; echo out > /dev/stdout"
    assert remapped.ok("run", "--name", "made", "busybox", "sh", "-c", script).split() == ["0:0", "1000:0", "out"]
    container = remapped.ok("inspect", "-f", "{{.Id}}", "made")
    on_disk = os.stat(remapped.engine.data_root / "containers" / container / "rw/made")
    assert (on_disk.st_uid, on_disk.st_gid) == (1000, 0)


def test_a_volume_and_the_files_of_etc_belong_to_the_containers_root(remapped: CommandLine) -> None:
    script = "echo kept > /data/f; stat -c %u /data/f /etc/hosts; echo 10.1.2.3 friend >> /etc/hosts; hostname"
    assert remapped.shell(script, "-v", "store:/data", "--hostname", "ship").ok().split() == ["0", "0", "ship"]
    assert remapped.shell("cat /data/f; stat -c %u /data/f", "-v", "store:/data", "--userns", "host").ok().split() == ["kept", "0"]


def test_a_bind_of_the_host_shows_its_owners_as_strangers(remapped: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("secret")
    (tmp_path / "mine").chmod(0o600)
    os.chmod(tmp_path, 0o755)
    for folder in tmp_path.parents:
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(folder.stat().st_mode | 0o005)
    seen = remapped.shell("stat -c %u /b/mine; cat /b/mine", "-v", f"{tmp_path}:/b")
    assert seen.stdout.split()[0] == "65534"
    assert "Permission denied" in seen.stderr


@pytest.mark.observes("docker run --userns")
def test_userns_host_is_the_hosts_own(remapped: CommandLine) -> None:
    remapped.ok("run", "-d", "--name", "plain", "--userns", "host", "busybox", "sleep", "1000")
    assert os.readlink(f"/proc/{pid_of(remapped, 'plain')}/ns/user") == os.readlink("/proc/self/ns/user")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--privileged",), "privileged mode is incompatible with user namespaces"),
        (("--network", "host"), "cannot share the host's network namespace when user namespaces are enabled"),
        (("--pid", "host"), "cannot share the host PID namespace when user namespaces are enabled"),
    ],
)
def test_what_does_not_go_with_it_is_refused_unless_it_is_switched_off(
    remapped: CommandLine, flags: tuple[str, ...], message: str
) -> None:
    refused = remapped("run", "--rm", *flags, "busybox", "true")
    assert (refused.code, message in refused.stderr) == (125, True)
    remapped.ok("run", "--rm", *flags, "--userns", "host", "busybox", "true")


def test_networks_ports_limits_and_the_terminal_work(remapped: CommandLine) -> None:
    remapped.ok("network", "create", "ours")
    remapped.ok("run", "-d", "--name", "web", "--network", "ours", "--memory", "64m", "busybox", "sleep", "1000")
    seen = remapped.ok("run", "--rm", "--network", "ours", "busybox", "ping", "-c", "1", "-W", "5", "web")
    assert "1 packets received" in seen
    with remapped.terminal("exec", "-it", "web", "sh") as screen:
        screen.send("tty; stty size\n")
        screen.expect("/dev/pts/")
        screen.send("exit 5\n")
        assert screen.wait() == 5
    joined = remapped.ok("run", "--rm", "--network", "container:web", "busybox", "readlink", "/proc/self/ns/user")
    assert joined == os.readlink(f"/proc/{pid_of(remapped, 'web')}/ns/user")


def test_it_is_confined_as_ever(remapped: CommandLine) -> None:
    refused = remapped.shell(
        "echo 1 > /proc/sys/kernel/panic; mount -t tmpfs none /tmp; mknod /x c 1 3; cat /proc/kcore | head -c 1"
    )
    assert refused.stdout == ""
    remapped.shell("head -c 4 /dev/zero > /dev/null && echo x > /dev/shm/x").ok()


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_other_runtimes_have_it_too(remapped: CommandLine, runtime: str) -> None:
    script = "stat -c %u /bin/busybox /data; cat /proc/self/uid_map; echo y > /data/g"
    seen = remapped.shell(script, "--runtime", runtime, "-v", "store:/data").ok().split()
    assert seen == ["0", "0", "0", str(FIRST), "65536"]


@pytest.mark.parametrize("flags", [(), ("--user", "1000")])
def test_no_runtime_gives_the_hosts_null_device_away(remapped: CommandLine, flags: tuple[str, ...]) -> None:
    """crun gives its standard streams to the container's user: who owns the host's /dev/null may close it to everyone."""
    for runtime in ("carrack", "crun", "runc"):
        assert remapped.shell("cat; ls -l /proc/self/fd/0", "--runtime", runtime, *flags).ok().endswith("/null")
        assert os.stat("/dev/null").st_uid == 0, runtime


def test_it_outlives_the_daemon_and_leaves_nothing(remapped: CommandLine) -> None:
    engine = remapped.engine
    assert isinstance(engine, Carrackd)
    remapped.ok("run", "-d", "--name", "stays", "busybox", "sleep", "1000")
    pid = pid_of(remapped, "stays")
    engine.kill()
    engine.start()
    assert pid_of(remapped, "stays") == pid
    assert remapped.ok("exec", "stays", "id", "-u") == "0"
    remapped.ok("rm", "-f", "stays")
    until(lambda: not Path(f"/proc/{pid}").exists(), "its end")


@pytest.mark.parametrize("daemon", ["is there", "is away"])
def test_one_that_joined_anothers_namespaces_ends_with_its_shim(remapped: CommandLine, daemon: str) -> None:
    """It is born of a process inside the other's user namespace, and so without a signal for its supervisor's death."""
    engine = remapped.engine
    assert isinstance(engine, Carrackd)
    remapped.ok("run", "-d", "--name", "host", "busybox", "sleep", "1000")
    container = remapped.ok("run", "-d", "--name", "guest", "--network", "container:host", "busybox", "sleep", "1000")
    pid = pid_of(remapped, "guest")
    (shim,) = until(lambda: shim_above(Path(f"/proc/{pid}")), "its maker to leave it to its shim")
    if daemon == "is away":
        engine.kill()
    os.kill(shim, 9)
    if daemon == "is away":
        engine.start()
    until(lambda: not Path(f"/proc/{pid}").exists(), "its process to end")
    until(lambda: remapped.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "guest") == "exited 137", "the record")
    until(lambda: not any(container in trace for trace in engine.traces()), "its cgroup and socket to go")
    assert remapped.ok("exec", "host", "echo", "unharmed") == "unharmed"


@pytest.mark.parametrize(
    ("wish", "message"), [("no-such-user-here", "no user no-such-user-here on this host"), ("daemon", "no subordinate range for")]
)
def test_a_user_without_numbers_is_refused_at_the_start(make_engine: MakeEngine, wish: str, message: str) -> None:
    engine = make_engine("--userns-remap", wish, start=False)
    with pytest.raises(AssertionError):
        engine.start()
    assert message in engine.log_tail()
    engine.process = None


def test_copying_in_and_out_and_committing_keep_the_owners(remapped: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("brought")
    remapped.ok("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    remapped.ok("cp", str(tmp_path / "given"), "box:/given")
    assert remapped.ok("exec", "box", "sh", "-c", "stat -c %u /given; cat /given; chown app /given").split() == ["0", "brought"]
    remapped.ok("cp", "box:/given", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "brought"
    assert "A /given" in remapped.ok("diff", "box")
    remapped.ok("commit", "box", "kept")
    assert remapped.ok("run", "--rm", "kept", "stat", "-c", "%u", "/given") == "1000"
    assert remapped.ok("run", "--rm", "--userns", "host", "kept", "stat", "-c", "%u", "/given") == "1000"
    remapped.ok("rmi", "-f", "kept")


@pytest.mark.observes("docker cp", "docker commit", "docker diff")
def test_volumes_and_containers_at_rest_are_copied_by_the_same_numbers(remapped: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("text")
    os.chown(tmp_path / "given", 1000, 1000)
    for verb, flags in (("run", ["-d"]), ("create", [])):
        remapped.ok(verb, *flags, "--name", verb, "-v", "/vol", "busybox", "sleep", "1000")
        for target in ("/", "/vol"):
            remapped.ok("cp", str(tmp_path / "given"), f"{verb}:{target}")
        remapped.ok("cp", "-a", f"{verb}:/given", str(tmp_path / verb))
        assert (tmp_path / verb).read_text() == "text"
        assert remapped.ok("diff", verb).splitlines()[0] == "A /given"
        remapped.ok("commit", verb, f"kept-{verb}:1")
        assert remapped.ok("run", "--rm", f"kept-{verb}:1", "stat", "-c", "%u", "/given") == "1000"
    assert remapped.ok("exec", "run", "stat", "-c", "%u", "/given", "/vol/given").split() == ["1000", "1000"]
