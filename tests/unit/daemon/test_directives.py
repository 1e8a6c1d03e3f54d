"""Every directive of dockerd is honoured, already so, or refused with a reason; what SIGHUP may change and what it may not."""

import json
from pathlib import Path

import pytest

from carrack.daemon.config import OPTIONS, DaemonConfig, load
from carrack.daemon.directives import FIXED, RELOADABLE
from carrack.daemon.reload import Reloads
from carrack.engine.config import HostConfig, Ulimit
from carrack.engine.defaults import ContainerDefaults
from carrack.errors import InvalidParameter

DOCKERDS = frozenset(
    """allow-direct-routing authorization-plugins bip bip6 bridge bridge-accept-fwmark builder cdi-spec-dirs cgroup-parent
    containerd containerd-namespace containerd-plugins-namespace data-root debug default-address-pools default-cgroupns-mode
    default-gateway default-gateway-v6 default-ipc-mode default-network-opts default-runtime default-shm-size default-ulimits dns
    dns-opts dns-search exec-opts exec-root experimental features firewall-backend fixed-cidr fixed-cidr-v6 group host-gateway-ip
    host-gateway-ips hosts icc init init-path insecure-registries ip ip-forward ip-forward-no-drop ip-masq ip6tables iptables ipv6
    labels live-restore log-driver log-format log-level log-opts max-concurrent-downloads max-concurrent-uploads
    max-download-attempts metrics-addr min-api-version mtu network-control-plane-mtu network-diagnostic-port no-new-privileges
    node-generic-resources pidfile proxies raw-logs registry-mirrors runtimes seccomp-profile selinux-enabled shutdown-timeout
    storage-driver storage-opts swarm-default-advertise-addr tls userland-proxy userland-proxy-path userns-remap""".split()
)
"""Keys of dockerd's daemon.json (Docker 28), those of TLS files excepted."""


def from_file(tmp_path: Path, document: object, *flags: str) -> DaemonConfig:
    path = tmp_path / "daemon.json"
    path.write_text(json.dumps(document))
    return load(["--config-file", str(path), *flags])


def test_every_key_of_dockerds_file_is_known() -> None:
    honoured = {option.name for option in OPTIONS}
    assert DOCKERDS - honoured - set(FIXED) == set()
    assert honoured & set(FIXED) == set()


