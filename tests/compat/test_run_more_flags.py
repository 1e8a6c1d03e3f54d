"""The less common flags of `run`, each by its effect inside the container or in the kernel."""

import os
import re
from functools import partial
from pathlib import Path

import pytest

from tests.rig.engine import CommandLine
from tests.rig.waiting import until

pytestmark = pytest.mark.both_clients
CGROUPS = "/sys/fs/cgroup"
UNIFIED = Path(f"{CGROUPS}/cgroup.controllers").exists()


def cgroup_value(cli: CommandLine, v1: str, v2: str, *flags: str) -> str:
    """What a control file says inside the container, on whichever version the host has."""
    return cli.shell(f"cat /sys/fs/cgroup/{v1} /sys/fs/cgroup/{v2} 2>/dev/null || true", *flags).ok()


def has_no_part(folder: Path) -> bool:
    """Whether no cgroup is below this one."""
    return not any(each.is_dir() for each in folder.iterdir())


@pytest.mark.observes("docker run --add-host")
def test_add_host_stands_in_hosts(cli: CommandLine) -> None:
    assert "10.1.2.3\tdb" in cli.shell("cat /etc/hosts", "--add-host", "db:10.1.2.3").ok()


@pytest.mark.observes("docker run --add-host")
def test_host_gateway_is_the_bridges_address(cli: CommandLine) -> None:
    rows = cli.shell("grep outside /etc/hosts; ip route", "--add-host", "outside:host-gateway").ok()
    gateway = re.search(r"default via (\S+)", rows)
    assert gateway is not None
    assert f"{gateway[1]}\toutside" in rows


@pytest.mark.observes("docker run --dns", "docker run --dns-search", "docker run --dns-option")
def test_dns_settings_stand_in_resolv_conf(cli: CommandLine) -> None:
    flags = ("--dns", "192.0.2.53", "--dns-search", "example.org", "--dns-option", "ndots:3")
    rows = cli.shell("cat /etc/resolv.conf", *flags).ok().splitlines()
    assert "nameserver 192.0.2.53" in rows
    assert "search example.org" in rows
    assert "options ndots:3" in rows


@pytest.mark.observes("docker run --tmpfs")
def test_tmpfs_is_mounted_with_its_options(cli: CommandLine) -> None:
    row = cli.shell("grep ' /scratch ' /proc/mounts", "--tmpfs", "/scratch:rw,size=1m,mode=700").ok().split()
    assert row[2] == "tmpfs"
    assert {"size=1024k", "mode=700", "nosuid", "nodev", "noexec"} <= set(row[3].split(","))


@pytest.mark.observes("docker run --shm-size")
def test_shm_size_bounds_dev_shm(cli: CommandLine) -> None:
    assert "size=8192k" in cli.shell("grep ' /dev/shm ' /proc/mounts", "--shm-size", "8m").ok()


@pytest.mark.observes("docker run --ulimit")
def test_ulimit_sets_soft_and_hard(cli: CommandLine) -> None:
    assert cli.shell("ulimit -Sn; ulimit -Hn", "--ulimit", "nofile=100:200").ok().split() == ["100", "200"]


@pytest.mark.observes("docker run --sysctl")
def test_sysctl_is_set_in_the_containers_namespace_only(cli: CommandLine) -> None:
    path = "/proc/sys/net/ipv4/ip_default_ttl"
    assert cli.shell(f"cat {path}", "--sysctl", "net.ipv4.ip_default_ttl=77").ok() == "77"
    assert Path(path).read_text().strip() != "77"


@pytest.mark.observes("docker run --sysctl")
def test_a_sysctl_of_the_host_is_refused(cli: CommandLine) -> None:
    ended = cli("run", "--rm", "--sysctl", "kernel.panic=1", "busybox", "true")
    assert ended.code == 125
    assert "kernel.panic" in ended.stderr


@pytest.mark.observes("docker run --init")
def test_init_is_process_one_and_reaps(cli: CommandLine) -> None:
    script = "cat /proc/1/comm; sh -c 'sleep 0.1 & exit 0'; sleep 0.4; ps -o stat | grep -c ^Z || true"
    comm, zombies = cli.shell(script, "--init").ok().split()
    assert comm != "sh"
    assert zombies == "0"


@pytest.mark.observes("docker run --cpuset-cpus")
def test_cpuset_cpus_binds_to_a_cpu(cli: CommandLine) -> None:
    assert cli.shell("grep Cpus_allowed_list /proc/self/status", "--cpuset-cpus", "0").ok().split()[1] == "0"


