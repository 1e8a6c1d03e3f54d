"""A new user's machine: install, use, restart, kill, remove. One virtual machine with systemd for the whole file; its tests follow
one another. `--full` adds an upgrade and the way back, and a reboot."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Images
from tests.rig.commands import run
from tests.rig.engine import ROOT
from tests.rig.traces import EVERYTHING, OBJECTS
from tests.rig.vm import Vm, VmProcess

pytestmark = [pytest.mark.root, pytest.mark.timeout(900), pytest.mark.xdist_group("machine")]

PIP = {name: value for name, value in os.environ.items() if name in ("PIP_CERT", "PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT")}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vm]:
    """Debian 12 with systemd, and nothing of ours but the checkout and the tree of libraries, which is built out here in a tenth of
    the time for the installation to find. (test_own_image.py has an installation that fetches them.)"""
    with Vm(memory_mb=1536, disks=[built_tree(tmp_path_factory.mktemp("tree"))]) as vm:
        vm.files_before = set(vm.run(EVERYTHING, timeout_seconds=120).lines)  # type: ignore[attr-defined]
        vm.objects_before = vm.run(OBJECTS).stdout  # type: ignore[attr-defined]
        vm.run("mount -t squashfs /dev/vdc /mnt && mkdir -p /opt/carrack && cp -a /mnt/. /opt/carrack/ && umount /mnt").ok()
        yield vm


def built_tree(folder: Path) -> Path:
    """What `scripts/install` makes below /opt/carrack, as a file system in a file. /opt is another folder for who makes it."""
    (folder / "opt").mkdir()
    program = "from carrack.setup import tree; tree.build(tree.find_source())"
    script = (
        f'mount --bind {folder}/opt /opt && PYTHONPATH={ROOT}/src PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 -c "{program}"'
    )
    run(["unshare", "--mount", "sh", "-c", script], timeout_seconds=300).ok()
    image = folder / "tree.squashfs"
    run(["mksquashfs", str(folder / "opt/carrack"), str(image), "-noI", "-noD", "-noF", "-no-progress", "-quiet"]).ok()
    return image


@pytest.fixture(scope="module")
def installed(machine: Vm, images: Images) -> Vm:
    """The same machine after `scripts/install`, with busybox:latest."""
    done = machine.run(f"{ROOT}/scripts/install", env=PIP, timeout_seconds=600)
    assert "carrackd runs, now and after each boot." in done.ok()
    machine.run("carrack load", stdin=images.base_archive).ok()
    return machine


@pytest.fixture(scope="module")
def web(installed: Vm) -> Vm:
    """With a container that serves a page."""
    installed.run("carrack run -d --name web --restart unless-stopped -p 8080:80 busybox httpd -f -p 80 -h /var/www").ok()
    page(installed)
    return installed


def page(vm: Vm) -> None:
    assert vm.run("curl -sS --retry 30 --retry-connrefused --retry-delay 1 http://127.0.0.1:8080/").ok() == "it works"


def state(vm: Vm, name: str, field: str) -> str:
    return vm.run(["carrack", "inspect", "-f", f"{{{{.State.{field}}}}}", name]).ok()


def daemon(vm: Vm) -> str:
    return vm.run("systemctl show -p MainPID --value carrackd").ok()


def restarted(vm: Vm, before: str) -> None:
    """Wait until another carrackd answers."""
    script = (
        f'until [ "$(systemctl show -p MainPID --value carrackd)" != {before} ] && carrack version >/dev/null; do sleep 0.2; done'
    )
    vm.run(script, timeout_seconds=120).ok()


def test_a_second_installation_changes_nothing(installed: Vm) -> None:
    before = daemon(installed)
    assert "is installed already; nothing was changed." in installed.run(f"{ROOT}/scripts/install", env=PIP).ok()
    assert daemon(installed) == before


def test_systemd_has_the_service_and_what_outlives_it_apart(web: Vm) -> None:
    assert web.run("systemctl is-active carrackd.service carrackd.socket carrack.scope").ok().split() == ["active"] * 3
    inside = web.run("cat /proc/$(carrack inspect -f {{.State.Pid}} web)/cgroup").ok()
    assert re.fullmatch(r"0::/system\.slice/carrack\.scope/containers/[0-9a-f]{64}", inside), inside
    assert web.run("systemd-cgls --no-pager /system.slice/carrackd.service | grep -c carrack-").text == "0"
    assert "ExecReload" not in web.run("systemctl reload carrackd").stderr
    assert web.run("systemctl is-active carrackd").ok() == "active"
    assert web.run("journalctl -u carrackd --no-pager | grep -c Traceback").text == "0"


@pytest.mark.observes("docker run --cgroup-parent")
def test_a_slice_of_systemds_is_a_parent_that_systemd_keeps(web: Vm) -> None:
    """With the slice's own limit, what the container asked for, also after systemd read its units again; and without a trace."""
    web.put("[Slice]\nMemoryMax=300M\n", "/etc/systemd/system/shop-front.slice")
    web.run("systemctl daemon-reload").ok()
    assert web.run("carrack info -f {{.CgroupDriver}}").ok() == "systemd"
    flags = "--cgroup-parent shop-front.slice --memory 64m --cpu-shares 512 --pids-limit 40"
    identity = web.run(f"carrack run -d --name counter --restart always {flags} busybox sleep 1000").ok()
    place = f"/shop.slice/shop-front.slice/carrack-{identity}.scope"
    group = "cat /proc/$(carrack inspect -f {{.State.Pid}} counter)/cgroup"
    assert web.run(group).ok() == f"0::{place}/container"
    assert web.run("cat /sys/fs/cgroup/shop.slice/shop-front.slice/memory.max").ok() == str(300 << 20)
    web.run("systemctl daemon-reload; systemctl restart carrackd").ok()
    files = " ".join(f"/sys/fs/cgroup/{name}" for name in ("memory.max", "cpu.weight", "pids.max"))
    assert web.run(f"carrack exec counter cat {files}").ok().split() == [str(64 << 20), "59", "40"]
    assert web.run(f"systemctl show -p Delegate,ActiveState carrack-{identity}.scope").ok().split() == [
        "Delegate=yes",
        "ActiveState=active",
    ]
    web.run("carrack restart -t 0 counter").ok()
    assert web.run(group).ok() == f"0::{place}/container"
    web.run("carrack rm -f counter").ok()
    web.run(
        f"while systemctl is-active -q carrack-{identity}.scope || [ -e /sys/fs/cgroup{place} ]; do sleep 0.1; done",
        timeout_seconds=30,
    ).ok()
    assert "invalid slice name: a--b.slice" in web.run("carrack run --rm --cgroup-parent a--b.slice busybox true").stderr
    assert web.run("carrack run --rm --cgroup-parent /plain busybox cat /proc/1/cgroup").ok() == "0::/"
    web.run("rm /etc/systemd/system/shop-front.slice; systemctl daemon-reload; rmdir /sys/fs/cgroup/plain").ok()