@pytest.mark.parametrize("name", sorted(FIXED))
def test_what_carrack_does_anyway_may_be_said(tmp_path: Path, name: str) -> None:
    for value in FIXED[name][1]:
        from_file(tmp_path, {name: value})


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("iptables", False, "iptables cannot be false: Carrack's firewall is one nftables table"),
        ("exec-opts", ["native.cgroupdriver=none"], "native.cgroupdriver option none not supported"),
        ("exec-opts", ["isolation=hyperv"], "there is no option isolation=hyperv"),
        ("containerd", "/run/c.sock", "there is no containerd"),
        ("features", {"x": True}, "features are not switched one by one"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(tmp_path: Path, name: str, value: object, reason: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        from_file(tmp_path, {name: value})
    assert reason in caught.value.message


def test_the_driver_of_cgroups_may_be_chosen(tmp_path: Path) -> None:
    for driver in ("systemd", "cgroupfs"):
        assert from_file(tmp_path, {"exec-opts": [f"native.cgroupdriver={driver}"]}).further.cgroup_driver == driver
    assert from_file(tmp_path, {}).further.cgroup_driver == ""


def test_defaults_of_containers(tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_text('{"defaultAction":"SCMP_ACT_ALLOW"}')
    config = from_file(
        tmp_path,
        {
            "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 100, "Hard": 200}},
            "default-shm-size": "32m",
            "default-cgroupns-mode": "private",
            "init": True,
            "no-new-privileges": True,
            "seccomp-profile": str(tmp_path / "profile.json"),
        },
    )
    host = HostConfig()
    config.further.container_defaults.apply(host)
    assert host.ulimits == [Ulimit("nofile", 200, 100)]
    assert (host.shm_size, host.cgroupns_mode, host.init) == (32 << 20, "private", True)
    assert host.security_opt == ["no-new-privileges", 'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}']


def test_a_container_that_says_something_keeps_it() -> None:
    host = HostConfig(
        ulimits=[Ulimit("nofile", 5, 5)], shm_size=1, init=False, security_opt=["no-new-privileges=false", "seccomp=unconfined"]
    )
    ContainerDefaults("private", "shareable", 9, (Ulimit("nofile", 1, 1), Ulimit("core", 0, 0)), True, True, "{}").apply(host)
    assert host.ulimits == [Ulimit("nofile", 5, 5), Ulimit("core", 0, 0)]
    assert (host.shm_size, host.init, host.security_opt) == (1, False, ["no-new-privileges=false", "seccomp=unconfined"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--min-api-version", "1.20"], "minimum supported API version is 1.24"),
        (["--min-api-version", "1.99"], "newer than the newest"),
        (["--metrics-addr", "9323"], "invalid metrics address"),
        (["--default-ulimit", "nofile"], "invalid ulimit argument: nofile"),
        (["--default-ulimit", "nofile=5:3"], "ulimit soft limit must be less than or equal to hard limit"),
        (["--max-concurrent-downloads", "0"], "invalid max concurrent downloads: 0"),
        (["--init-path", "/nonexistent"], "init-path /nonexistent"),
        (["--seccomp-profile", "/nonexistent"], "opening seccomp profile"),
        (["--log-format", "xml"], "invalid log-format"),
        (["--default-ipc-mode", "host"], "invalid default-ipc-mode"),
    ],
)
def test_bad_values_are_refused(flags: list[str], message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        load(flags, default_file="/nonexistent")
    assert message in caught.value.message


def test_the_oldest_version_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_MIN_API_VERSION", "1.44")
    assert load([], default_file="/nonexistent").further.min_api_version == "1.44"


def test_proxies_stand_in_one_place(tmp_path: Path) -> None:
    config = from_file(tmp_path, {"proxies": {"http-proxy": "http://p:1", "no-proxy": "localhost"}})
    assert config.further.proxies == {"http-proxy": "http://p:1", "no-proxy": "localhost"}
    with pytest.raises(InvalidParameter, match="both as flags and in the configuration file"):
        from_file(tmp_path, {"proxies": {"http-proxy": "http://p:1"}}, "--http-proxy", "http://q:2")


class Daemon:
    """A daemon whose configuration is in a file."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.path = folder / "daemon.json"
        self.path.write_text("{}")
        self.applied: list[DaemonConfig] = []
        arguments = ["--config-file", str(self.path), *flags]
        self.reloads = Reloads(arguments, load(arguments), self.applied.append, "/nonexistent")

    def reload(self, document: object) -> dict[str, str] | None:
        self.path.write_text(document if isinstance(document, str) else json.dumps(document))
        return self.reloads.reload()


def test_a_reload_puts_into_force_what_may_change(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    told = daemon.reload({"labels": ["a=b"], "debug": True, "insecure-registries": ["reg:5000"]})
    assert daemon.applied[-1].labels == ["a=b"]
    assert told is not None
    assert (told["labels"], told["debug"], told["insecure-registries"]) == ('["a=b"]', "true", '["reg:5000"]')


@pytest.mark.parametrize("document", ['{"labels": ["broken"]}', "{", '{"nonsense": 1}', '{"data-root": 5}'])
def test_a_wrong_configuration_changes_nothing(tmp_path: Path, document: str) -> None:
    daemon = Daemon(tmp_path)
    assert daemon.reload(document) is None
    assert daemon.applied == []


def test_a_directive_that_is_a_flag_too_is_a_conflict(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    daemon = Daemon(tmp_path, "--label", "flag=1")
    assert daemon.reload({"labels": ["file=1"]}) is None
    assert "specified both as a flag and in the configuration file: labels" in caplog.text


def test_what_needs_a_restart_is_named_each_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    daemon = Daemon(tmp_path)
    for _ in range(2):
        caplog.clear()
        assert daemon.reload({"mtu": 1400, "labels": ["a=b"]}) is not None
        assert "needs a restart to change, and stays as it is: mtu" in caplog.text
    assert "mtu" not in RELOADABLE


def test_the_default_gateway_is_an_address_of_its_version(tmp_path: Path) -> None:
    config = from_file(tmp_path, {"default-gateway": "10.0.0.254", "default-gateway-v6": "fd00::fe"})
    assert (str(config.default_gateway), str(config.default_gateway_v6)) == ("10.0.0.254", "fd00::fe")
    with pytest.raises(InvalidParameter, match="invalid address"):
        from_file(tmp_path, {"default-gateway": "fd00::1"})