@pytest.mark.observes("docker run --cpu-shares")
def test_cpu_shares_weigh(cli: CommandLine) -> None:
    assert cgroup_value(cli, "cpu/cpu.shares", "cpu.weight", "--cpu-shares", "512") in {"512", "20", "59"}


@pytest.mark.observes("docker run --cpu-period", "docker run --cpu-quota")
def test_cpu_period_and_quota_are_the_schedulers(cli: CommandLine) -> None:
    flags = ("--cpu-period", "50000", "--cpu-quota", "20000")
    assert cgroup_value(cli, "cpu/cpu.cfs_quota_us", "cpu.max", *flags) in {"20000", "20000 50000"}


@pytest.mark.observes("docker run --memory-reservation")
def test_memory_reservation_is_the_soft_limit(cli: CommandLine) -> None:
    flags = ("--memory", "64m", "--memory-reservation", "32m")
    assert cgroup_value(cli, "memory/memory.soft_limit_in_bytes", "memory.low", *flags) == str(32 << 20)


@pytest.mark.observes("docker run --oom-score-adj")
def test_oom_score_adj_is_the_processes(cli: CommandLine) -> None:
    assert cli.shell("cat /proc/self/oom_score_adj", "--oom-score-adj", "500").ok() == "500"


@pytest.mark.observes("docker run --group-add")
def test_group_add_adds_groups_by_name_and_number(cli: CommandLine) -> None:
    assert set(cli.shell("id -G", "-u", "app", "--group-add", "tty", "--group-add", "4321").ok().split()) >= {"1000", "5", "4321"}


@pytest.mark.observes("docker run --device")
def test_device_gives_a_device_of_the_host(cli: CommandLine) -> None:
    script = "head -c 4 /dev/mine | wc -c; ls -l /dev/mine"
    seen = cli.shell(script, "--device", "/dev/zero:/dev/mine:r").ok()
    assert seen.startswith("4\n")
    assert re.search(r"1,\s+5", seen)


@pytest.mark.observes("docker run --device-cgroup-rule")
def test_a_device_cgroup_rule_opens_what_mknod_made(cli: CommandLine) -> None:
    """No driver has 240:9, so an opening that is allowed finds nothing (ENXIO), and one that is not allowed is refused (EPERM)."""
    script = "mknod /other c 240 9 && head -c 1 /other"
    assert "Operation not permitted" in cli.shell(script).stderr
    assert "No such device or address" in cli.shell(script, "--device-cgroup-rule", "c 240:9 r").stderr


@pytest.mark.observes("docker run --security-opt")
def test_no_new_privileges_is_the_kernels_flag(cli: CommandLine) -> None:
    script = "grep NoNewPrivs /proc/self/status"
    assert cli.shell(script).ok().split()[1] == "0"
    assert cli.shell(script, "--security-opt", "no-new-privileges").ok().split()[1] == "1"


@pytest.mark.observes("docker run --security-opt")
def test_seccomp_can_be_switched_off_or_replaced(cli: CommandLine, tmp_path: Path) -> None:
    script = "grep Seccomp: /proc/self/status; mkdir /made && echo made"
    off = cli.shell(script, "--security-opt", "seccomp=unconfined").ok().split()
    assert off == ["Seccomp:", "0", "made"]
    profile = tmp_path / "profile.json"
    profile.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}'
    )
    replaced = cli.shell(script, "--security-opt", f"seccomp={profile}")
    assert "made" not in replaced.stdout
    assert "Operation not permitted" in replaced.stderr


@pytest.mark.observes("docker run --security-opt")
def test_systempaths_unconfined_unmasks(cli: CommandLine) -> None:
    script = "grep -c -e ' /proc/sys ' -e ' /proc/kcore ' -e ' /sys/firmware ' /proc/mounts || true"
    assert cli.shell(script).ok() != "0"
    assert cli.shell(script, "--security-opt", "systempaths=unconfined").ok() == "0"


@pytest.mark.observes("docker run --pid", "docker run --ipc", "docker run --uts")
@pytest.mark.parametrize("namespace", ["pid", "ipc", "uts"])
def test_a_namespace_of_the_host_can_be_asked_for(cli: CommandLine, namespace: str) -> None:
    inside = cli.shell(f"readlink /proc/self/ns/{namespace}", f"--{namespace}", "host").ok()
    assert inside == os.readlink(f"/proc/self/ns/{namespace}")