def test_the_socket_belongs_to_a_group(web: Vm) -> None:
    web.run("useradd -m in && usermod -aG carrack in && useradd -m out").ok()
    assert "web" in web.run("su in -c 'carrack ps'").ok()
    refused = web.run("su out -c 'carrack ps'")
    assert (refused.code, refused.stderr.count("\n")) == (1, 1), refused
    assert "permission denied while trying to connect" in refused.stderr
    web.run("userdel -r in; userdel -r out; true").ok()


@pytest.mark.parametrize("how", ["systemctl restart carrackd", "systemctl kill -s KILL carrackd"])
def test_a_daemon_comes_and_goes_and_nobody_notices(web: Vm, how: str) -> None:
    pid, before = state(web, "web", "Pid"), daemon(web)
    with web.start("carrack run -it --rm --name term busybox sh", tty=True) as terminal:
        talk(terminal, "one")
        web.run(how).ok()
        page(web)  # whether or not a daemon is there
        talk(terminal, "two")
        restarted(web, before)
        page(web)
        talk(terminal, "three")
        terminal.send("exit 5\n")
        assert terminal.wait(timeout_seconds=60) == 5
    assert state(web, "web", "Pid") == pid


def talk(terminal: VmProcess, word: str) -> None:
    terminal.send(f"echo said-{word}-$((40 + 2))\n")
    terminal.expect(f"said-{word}-42")


