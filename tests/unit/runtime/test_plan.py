"""The plan of a container, read without root."""

from __future__ import annotations

import msgspec
import pytest

from carrack.errors import InvalidParameter
from carrack.kernel import mount, process
from carrack.oci.runtime_spec import Device, Linux, Namespace, Process, Root, RuntimeSpec, SpecMount
from carrack.runtime import defaults
from carrack.runtime.cgroups.layout import Hierarchy, Layout
from carrack.runtime.device_steps import MakeDevices, OpenConsole
from carrack.runtime.mount_options import parse
from carrack.runtime.mount_steps import BindCgroups, BindUnified, MountBind, MountFileSystem
from carrack.runtime.plan import Plan, plan
from carrack.runtime.steps import EnterCgroup, EnterRoot, MakeReadonly, MaskPaths, WriteSysctls, sysctl_path

V1 = Layout(1, (Hierarchy(("memory",), "/sys/fs/cgroup/memory"),), "")
V2 = Layout(2, (), "/sys/fs/cgroup")


def spec(**changes: object) -> RuntimeSpec:
    ordinary = RuntimeSpec(
        process=Process(args=("true",)), root=Root("/r"), hostname="box", mounts=defaults.mounts(), linux=defaults.linux()
    )
    return msgspec.structs.replace(ordinary, **changes)


def planned(wanted: RuntimeSpec, layout: Layout = V1) -> Plan:
    return plan(wanted, cgroup_path="/carrack/x", layout=layout)


def linux(**changes: object) -> Linux:
    return msgspec.structs.replace(defaults.linux(), **changes)


def kinds(found: Plan) -> list[type]:
    return [type(step) for step in found.steps]


def test_an_ordinary_container_is_born_into_five_namespaces() -> None:
    assert planned(spec()).clone_flags == (
        process.CLONE_NEWNS | process.CLONE_NEWNET | process.CLONE_NEWUTS | process.CLONE_NEWPID | process.CLONE_NEWIPC
    )


def test_the_cgroup_namespace_is_unshared_after_the_cgroup_was_joined() -> None:
    found = planned(spec(linux=defaults.linux(cgroup_namespace=True)))
    assert EnterCgroup(namespace=True) in found.steps
    assert not found.clone_flags & process.CLONE_NEWCGROUP


def test_the_root_is_entered_last() -> None:
    assert kinds(planned(spec()))[-1] is EnterRoot


def test_paths_are_masked_after_everything_was_mounted_and_before_the_root_is_entered() -> None:
    order = kinds(planned(spec()))
    assert order.index(MaskPaths) > max(place for place, kind in enumerate(order) if kind is MountFileSystem)


def test_parameters_are_written_before_anything_could_be_mounted_over_proc() -> None:
    order = kinds(planned(spec(linux=linux(sysctl={"net.ipv4.ip_forward": "1"}))))
    assert order.index(WriteSysctls) < order.index(MountFileSystem)


def test_a_plan_describes_each_of_its_steps_in_one_line() -> None:
    lines = planned(spec()).describe()
    assert "hostname box" in lines
    assert all(line and "\n" not in line for line in lines)


def test_a_plan_is_a_value_equal_to_its_like() -> None:
    assert planned(spec()) == planned(spec())


def test_binds_are_taken_before_birth_in_the_order_of_the_spec() -> None:
    mounts = (SpecMount("/a", "bind", "/host/a", ("rbind", "ro")), SpecMount("/b", "bind", "/host/b", ("bind",)))
    found = planned(spec(mounts=mounts))
    assert [held.source for held in found.held] == ["/host/a", "/host/b"]
    assert [step.number for step in found.steps if isinstance(step, MountBind)] == [0, 1]


@pytest.mark.parametrize("name", ["net/../kernel/panic", "net.//.kernel.panic", "net.ipv4..x", "net.", "net./.x", "fs.mqueue.//.x"])
def test_a_sysctl_leads_to_no_other_part_by_its_name(name: str) -> None:
    """[CVE-2022-0811]"""
    with pytest.raises(InvalidParameter, match="is not a name"):
        planned(spec(linux=linux(sysctl={name: "1"})))


