"""A record becomes a runtime-spec document: nothing asked for is lost on the way."""

import msgspec
import pytest

from carrack.engine import specification
from carrack.engine.config import ContainerConfig, DeviceMapping, HostConfig, Ulimit
from carrack.engine.container import Container, MountPoint
from carrack.engine.specification import Places
from carrack.errors import Conflict, InvalidParameter
from carrack.oci.runtime_spec import Linux, Process, RuntimeSpec, SpecMount

PLACES = Places("/carrack/id", "/d/hostname", "/d/hosts", "/d/resolv.conf", namespace_of=lambda ref: {"other": 42}.get(ref, 0))


def container(
    config: ContainerConfig | None = None, host: HostConfig | None = None, mounts: list[MountPoint] | None = None
) -> Container:
    return Container(
        "a" * 64, "web", 1, config or ContainerConfig(hostname="web"), host or HostConfig(), "sha256:0", "x",
        "/bin/sh", ["-c", "true"],
        mounts=mounts or [],
    )  # fmt: skip


def built(
    config: ContainerConfig | None = None, host: HostConfig | None = None, mounts: list[MountPoint] | None = None
) -> RuntimeSpec:
    return specification.build(container(config, host, mounts), PLACES)


def process(config: ContainerConfig | None = None, host: HostConfig | None = None) -> Process:
    found = built(config, host).process
    assert found is not None
    return found


def linux(host: HostConfig | None = None, mounts: list[MountPoint] | None = None) -> Linux:
    found = built(None, host, mounts).linux
    assert found is not None
    return found


def mount_at(destination: str, host: HostConfig | None = None, mounts: list[MountPoint] | None = None) -> SpecMount:
    found = [mount for mount in built(None, host, mounts).mounts if mount.destination == destination]
    assert len(found) == 1
    return found[0]


def test_a_variable_of_the_user_wins_and_one_without_a_value_is_removed() -> None:
    made = container(ContainerConfig(hostname="h", env=["PATH=/mine", "HOSTNAME", "A=1"]))
    assert specification.environment(made) == ["PATH=/mine", "A=1"]


def test_a_terminal_brings_its_variable() -> None:
    assert "TERM=xterm" in specification.environment(container(ContainerConfig(tty=True)))


def test_capabilities_are_never_inheritable_or_ambient() -> None:
    sets = process(None, HostConfig(cap_add=["NET_ADMIN"], cap_drop=["CHOWN"])).capabilities
    assert sets is not None
    assert (sets.inheritable, sets.ambient) == ((), ())
    assert "CAP_NET_ADMIN" in sets.effective
    assert "CAP_CHOWN" not in sets.bounding


def test_an_unlimited_ulimit_is_the_largest_number() -> None:
    limit = process(None, HostConfig(ulimits=[Ulimit("nofile", -1, 5)])).rlimits[0]
    assert (limit.type, limit.hard, limit.soft) == ("RLIMIT_NOFILE", 2**64 - 1, 5)


@pytest.mark.parametrize(
    ("field", "kind"), [("pid_mode", "pid"), ("ipc_mode", "ipc"), ("uts_mode", "uts"), ("network_mode", "network")]
)
def test_a_namespace_of_the_host_is_not_made(field: str, kind: str) -> None:
    kinds = {namespace.type for namespace in linux(msgspec.structs.replace(HostConfig(), **{field: "host"})).namespaces}
    assert kind not in kinds


def test_a_namespace_of_another_container_is_joined() -> None:
    paths = {namespace.type: namespace.path for namespace in linux(HostConfig(pid_mode="container:other")).namespaces}
    assert paths["pid"] == "/proc/42/ns/pid"


def test_a_namespace_of_a_container_that_does_not_run_is_refused() -> None:
    with pytest.raises(Conflict, match="cannot join pid of a non running container"):
        linux(HostConfig(pid_mode="container:gone"))


def test_processors_become_a_quota() -> None:
    resources = linux(HostConfig(nano_cpus=1_500_000_000)).resources
    assert resources is not None
    assert resources.cpu is not None
    assert (resources.cpu.quota, resources.cpu.period) == (150_000, 100_000)


def test_devices_are_denied_before_any_is_allowed() -> None:
    resources = linux(HostConfig(devices=[DeviceMapping("/dev/null", "/dev/zilch", "r")])).resources
    assert resources is not None
    assert not resources.devices[0].allow
    last = resources.devices[-1]
    assert (last.allow, last.type, last.major, last.minor, last.access) == (True, "c", 1, 3, "r")


@pytest.mark.parametrize("path", ["/dev/nothing-here", "/etc/passwd"])
def test_what_is_no_device_is_refused(path: str) -> None:
    with pytest.raises(InvalidParameter, match="error gathering device information"):
        linux(HostConfig(devices=[DeviceMapping(path)]))


def test_privileged_hides_nothing_and_allows_every_device() -> None:
    found = linux(HostConfig(privileged=True))
    assert (found.masked_paths, found.readonly_paths) == ((), ())
    assert found.resources is not None
    assert found.resources.devices[0].allow


def test_a_read_only_bind_is_read_only_all_the_way_down() -> None:
    point = MountPoint("bind", "/src", "/dst", writable=False, propagation="rprivate")
    assert mount_at("/dst", None, [point]).options == ("rbind", "rprivate", "rro")


def test_parents_are_mounted_before_what_lies_below_them() -> None:
    points = [MountPoint("bind", "/b", "/a/b"), MountPoint("bind", "/a", "/a")]
    order = [mount.destination for mount in built(None, None, points).mounts]
    assert order.index("/a") < order.index("/a/b")


def test_a_tmpfs_is_noexec_unless_exec_was_asked() -> None:
    assert "noexec" in mount_at("/t", None, [MountPoint("tmpfs", "", "/t")]).options
    assert "noexec" not in mount_at("/t", None, [MountPoint("tmpfs", "", "/t", options=("exec",))]).options


def test_a_mount_of_the_users_replaces_one_of_ours() -> None:
    assert mount_at("/etc/hosts", None, [MountPoint("bind", "/mine", "/etc/hosts")]).source == "/mine"


def test_shared_memory_has_the_size_asked_for() -> None:
    assert "size=1048576" in mount_at("/dev/shm", HostConfig(shm_size=1 << 20)).options


@pytest.mark.parametrize("options", [["seccomp"], ["colour=red"], ["no-new-privileges:perhaps"], ["systempaths=some"]])
def test_an_unknown_security_option_is_refused(options: list[str]) -> None:
    with pytest.raises(InvalidParameter, match="invalid --security-opt"):
        specification.security(options)


def test_security_options_have_two_spellings() -> None:
    assert specification.security(["no-new-privileges:true", "seccomp=unconfined", "apparmor:x"]) == specification.Security(
        True, "unconfined", "x"
    )