@pytest.mark.observes("docker run --pid", "docker run --ipc", "docker run --network")
def test_namespaces_of_another_container_can_be_joined(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "owner", "--ipc", "shareable", "busybox", "sleep", "1000")
    script = "for n in pid ipc net; do readlink /proc/self/ns/$n; done"
    flags = ("--pid", "container:owner", "--ipc", "container:owner", "--network", "container:owner")
    assert cli.shell(script, *flags).ok() == cli.ok("exec", "owner", "sh", "-c", script)


@pytest.mark.observes("docker run --cidfile")
def test_cidfile_gets_the_id(cli: CommandLine, tmp_path: Path) -> None:
    container_id = cli.ok("run", "-d", "--cidfile", str(tmp_path / "cid"), "busybox", "true")
    assert (tmp_path / "cid").read_text() == container_id
    again = cli("run", "--cidfile", str(tmp_path / "cid"), "busybox", "true")
    assert again.code == 125
    assert "container ID file found" in again.stderr


@pytest.mark.observes("docker run --env-file", "docker run --label-file")
def test_env_and_labels_come_from_files(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# a comment\nONE=1\nTWO=with spaces\n\n")
    (tmp_path / "labels").write_text("mark=here\n")
    flags = ("--env-file", str(tmp_path / "env"), "--label-file", str(tmp_path / "labels"))
    cli.ok("run", "-d", "--name", "filed", *flags, "busybox", "sleep", "1000")
    assert cli.ok("exec", "filed", "sh", "-c", 'echo "$ONE $TWO"') == "1 with spaces"
    assert cli.ok("ps", "--filter", "label=mark=here", "--format", "{{.Names}}") == "filed"


@pytest.mark.observes("docker run --mount")
def test_mount_takes_binds_volumes_and_tmpfs(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("bound")
    mounts = [f"type=bind,source={tmp_path},target=/b,readonly", "type=volume,source=vol,target=/v"]
    mounts.append("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770")
    flags = [word for mount in mounts for word in ("--mount", mount)]
    seen = cli.shell("cat /b/given; echo; touch /v/x && ls /v; touch /b/x; grep ' /t ' /proc/mounts", *flags)
    assert seen.lines[:2] == ["bound", "x"]
    assert "Read-only file system" in seen.stderr
    assert "size=1024k" in seen.stdout
    assert cli.ok("volume", "ls", "-q") == "vol"


@pytest.mark.observes("docker run --volumes-from")
def test_volumes_from_shares_another_containers_volumes(cli: CommandLine, tmp_path: Path) -> None:
    cli.ok("run", "--name", "source", "-v", "/data", "-v", f"{tmp_path}:/bound", "busybox", "sh", "-c", "echo shared > /data/f")
    assert cli.shell("cat /data/f; grep -c ' /bound ' /proc/mounts", "--volumes-from", "source").ok().split() == ["shared", "1"]
    ended = cli.shell("touch /data/x", "--volumes-from", "source:ro")
    assert "Read-only file system" in ended.stderr


@pytest.mark.observes("POST /containers/create")
def test_a_mac_address_may_be_chosen(cli: CommandLine) -> None:
    """By the API: the docker command line offers --mac-address only from API 1.44 on."""
    wish = {"Image": "busybox", "Cmd": ["cat", "/sys/class/net/eth0/address"], "MacAddress": "02:42:ac:aa:bb:cc"}
    container_id = cli.engine.api("POST", "/v1.41/containers/create", wish).json["Id"]
    assert cli.ok("start", "-a", container_id) == "02:42:ac:aa:bb:cc"


@pytest.mark.observes("docker run --stop-timeout")
def test_stop_timeout_is_how_long_stop_waits(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "deaf", "--stop-timeout", "1", "busybox", "sleep", "1000")
    cli.ok("stop", "deaf", timeout_seconds=7)
    assert cli.ok("inspect", "-f", "{{.State.ExitCode}}", "deaf") == "137"


@pytest.mark.observes(
    "docker run --health-cmd", "docker run --health-interval", "docker run --health-retries", "docker run --health-timeout"
)
def test_a_health_check_finds_health_and_sickness(cli: CommandLine) -> None:
    flags = ("--health-cmd", "test -e /well", "--health-interval", "100ms", "--health-retries", "2", "--health-timeout", "1s")
    cli.ok("run", "-d", "--name", "patient", *flags, "busybox", "sh", "-c", "touch /well; exec sleep 1000")
    form = "{{.State.Health.Status}}"
    until(lambda: cli.ok("inspect", "-f", form, "patient") == "healthy", "health")
    cli.ok("exec", "patient", "rm", "/well")
    until(lambda: cli.ok("inspect", "-f", form, "patient") == "unhealthy", "sickness")
    assert "(unhealthy)" in cli.ok("ps", "--format", "{{.Status}}")


@pytest.mark.observes("docker run --no-healthcheck")
def test_no_healthcheck_switches_it_off(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "plain", "--no-healthcheck", "busybox", "sleep", "1000")
    assert cli.ok("inspect", "-f", "{{.Config.Healthcheck.Test}}", "plain") == "[NONE]"
    assert cli.ok("ps", "--format", "{{.Status}}").endswith(("second", "seconds", "minute"))


@pytest.mark.observes("docker run --cgroup-parent")
def test_cgroup_parent_is_where_the_container_is(cli: CommandLine) -> None:
    parent = f"/ct-parent-{os.getpid()}"
    cli.ok("run", "-d", "--name", "child", "--cgroup-parent", parent, "busybox", "sleep", "1000")
    pid = cli.ok("inspect", "-f", "{{.State.Pid}}", "child")
    try:
        assert f":{parent}/" in Path(f"/proc/{pid}/cgroup").read_text()
    finally:
        cli.ok("rm", "-f", "child")
        for folder in [Path(CGROUPS + parent), *Path(CGROUPS).glob(f"*{parent}")]:
            if folder.exists():
                until(partial(has_no_part, folder), "the end of the child's cgroup")
                folder.rmdir()


@pytest.mark.observes("docker run --cgroupns")
def test_a_cgroup_namespace_of_its_own_hides_the_hosts_tree(cli: CommandLine) -> None:
    rows = cli.shell("cat /proc/self/cgroup", "--cgroupns", "private").ok().splitlines()
    assert {row.rsplit(":", 1)[1] for row in rows} == {"/"}
    assert cli.shell("cat /proc/self/cgroup", "--cgroupns", "host").ok() != "\n".join(rows)
    if UNIFIED:  # where /proc/self/cgroup says, a program looks
        look = f"cat {CGROUPS}$(cut -d: -f3 /proc/self/cgroup)/pids.max"
        assert cli.shell(look, "--cgroupns", "host", "--pids-limit", "33").ok() == "33"


@pytest.mark.observes("docker run --cgroupns", "docker run --privileged")
def test_a_privileged_container_has_cgroups_of_its_own_where_the_machine_keeps_them_apart(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "strong", "--privileged", "busybox", "sleep", "1000")
    assert cli.ok("inspect", "-f", "{{.HostConfig.CgroupnsMode}}", "strong") == ("private" if UNIFIED else "host")
    place = CGROUPS if UNIFIED else f"{CGROUPS}/pids"
    script = f"mkdir {place}/part && echo 30 > {place}/part/pids.max; cat {place}/part/pids.max"
    if UNIFIED:  # no process beside parts that have limits: what systemd inside does as well
        script = (
            f"mkdir {CGROUPS}/init; echo 1 > {CGROUPS}/init/cgroup.procs; echo +pids > {CGROUPS}/cgroup.subtree_control; {script}"
        )
    cli.ok("run", "-d", "--name", "divided", "--privileged", "busybox", "sh", "-c", f"{script}; sleep 1000")
    until(lambda: cli("logs", "divided").stdout, "its word")
    assert cli.ok("logs", "divided") == "30"
    # its processes are no longer where an exec would be born
    assert cli.ok("exec", "divided", "cat", "/proc/self/cgroup").splitlines()[-1].endswith("/init" if UNIFIED else "")


@pytest.mark.peer_lacks("Docker 28.0")
@pytest.mark.observes("docker run --security-opt")
def test_writable_cgroups_let_an_ordinary_container_divide_its_own(cli: CommandLine) -> None:
    place = CGROUPS if UNIFIED else f"{CGROUPS}/pids"
    make = f"mkdir {place}/part && echo 7 > {place}/part/pids.max && cat {place}/part/pids.max"
    if UNIFIED:
        make = f"mkdir {CGROUPS}/init; echo 1 > {CGROUPS}/init/cgroup.procs; echo +pids > {CGROUPS}/cgroup.subtree_control; {make}"
    for word in ("writable-cgroups=true", "writable-cgroups=1"):
        assert cli.shell(make, "--security-opt", word, "--cgroupns", "private").ok() == "7"
    for flags in ((), ("--security-opt", "writable-cgroups=false")):
        assert "Read-only file system" in cli.shell(make, *flags).stderr
    refused = cli.shell(make, "--security-opt", "writable-cgroups=perhaps")
    assert 'invalid --security-opt 2: "writable-cgroups=perhaps"' in refused.stderr


@pytest.mark.observes("docker run --domainname")
def test_domainname_follows_the_hostname(cli: CommandLine) -> None:
    flags = ("--hostname", "ship", "--domainname", "example.org")
    seen = cli.shell("cat /proc/sys/kernel/domainname; grep ship /etc/hosts", *flags).ok()
    assert "example.org" in seen
    assert "ship.example.org ship" in seen.replace("\t", " ")


@pytest.mark.docker_since(23)  # the older one names the network `default`, which makes it one of the user's own
@pytest.mark.observes("docker run --ip")
def test_an_address_may_be_chosen_only_on_networks_of_ones_own(cli: CommandLine) -> None:
    ended = cli("run", "--rm", "--ip", "10.9.9.9", "busybox", "true")
    assert ended.code == 125
    assert "specified IP address is supported on user" in ended.stderr


@pytest.mark.docker_since(28)
@pytest.mark.observes("docker run --quiet", "docker run --pull")
def test_pull_never_and_quiet_run_what_is_there(cli: CommandLine) -> None:
    assert cli.ok("run", "--rm", "-q", "--pull", "never", "busybox", "echo", "here") == "here"


@pytest.mark.observes("docker run --memory-swap")
def test_memory_swap_below_memory_is_refused(cli: CommandLine) -> None:
    ended = cli("run", "--rm", "--memory", "64m", "--memory-swap", "32m", "busybox", "true")
    assert ended.code == 125
    assert "Minimum memoryswap limit should be larger than memory limit" in ended.stderr


@pytest.mark.observes("docker run --expose")
def test_expose_is_told_in_ps(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--expose", "7000", "busybox", "sleep", "1000")
    assert cli.ok("ps", "--format", "{{.Ports}}") == "7000/tcp"


@pytest.mark.observes("docker run --detach-keys")
def test_run_detach_keys_can_be_chosen(cli: CommandLine) -> None:
    with cli.terminal("run", "-it", "--name", "shell", "--detach-keys", "ctrl-a,d", "busybox", "sh") as screen:
        screen.expect("#")
        screen.send("\x01d")
        assert screen.wait() == 0
    assert cli.ok("ps", "--format", "{{.Names}}") == "shell"


@pytest.mark.peer_lacks("Docker 29.8")
@pytest.mark.observes("POST /containers/create")
def test_umask_is_that_of_the_program_of_execs_and_of_health_checks(cli: CommandLine) -> None:
    engine = cli.engine
    script = "umask > /tmp/health"
    health = {"Test": ["CMD-SHELL", script], "Interval": 10**9, "StartPeriod": 0}

    def made(umask: int | None, version: str = "") -> str:
        host = {} if umask is None else {"Umask": umask}
        body = {
            "Image": "busybox",
            "User": "1000",
            "Cmd": ["sh", "-c", "umask; sleep 1000"],
            "HostConfig": host,
            "Healthcheck": health,
        }
        container: str = engine.api("POST", f"{version}/containers/create", body).json["Id"]
        assert engine.api("POST", f"/containers/{container}/start").status == 204
        return container

    for umask, seen in ((0o77, "0077"), (0, "0000"), (None, "0022")):
        container = made(umask)
        until(lambda container=container: cli("logs", container).stdout.strip(), "its word")  # type: ignore[misc]
        assert cli.ok("logs", container) == seen
        assert cli.ok("exec", "-u", "0", container, "sh", "-c", "umask") == seen
        until(lambda container=container: cli("exec", container, "cat", "/tmp/health").stdout.strip(), "a check")  # type: ignore[misc]
        assert cli.ok("exec", "-u", "0", container, "cat", "/tmp/health") == seen
        shown = engine.api("GET", f"/containers/{container}/json").json["HostConfig"]
        assert shown.get("Umask") == umask
        assert "Umask" not in engine.api("GET", f"/v1.55/containers/{container}/json").json["HostConfig"]
    assert cli.ok("exec", made(0o77, "/v1.55"), "sh", "-c", "umask") == "0022"
    refused = engine.api("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"Umask": -1}})
    assert refused.status == 400