def test_the_hosts_cgroups_of_version_2_are_seen_whole_but_by_a_root_of_its_own() -> None:
    seen = BindUnified("/sys/fs/cgroup", "/sys/fs/cgroup", parse(("ro", "nosuid", "noexec", "nodev"), "cgroup"))
    assert seen in planned(spec(), V2).steps
    users = linux(namespaces=(*defaults.namespaces(), Namespace("user")))
    own = next(step for step in planned(spec(linux=users), V2).steps if isinstance(step, BindUnified))
    assert own.source == "/sys/fs/cgroup/carrack/x"


def test_cgroups_on_version_1_are_bound_one_by_one() -> None:
    assert BindCgroups in kinds(planned(spec()))


def test_a_read_only_dev_becomes_so_after_its_nodes_were_made() -> None:
    found = planned(spec(mounts=(SpecMount("/dev", "tmpfs", "tmpfs", ("ro", "mode=755")),)))
    order = kinds(found)
    assert order.index(MakeReadonly) > order.index(MakeDevices)
    assert next(step for step in found.steps if isinstance(step, MountFileSystem)).options.attributes == 0


def test_a_dev_bound_from_the_host_gets_no_nodes() -> None:
    assert MakeDevices not in kinds(planned(spec(mounts=(SpecMount("/dev", "bind", "/dev", ("rbind",)),))))


def test_a_terminal_needs_a_console() -> None:
    assert OpenConsole in kinds(planned(spec(process=Process(args=("sh",), terminal=True))))


def test_a_device_is_made_with_its_mode_and_owner() -> None:
    device = Device("c", "/dev/fuse", 10, 229, 0o600, 5, 6)
    found = planned(spec(linux=linux(devices=(device,))))
    nodes = next(step for step in found.steps if isinstance(step, MakeDevices)).nodes
    assert ("/dev/fuse", 0o020600, 10, 229, 5, 6) in nodes


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("kernel.panic", 'sysctl "kernel.panic" is not in a separate kernel namespace'),
        ("vm.swappiness", 'sysctl "vm.swappiness" is not in a separate kernel namespace'),
        ("kernel.hostname", "conflicts with the OCI"),
    ],
)
def test_a_parameter_of_the_whole_host_is_refused(name: str, text: str) -> None:
    with pytest.raises(InvalidParameter, match=text):
        planned(spec(linux=linux(sysctl={name: "1"})))


def test_a_network_parameter_needs_a_network_of_its_own() -> None:
    with pytest.raises(InvalidParameter, match="not allowed in the hosts network namespace"):
        planned(spec(linux=Linux(namespaces=(Namespace("mount"), Namespace("uts")), sysctl={"net.ipv4.ip_forward": "1"})))


def test_a_hostname_needs_a_uts_namespace() -> None:
    with pytest.raises(InvalidParameter, match="unable to set hostname without a private UTS namespace"):
        planned(spec(linux=Linux(namespaces=(Namespace("mount"),))))


def test_a_namespace_cannot_be_named_twice() -> None:
    with pytest.raises(InvalidParameter, match="duplicated ns"):
        planned(spec(linux=Linux(namespaces=(Namespace("mount"), Namespace("mount")))))


def test_the_first_separator_of_a_parameter_is_the_one_that_separates() -> None:
    assert sysctl_path("net.ipv4.conf.eth0/1.rp_filter") == "net/ipv4/conf/eth0.1/rp_filter"
    assert sysctl_path("net/ipv4/ip_forward") == "net/ipv4/ip_forward"


def test_mount_options_are_sorted_by_who_acts_on_them() -> None:
    found = parse(("nosuid", "ro", "strictatime", "mode=755", "rslave", "size=64k"), "tmpfs")
    assert found.attributes == mount.ATTR_NOSUID | mount.ATTR_RDONLY | mount.ATTR_STRICTATIME
    assert found.data == ("ro", "mode=755", "size=64k")
    assert found.propagations == ((mount.MS_SLAVE, True),)


def test_the_later_of_two_contrary_options_counts() -> None:
    found = parse(("rbind", "ro", "rw"), "bind")
    assert (found.attributes, found.cleared) == (0, mount.ATTR_RDONLY)


def test_version_2_without_a_namespace_binds_the_containers_own_directory() -> None:
    assert "cgroup at /sys/fs/cgroup" in planned(spec(), V2).describe()
