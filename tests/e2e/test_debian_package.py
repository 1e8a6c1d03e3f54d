"""The Debian package on a machine with systemd, from apt install to apt purge, and the host's own services beside it: watchdog,
socket activation, ufw, firewalld's kind of rules, systemd-resolved, a dockerd. The tests follow one another."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Images
from tests.rig.commands import run
from tests.rig.engine import ROOT
from tests.rig.traces import EVERYTHING, OBJECTS
from tests.rig.vm import Vm

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(1200),
    pytest.mark.only_full("minutes in a machine that is emulated, and two builds of the package"),
]
DEBIANS = ("ufw", "ucf", "sensible-utils", "systemd-resolved")
"""What a host may have and the machine's image has not."""
CONTAINERS = 20
OUTSIDE = (
    "ip netns add out; ip link add o0 type veth peer name o1 netns out; ip addr add 10.77.0.1/24 dev o0; ip link set o0 up;"
    " ip -n out addr add 10.77.0.2/24 dev o1; ip -n out link set o1 up; ip -n out route add default via 10.77.0.1"
)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made before, by `make_disk`, if CARRACK_TEST_DISK says where: who works on these tests need not wait for the builds."""
    return Path(os.environ.get("CARRACK_TEST_DISK") or make_disk(tmp_path_factory.mktemp("packages")))


def make_disk(folder: Path) -> Path:
    """A file system with two versions of the package, packages of Debian's, and the peer's dockerd."""
    folder.chmod(0o755)
    (folder / "content").mkdir(mode=0o755)
    later = folder / "later"
    later.mkdir()
    names = ("src", "scripts", "pyproject.toml", "uv.lock", "README.md", "CHANGELOG.md")
    run(["cp", "-r", *(str(ROOT / name) for name in names), str(later)]).ok()
    package = later / "src/carrack/__init__.py"
    package.write_text(re.sub(r'__version__ = ".*"', '__version__ = "0.2.0"', package.read_text()))
    for checkout in (ROOT, later):
        run([str(checkout / "scripts/deb"), "--output", str(folder / "content")], timeout_seconds=400).ok()
    subprocess.run(["apt-get", "download", "-qq", *DEBIANS], cwd=folder / "content", check=True)
    run(["cp", "-a", f"{ROOT}/.peer/.", str(folder / "content/peer")]).ok()
    image = folder / "packages.squashfs"
    run(["mksquashfs", str(folder / "content"), str(image), "-noI", "-noD", "-noF", "-no-progress", "-quiet"]).ok()
    return image


@pytest.fixture(scope="module")
def machine(disk: Path) -> Iterator[Vm]:
    with Vm(memory_mb=1536, disks=[disk]) as vm:
        vm.run("mkdir /run/packages && mount -t squashfs /dev/vdc /run/packages").ok()
        vm.run(f"dpkg -i {' '.join(f'/run/packages/{name}_*.deb' for name in DEBIANS)} && {OUTSIDE}", timeout_seconds=200).ok()
        vm.run("systemctl stop systemd-resolved; rm /etc/resolv.conf; echo nameserver 10.0.2.3 > /etc/resolv.conf").ok()
        vm.run("until systemctl is-system-running --wait; do break; done", timeout_seconds=120)
        vm.files_before = set(vm.run(EVERYTHING, timeout_seconds=120).lines)  # type: ignore[attr-defined]
        vm.objects_before = vm.run(OBJECTS).stdout  # type: ignore[attr-defined]
        yield vm


@pytest.fixture(scope="module")
def packaged(machine: Vm, images: Images) -> Vm:
    """After `apt install`, with busybox:latest and a container that serves a page."""
    machine.run(apt("install ./carrack_0.1.0-1_*.deb"), timeout_seconds=300).ok()
    machine.run("carrack load", stdin=images.base_archive).ok()
    machine.run("carrack run -d --name web --restart always -p 8080:80 busybox httpd -f -p 80 -h /var/www").ok()
    reach(machine, "127.0.0.1:8080")
    return machine


def apt(words: str) -> str:
    return f"cd /run/packages && DEBIAN_FRONTEND=noninteractive apt-get -y --no-install-recommends {words}"


def reach(vm: Vm, address: str, prefix: str = "") -> None:
    assert vm.run(f"{prefix} curl -sS -m 20 --retry 10 --retry-connrefused --retry-delay 1 http://{address}/").ok() == "it works"


def reach_from_outside(vm: Vm, port: int = 8080) -> None:
    reach(vm, f"10.77.0.1:{port}", "ip netns exec out")


def is_closed_outside(vm: Vm) -> bool:
    return vm.run("ip netns exec out curl -s -m 2 http://10.77.0.1:8080/").code in (7, 28)


def configure(vm: Vm, text: str) -> None:
    vm.put(text, "/etc/carrack/daemon.json")
    vm.run("systemctl reset-failed carrackd; systemctl restart carrackd", timeout_seconds=120).ok()


def test_the_service_runs_as_debian_expects_it_to(packaged: Vm) -> None:
    assert packaged.run("systemctl is-active carrackd.service carrackd.socket").ok().split() == ["active"] * 2
    assert packaged.run("systemctl is-enabled carrackd.service carrackd.socket").ok().split() == ["enabled"] * 2
    assert packaged.run("systemd-analyze verify --man=no carrackd.service carrackd.socket").ok() == ""
    assert packaged.run("dpkg --verify carrack; dpkg -S /usr/bin/carrack").ok() == "carrack: /usr/bin/carrack"
    refused = packaged.run("carrack system uninstall --purge --yes")
    assert (refused.code, refused.stderr.count("\n")) == (1, 1)
    assert "with apt" in refused.stderr
    assert packaged.run("cat /proc/$(carrack inspect -f {{.State.Pid}} web)/oom_score_adj").ok() == "0", (
        "systemd's for us is not theirs"
    )
    assert packaged.run("carrack exec web cat /proc/self/oom_score_adj").ok() == "0"


def test_the_journal_knows_how_bad_a_line_is(packaged: Vm) -> None:
    lines = packaged.run("journalctl -u carrackd -o cat -p 6..6 --no-pager").ok()
    assert "listens on fd://" in lines
    assert "IPv4 forwarding was off" not in lines
    assert "IPv4 forwarding was off" in packaged.run("journalctl -u carrackd -o cat -p 4 --no-pager").ok()


def test_a_daemon_that_hangs_is_replaced_and_containers_go_on(packaged: Vm) -> None:
    packaged.put("[Service]\nWatchdogSec=8\n", "/etc/systemd/system/carrackd.service.d/soon.conf")
    packaged.run("systemctl daemon-reload && systemctl restart carrackd", timeout_seconds=120).ok()
    pid = packaged.run("carrack inspect -f {{.State.Pid}} web").ok()
    hung = packaged.run("systemctl show -p MainPID --value carrackd").ok()
    packaged.run(f"kill -STOP {hung}").ok()
    reach(packaged, "127.0.0.1:8080")
    another = f'[ "$(systemctl show -p MainPID --value carrackd)" != {hung} ] && carrack version >/dev/null 2>&1'
    packaged.run(f"until {another}; do sleep 0.2; done", timeout_seconds=120).ok()
    assert packaged.run("carrack inspect -f {{.State.Pid}} web").ok() == pid
    journal = packaged.run("journalctl -u carrackd -o cat --no-pager").ok()
    assert "Watchdog timeout" in journal
    assert "most recent call first" in journal, "where it hung"
    packaged.run("rm -r /etc/systemd/system/carrackd.service.d && systemctl daemon-reload").ok()


def test_the_socket_of_systemd_and_tcp_are_served_together(packaged: Vm) -> None:
    packaged.run("carrack system certs --host 10.0.2.15").ok()
    configure(packaged, '{"hosts": ["fd://", "tcp://0.0.0.0:2376"], "tlsverify": true}')
    names = "carrack ps --format '{{.Names}}'"
    tls = "DOCKER_HOST=tcp://10.0.2.15:2376 DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=/etc/carrack/tls/client"
    assert (packaged.run(names).ok(), packaged.run(f"{tls} {names}").ok()) == ("web", "web")
    assert "fd://, tcp://0.0.0.0:2376" in packaged.run("systemctl show -p StatusText carrackd").ok()
    configure(packaged, "{}")


def test_behind_systemd_resolved_containers_ask_the_servers_that_it_asks(packaged: Vm) -> None:
    packaged.run("systemctl start systemd-resolved && ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf").ok()
    assert "nameserver 127.0.0.53" in packaged.run("cat /etc/resolv.conf").ok()
    assert "nameserver 10.0.2.3" in packaged.run("carrack run --rm busybox cat /etc/resolv.conf").ok()
    assert "nameserver 127.0.0.53" in packaged.run("carrack run --rm --network host busybox cat /etc/resolv.conf").ok()
    assert "name servers: those of systemd-resolved" in packaged.run("carrack doctor").stdout
    packaged.run("systemctl stop systemd-resolved; rm /etc/resolv.conf; echo nameserver 10.0.2.3 > /etc/resolv.conf").ok()


def test_ufw_is_obeyed_and_the_doctor_says_how_it_opens(packaged: Vm) -> None:
    reach_from_outside(packaged)
    packaged.run("ufw --force enable", timeout_seconds=120).ok()
    assert is_closed_outside(packaged)
    reach(packaged, "127.0.0.1:8080")
    advice = re.search(r"! +other firewalls: ufw drops .*\n +→ (ufw route allow .*?) \(", packaged.run("carrack doctor").stdout)
    assert advice is not None
    packaged.run(advice[1]).ok()
    reach_from_outside(packaged)
    assert "ok   other firewalls: ufw lets containers' packets through" in packaged.run("carrack doctor").stdout
    packaged.run(
        "ufw --force reset && ufw disable; rm /etc/ufw/*.rules.[0-9]*; iptables -P FORWARD ACCEPT; nft list tables",
        timeout_seconds=120,
    ).ok()
    packaged.run("iptables -F; iptables -X; ip6tables -F; ip6tables -X; ip6tables -P FORWARD ACCEPT").ok()
    reach_from_outside(packaged)


def test_rules_like_firewallds_are_obeyed_and_the_doctor_names_the_zone(packaged: Vm) -> None:
    rules = (
        "add table inet firewalld; add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; };"
        " add rule inet firewalld filter_FORWARD ct state established,related accept;"
        " add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited"
    )
    packaged.run(f"nft '{rules}'").ok()
    assert is_closed_outside(packaged)
    assert "firewall-cmd --permanent --zone=trusted --add-interface=carrack0" in packaged.run("carrack doctor").stdout
    packaged.run("nft 'insert rule inet firewalld filter_FORWARD oifname \"carrack0\" accept'").ok()  # what that command does
    reach_from_outside(packaged)
    assert "ok   other firewalls: firewalld knows" in packaged.run("carrack doctor").stdout
    packaged.run("nft delete table inet firewalld").ok()


def test_a_dockerd_that_comes_later_has_its_networks_and_its_socket(packaged: Vm) -> None:
    env = {"PATH": "/run/packages/peer/usr/sbin:/run/packages/peer/usr/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    with packaged.start("exec dockerd", env=env) as dockerd:
        packaged.run("until curl -s --unix-socket /run/docker.sock http://x/_ping; do sleep 0.5; done", timeout_seconds=120).ok()
        packaged.run("carrack save busybox | docker load", env=env).ok()
        packaged.run("docker run -d --name theirs -p 8081:80 busybox httpd -f -p 80 -h /var/www", env=env, timeout_seconds=120).ok()
        reach_from_outside(packaged, 8081)
        reach_from_outside(packaged)
        packaged.run("docker exec theirs ping -c 1 -W 5 10.77.0.2", env=env).ok()
        packaged.run("carrack exec web ping -c 1 -W 5 10.77.0.2", env=env).ok()
        packaged.put('{"docker-socket": "yes"}', "/etc/carrack/daemon.json")
        assert packaged.run("systemctl restart carrackd", timeout_seconds=120).code == 1
        said = packaged.run("journalctl -u carrackd -p 3 -o cat --no-pager").ok()
        assert "carrackd: cannot listen on /run/docker.sock: another daemon answers there" in said
        configure(packaged, '{"docker-socket": "auto"}')
        assert "answers at /var/run/docker.sock" in packaged.run("carrack doctor").stdout
        packaged.run("docker rm -f theirs", env=env).ok()
        dockerd.signal(15)
        dockerd.wait()
    packaged.run(
        "iptables -P FORWARD ACCEPT; for t in filter nat; do iptables -t $t -F; iptables -t $t -X; done; ip link del docker0"
    ).ok()
    packaged.run("rm -rf /var/lib/docker /var/lib/containerd /etc/docker /run/docker* /run/containerd").ok()


def test_an_upgrade_by_apt_reaches_no_container(packaged: Vm) -> None:
    pid = packaged.run("carrack inspect -f {{.State.Pid}} web").ok()
    with packaged.start("carrack run -it --rm --name term busybox sh", tty=True) as terminal:
        terminal.send("echo said-$((40 + 2))\n")
        terminal.expect("said-42")
        packaged.run(apt("install ./carrack_0.2.0-1_*.deb"), timeout_seconds=300).ok()
        terminal.send("echo said-$((40 + 3))\n")
        terminal.expect("said-43")
        terminal.send("exit 5\n")
        assert terminal.wait(timeout_seconds=60) == 5
    assert packaged.run("carrack version -f '{{.Server.Version}}'").ok().endswith("+carrack0.2.0")
    assert packaged.run("carrack inspect -f {{.State.Pid}} web").ok() == pid
    packaged.run("carrack exec web true").ok()
    assert packaged.run("ls /opt/carrack").text.count("0.") == 1, "the old tree is gone"


def test_at_shutdown_each_of_many_containers_ends_in_its_own_way_while_the_network_is_there(packaged: Vm) -> None:
    trap = "trap 'ping -c 1 -W 5 10.0.2.2 && echo up > /data/$(hostname); exit 0' USR1; echo ready; while :; do sleep 0.1; done"
    for number in range(CONTAINERS):
        words = [
            "--name",
            f"n{number}",
            "--hostname",
            f"n{number}",
            "--stop-signal",
            "USR1",
            "--stop-timeout",
            "60",
            "-v",
            "data:/data",
        ]
        packaged.run(["carrack", "run", "-d", *words, "busybox", "sh", "-c", trap]).ok()
    packaged.run(f"for n in $(seq 0 {CONTAINERS - 1}); do until carrack logs n$n | grep -q ready; do sleep 0.2; done; done").ok()
    packaged.reboot()
    packaged.run("until carrack version >/dev/null; do sleep 0.2; done", timeout_seconds=120).ok()
    codes = packaged.run("carrack inspect -f '{{.State.Status}} {{.State.ExitCode}}' $(carrack ps -aq -f name=n)").ok()
    assert codes.splitlines() == ["exited 0"] * CONTAINERS
    assert packaged.run("carrack run --rm -v data:/data busybox sh -c 'cat /data/* | wc -l'").ok() == str(CONTAINERS)
    reach(packaged, "127.0.0.1:8080")
    packaged.run("mkdir -p /run/packages && mount -t squashfs /dev/vdc /run/packages").ok()
    packaged.run("carrack rm $(carrack ps -aq -f name=n)").ok()


def test_purge_leaves_nothing_but_volumes(packaged: Vm) -> None:
    done = packaged.run(apt("purge carrack"), timeout_seconds=300)
    assert "volumes are kept in /var/lib/carrack/volumes" in done.stderr + done.ok()
    assert packaged.run("find /var/lib/carrack -type f").ok().splitlines().count("/var/lib/carrack/volumes/data/_data/n0") == 1
    packaged.run("rm -r /var/lib/carrack").ok()
    left = set(packaged.run(EVERYTHING, timeout_seconds=120).lines) - packaged.files_before  # type: ignore[attr-defined]
    assert not {path for path in left if "__pycache__" not in path and not re.fullmatch("/etc/[a-z]+-", path)}
    now = packaged.run(OBJECTS).stdout.replace("\n1\n", "\n0\n").replace("o0\n", "")
    assert now == packaged.objects_before.replace("o0\n", "")  # type: ignore[attr-defined]
