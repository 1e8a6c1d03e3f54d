"""Carrack on Debian 12's own kernel (6.1), with cgroup v2 alone, AppArmor and forwarding off: in a virtual machine, for no host of
these tests is like that. Half a minute when the machine's image is there, a minute more to make it."""

from collections.abc import Iterator

import pytest

from tests.conftest import Images
from tests.rig.engine import ROOT
from tests.rig.vm import Vm

pytestmark = [pytest.mark.root, pytest.mark.timeout(400), pytest.mark.xdist_group("machine")]
PROGRAMS = {"PATH": f"{ROOT}/.venv/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


@pytest.fixture(scope="module")
def machine(images: Images) -> Iterator[Vm]:
    """A machine without systemd in which carrackd answers and busybox is loaded."""
    with Vm(systemd=False) as vm:
        with vm.start(["carrackd"], env=PROGRAMS) as daemon:
            vm.run("until carrack version; do sleep 0.1; done", env=PROGRAMS)
            vm.run("carrack load", stdin=images.base_archive, env=PROGRAMS).ok()
            yield vm
            daemon.signal(15)
            assert daemon.wait() == 0, daemon.stderr


def test_the_machine_is_what_it_is_for(machine: Vm) -> None:
    assert machine.run("stat -fc %T /sys/fs/cgroup").ok() == "cgroup2fs"
    assert machine.run("cat /sys/module/apparmor/parameters/enabled").ok() == "Y"
    assert machine.run("uname -r").ok().startswith("6.1.")


def test_a_command_inside_has_an_exit_code_both_streams_and_its_input(machine: Vm) -> None:
    done = machine.run("cat; echo wrong >&2; exit 3", stdin="given")
    assert (done.code, done.stdout, done.stderr) == (3, "given", "wrong\n")


def test_two_commands_run_at_once_and_one_may_be_talked_to(machine: Vm) -> None:
    with machine.start("stty size; read line; echo got $line", tty=True) as first:
        first.expect(r"\d+ \d+")
        assert machine.run("echo second").ok() == "second"
        first.send("this\n")
        first.expect("got this")
        assert first.wait() == 0


@pytest.mark.observes("docker run --memory", "docker run --cpus", "docker run --pids-limit")
def test_a_container_on_an_older_kernel_has_its_layers_and_its_limits(machine: Vm) -> None:
    look = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max /sys/fs/cgroup/pids.max /var/www/index.html"
    words = f"carrack run --rm -m 64m --cpus 0.5 --pids-limit 50 busybox sh -c '{look}'"
    assert machine.run(words, env=PROGRAMS).ok().split("\n") == ["67108864", "50000 100000", "50", "it works"]


@pytest.mark.observes("docker run --publish")
def test_a_published_port_answers_where_forwarding_was_off(machine: Vm) -> None:
    machine.run("carrack run -d --name web -p 8080:80 busybox httpd -f -p 80 -h /var/www", env=PROGRAMS).ok()
    assert machine.run("curl -sS --retry 20 --retry-connrefused --retry-delay 0 http://127.0.0.1:8080/").ok() == "it works"
    machine.run("carrack rm -f web", env=PROGRAMS).ok()
    assert machine.run("ls /sys/fs/cgroup/carrack | grep -E '^[0-9a-f]{16}'").code == 1