@pytest.mark.only_full("minutes in a machine that is emulated")
def test_an_upgrade_and_the_way_back_leave_containers_alone(web: Vm) -> None:
    first, pid = web.run("readlink /opt/carrack/current").ok(), state(web, "web", "Pid")
    web.run(f"mkdir /root/second && cd {ROOT} && cp -r src scripts pyproject.toml uv.lock README.md /root/second/").ok()
    web.run("sed -i 's/__version__ = .*/__version__ = \"0.2.0\"/' /root/second/src/carrack/__init__.py").ok()
    done = web.run("/root/second/scripts/install", env=PIP, timeout_seconds=600)
    assert "is in force (before: " in done.ok()
    assert web.run("carrack version -f '{{.Server.Version}}'").ok().endswith("+carrack0.2.0")
    assert state(web, "web", "Pid") == pid
    page(web)
    web.run("carrack exec web true").ok()
    web.run("carrack system install --rollback").ok()
    assert web.run("readlink /opt/carrack/current").ok() == first
    assert web.run("carrack version -f '{{.Server.Version}}'").ok().endswith("+carrack0.1.0")
    assert state(web, "web", "Pid") == pid
    page(web)


@pytest.mark.only_full("minutes in a machine that is emulated")
def test_a_reboot_ends_containers_as_they_ask_and_begins_those_that_shall_run(web: Vm) -> None:
    trap = "trap 'ping -c 1 -W 2 10.0.2.2 && echo up > /data/net; exit 0' USR1; while :; do sleep 0.1; done"
    web.run(
        ["carrack", "run", "-d", "--name", "orderly", "--stop-signal", "USR1", "-v", "data:/data", "busybox", "sh", "-c", trap]
    ).ok()
    web.run("carrack run -d --name always --restart always busybox sleep 100000 && carrack stop -t 0 always").ok()
    web.run("carrack run -d --name halted --restart unless-stopped busybox sleep 100000 && carrack stop -t 0 halted").ok()
    web.reboot()
    web.run("until carrack version >/dev/null; do sleep 0.2; done", timeout_seconds=120).ok()
    page(web)
    web.run("until [ $(carrack inspect -f {{.State.Status}} always) = running ]; do sleep 0.2; done").ok()
    assert [state(web, name, "Status") for name in ("web", "halted", "orderly")] == ["running", "exited", "exited"]
    assert state(web, "orderly", "ExitCode") == "0"
    assert web.run("carrack run --rm -v data:/data busybox cat /data/net").ok() == "up"


def test_it_is_gone_without_a_trace(web: Vm) -> None:
    web.run("carrack run -d --name kept --stop-timeout 0 -v kept:/v busybox sleep 1000").ok()
    asked = web.run("carrack system uninstall --purge")
    assert (asked.code, "say --yes if that is meant" in asked.stderr) == (1, True), asked
    page(web)
    assert "Carrack is removed." in web.run("carrack system uninstall --purge --yes", timeout_seconds=200).ok()
    assert web.run("systemctl daemon-reload; systemctl is-system-running --wait").text in ("running", "degraded")
    left = set(web.run(EVERYTHING, timeout_seconds=120).lines) - web.files_before  # type: ignore[attr-defined]
    # what Python and the tools for users write for themselves
    assert not {path for path in left if "__pycache__" not in path and not re.fullmatch("/etc/[a-z]+-", path)}
    now = web.run(OBJECTS).stdout.replace("\n1\n", "\n0\n")  # forwarding stays on: others may have begun to need it
    assert now == web.objects_before  # type: ignore[attr-defined]
