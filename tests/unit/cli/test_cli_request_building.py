"""Each flag of `run` and where it arrives in the request. (tests/compat compares whole requests with Docker's own.)"""

import shlex
from typing import Any

import pytest

from carrack.cli.catalogue import load
from carrack.cli.containers.spec import build_spec

EFFECTS = {
    "--add-host a:1.2.3.4": ("HostConfig.ExtraHosts", ["a:1.2.3.4"]),
    "--annotation a=b": ("HostConfig.Annotations", {"a": "b"}),
    "--attach stdin": ("AttachStdout", False),
    "--blkio-weight 100": ("HostConfig.BlkioWeight", 100),
    "--blkio-weight-device /dev/sda:200": ("HostConfig.BlkioWeightDevice", [{"Path": "/dev/sda", "Weight": 200}]),
    "--cap-add net_admin": ("HostConfig.CapAdd", ["CAP_NET_ADMIN"]),
    "--cap-drop all": ("HostConfig.CapDrop", ["ALL"]),
    "--cgroup-parent /x": ("HostConfig.CgroupParent", "/x"),
    "--cgroupns host": ("HostConfig.CgroupnsMode", "host"),
    "--cidfile /x": ("HostConfig.ContainerIDFile", "/x"),
    "--cpu-count 2": ("HostConfig.CpuCount", 2),
    "--cpu-percent 5": ("HostConfig.CpuPercent", 5),
    "--cpu-period 9": ("HostConfig.CpuPeriod", 9),
    "--cpu-quota 8": ("HostConfig.CpuQuota", 8),
    "--cpu-rt-period 7": ("HostConfig.CpuRealtimePeriod", 7),
    "--cpu-rt-runtime 6": ("HostConfig.CpuRealtimeRuntime", 6),
    "--cpu-shares 5": ("HostConfig.CpuShares", 5),
    "--cpus 1.5": ("HostConfig.NanoCpus", 1500000000),
    "--cpuset-cpus 0": ("HostConfig.CpusetCpus", "0"),
    "--cpuset-mems 1": ("HostConfig.CpusetMems", "1"),
    "--device /dev/null:r": (
        "HostConfig.Devices",
        [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/null", "CgroupPermissions": "r"}],
    ),
    "--device-cgroup-rule 'c 1:3 r'": ("HostConfig.DeviceCgroupRules", ["c 1:3 r"]),
    "--device-read-bps /dev/a:1k": ("HostConfig.BlkioDeviceReadBps", [{"Path": "/dev/a", "Rate": 1024}]),
    "--device-read-iops /dev/a:1": ("HostConfig.BlkioDeviceReadIOps", [{"Path": "/dev/a", "Rate": 1}]),
    "--device-write-bps /dev/a:1m": ("HostConfig.BlkioDeviceWriteBps", [{"Path": "/dev/a", "Rate": 1 << 20}]),
    "--device-write-iops /dev/a:2": ("HostConfig.BlkioDeviceWriteIOps", [{"Path": "/dev/a", "Rate": 2}]),
    "--dns ::1": ("HostConfig.Dns", ["::1"]),
    "--dns-option x": ("HostConfig.DnsOptions", ["x"]),
    "--dns-search example.com": ("HostConfig.DnsSearch", ["example.com"]),
    "--domainname d": ("Domainname", "d"),
    "--entrypoint ''": ("Entrypoint", [""]),
    "--env A=b": ("Env", ["A=b"]),
    "--expose 5": ("ExposedPorts", {"5/tcp": {}}),
    "--gpus all": ("HostConfig.DeviceRequests.0.Count", -1),
    "--group-add g": ("HostConfig.GroupAdd", ["g"]),
    "--health-cmd x": ("Healthcheck.Test", ["CMD-SHELL", "x"]),
    "--health-interval 1s": ("Healthcheck.Interval", 10**9),
    "--health-retries 2": ("Healthcheck.Retries", 2),
    "--health-start-interval 1s": ("Healthcheck.StartInterval", 10**9),
    "--health-start-period 1s": ("Healthcheck.StartPeriod", 10**9),
    "--health-timeout 1s": ("Healthcheck.Timeout", 10**9),
    "--hostname h": ("Hostname", "h"),
    "--init": ("HostConfig.Init", True),
    "--interactive": ("StdinOnce", True),
    "--io-maxbandwidth 1k": ("HostConfig.IOMaximumBandwidth", 1024),
    "--io-maxiops 5": ("HostConfig.IOMaximumIOps", 5),
    "--ip 1.2.3.4 --network n": ("NetworkingConfig.EndpointsConfig.n.IPAMConfig", {"IPv4Address": "1.2.3.4"}),
    "--ip6 ::1 --network n": ("NetworkingConfig.EndpointsConfig.n.IPAMConfig", {"IPv6Address": "::1"}),
    "--ipc host": ("HostConfig.IpcMode", "host"),
    "--isolation x": ("HostConfig.Isolation", "x"),
    "--kernel-memory 5m": ("HostConfig.KernelMemory", 5 << 20),
    "--label a=b": ("Labels", {"a": "b"}),
    "--link a:b": ("HostConfig.Links", ["a:b"]),
    "--link-local-ip 1.1.1.1 --network n": ("NetworkingConfig.EndpointsConfig.n.IPAMConfig.LinkLocalIPs", ["1.1.1.1"]),
    "--log-driver x": ("HostConfig.LogConfig.Type", "x"),
    "--log-opt a=b": ("HostConfig.LogConfig.Config", {"a": "b"}),
    "--mac-address 92:d0:c6:0a:29:33": ("MacAddress", "92:d0:c6:0a:29:33"),
    "--memory 1g": ("HostConfig.Memory", 1 << 30),
    "--memory-reservation 1m": ("HostConfig.MemoryReservation", 1 << 20),
    "--memory-swap -1": ("HostConfig.MemorySwap", -1),
    "--memory-swappiness 5": ("HostConfig.MemorySwappiness", 5),
    "--mount type=tmpfs,dst=/t": ("HostConfig.Mounts", [{"Type": "tmpfs", "Target": "/t"}]),
    "--network host": ("HostConfig.NetworkMode", "host"),
    "--network-alias a --network n": ("NetworkingConfig.EndpointsConfig.n.Aliases", ["a"]),
    "--no-healthcheck": ("Healthcheck", {"Test": ["NONE"]}),
    "--oom-kill-disable": ("HostConfig.OomKillDisable", True),
    "--oom-score-adj 5": ("HostConfig.OomScoreAdj", 5),
    "--pid host": ("HostConfig.PidMode", "host"),
    "--pids-limit 5": ("HostConfig.PidsLimit", 5),
    "--privileged": ("HostConfig.Privileged", True),
    "--publish 1:2": ("HostConfig.PortBindings", {"2/tcp": [{"HostIp": "", "HostPort": "1"}]}),
    "--publish-all": ("HostConfig.PublishAllPorts", True),
    "--read-only": ("HostConfig.ReadonlyRootfs", True),
    "--restart on-failure:3": ("HostConfig.RestartPolicy", {"Name": "on-failure", "MaximumRetryCount": 3}),
    "--rm": ("HostConfig.AutoRemove", True),
    "--runtime r": ("HostConfig.Runtime", "r"),
    "--security-opt no-new-privileges": ("HostConfig.SecurityOpt", ["no-new-privileges"]),
    "--shm-size 1m": ("HostConfig.ShmSize", 1 << 20),
    "--stop-signal INT": ("StopSignal", "INT"),
    "--stop-timeout 0": ("StopTimeout", 0),
    "--storage-opt a=b": ("HostConfig.StorageOpt", {"a": "b"}),
    "--sysctl net.a=1": ("HostConfig.Sysctls", {"net.a": "1"}),
    "--tmpfs /t:size=1m": ("HostConfig.Tmpfs", {"/t": "size=1m"}),
    "--tty": ("Tty", True),
    "--ulimit core=1": ("HostConfig.Ulimits", [{"Name": "core", "Soft": 1, "Hard": 1}]),
    "--user u": ("User", "u"),
    "--userns host": ("HostConfig.UsernsMode", "host"),
    "--uts host": ("HostConfig.UTSMode", "host"),
    "--volume /a:/b": ("HostConfig.Binds", ["/a:/b"]),
    "--volume-driver d": ("HostConfig.VolumeDriver", "d"),
    "--volumes-from c": ("HostConfig.VolumesFrom", ["c"]),
    "--workdir /w": ("WorkingDir", "/w"),
}

ELSEWHERE = set(
    "detach detach-keys sig-proxy name platform pull quiet use-api-socket disable-content-trust env-file label-file explain".split()
)
"""Flags that do not land in the body: tests/compat sees their effect."""


def reach(document: Any, path: str) -> Any:
    for part in path.split("."):
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


@pytest.mark.parametrize("flags", EFFECTS)
def test_a_flag_arrives_where_the_api_has_it(flags: str) -> None:
    command = load("container run")
    document = build_spec(command.parse([*shlex.split(flags), "image", "cmd"], "run")).document()
    path, expected = EFFECTS[flags]
    assert reach(document, path) == expected


def test_every_flag_of_run_is_accounted_for() -> None:
    named = {word.removeprefix("--") for flags in EFFECTS for word in shlex.split(flags) if word.startswith("--")}
    visible = {name for name, flag in load("container run").flags.items() if not flag.hidden}
    assert visible - named - ELSEWHERE == set()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--rm --restart always", "conflicting options: cannot specify both --restart and --rm"),
        ("--memory-swappiness 101", "invalid value: 101. Valid memory swappiness range is 0-100"),
        ("--no-healthcheck --health-cmd x", "--no-healthcheck conflicts with --health-* options"),
        ("--health-interval=-1s", "--health-interval cannot be negative"),
        ("--pid x", "--pid: invalid PID mode"),
        ("--log-driver none --log-opt a=b", "invalid logging opts for driver none"),
        ("--network a --network bridge", "conflicting options: cannot attach both user-defined and non-user-defined network-modes"),
        ("--network a --network a", 'network "a" is specified multiple times'),
        ("--network-alias x", "network-scoped aliases are only supported for user-defined networks"),
        ("--mac-address x", "x is not a valid mac address"),
        ("-v aa:bb:cc:dd", "invalid spec: aa:bb:cc:dd: too many colons"),
        ("-v :/a:/b", "invalid spec: :/a:/b: empty section between colons"),
        ("--device x", "x is not an absolute path"),
        ("--security-opt seccomp=/no/such", "opening seccomp profile (/no/such) failed: open /no/such: no such file or directory"),
        ("--security-opt x", 'Invalid --security-opt: "x"'),
        ("--expose 5:6", "invalid port format for --expose: 5:6"),
        ("--env-file /no/such", "open /no/such: no such file or directory"),
        ("--restart :3", "invalid restart policy format: no policy provided before colon"),
    ],
)
def test_what_cannot_be_is_refused_in_dockers_words(flags: str, message: str) -> None:
    command = load("container run")
    with pytest.raises(ValueError) as caught:
        build_spec(command.parse([*shlex.split(flags), "image"], "run"))
    assert str(caught.value) == message
