"""carrackd's flags and daemon.json are dockerd's: one table, no directive twice, none ignored."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from carrack.daemon.config import DaemonConfig, load
from carrack.daemon.listeners import Listener, open_listeners
from carrack.errors import CarrackError, InvalidParameter


def written(tmp_path: Path, document: object) -> list[str]:
    path = tmp_path / "daemon.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return ["--config-file", str(path)]


def read(*arguments: str) -> DaemonConfig:
    return load(list(arguments), default_file="/nonexistent")


def open_listener(host: str, config: DaemonConfig) -> Listener:
    config.hosts = [host]
    (listener,) = open_listeners(config)
    return listener


def test_flags_cluster_and_repeat_as_dockerds_do() -> None:
    config = read("-DH", "unix:///a", "-H=tcp://127.0.0.1:1", "--dns=1.1.1.1", "--icc=false", "-ldebug")
    assert (config.debug, config.hosts, config.dns, config.icc, config.log_level) == (
        True,
        ["unix:///a", "tcp://127.0.0.1:1"],
        ["1.1.1.1"],
        False,
        "debug",
    )


def test_an_instance_has_places_of_its_own() -> None:
    config = read("--instance", "t1")
    assert (str(config.data_root), str(config.exec_root), config.cgroup_parent) == (
        "/var/lib/carrack-t1",
        "/run/carrack-t1",
        "/carrack-t1",
    )


def test_the_file_has_dockers_keys(tmp_path: Path) -> None:
    document = {
        "default-address-pools": [{"base": "10.9.0.0/16", "size": 24}],
        "log-opts": {"max-size": "1m"},
        "hosts": ["unix:///x"],
    }
    config = read(*written(tmp_path, document))
    assert (config.default_address_pools, config.log_opts, config.hosts) == (
        [("10.9.0.0/16", 24)],
        {"max-size": "1m"},
        ["unix:///x"],
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nope"], "unknown flag: --nope"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["--bip"], "flag needs an argument: --bip"),
        (["--debug=maybe"], 'invalid argument "maybe" for "--debug" flag'),
        (["word"], "accepts no arguments"),
        (["--bip", "10.0.0.1"], "invalid address"),
        (["--bip", "fd00::1/64"], "invalid address"),
        (["--bip", "10.0.0.1/24", "-b", "br0"], "mutually exclusive"),
        (["--log-level", "loud"], "invalid logging level: loud"),
        (["--default-address-pool", "base=10.0.0.0/16"], "invalid default address pool"),
        (["--default-address-pool", "base=10.0.0.0/16,size=8"], "invalid default address pool"),
        (["--instance", "Bad_Name"], "invalid instance name"),
        (["--label", "x"], "bad attribute format: x"),
        (["--live-restore=false"], "live-restore cannot be turned off"),
        (["--docker-socket", "perhaps"], "want auto, yes or no"),
        (["--storage-driver", "btrfs"], "driver not supported: btrfs"),
    ],
)
def test_a_bad_flag_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        read(*arguments)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "invalid JSON"),
        ("[]", "want a JSON object"),
        ({"colour": 1, "debug": True}, "the following directives don't match any configuration option: colour"),
        ({"debug": "yes"}, "debug: wrong type of value"),
        ({"mtu": True}, "mtu: wrong type of value"),
        ({"validate": True}, "don't match any configuration option"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, document: object, message: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        read(*written(tmp_path, document))
    assert message in str(refusal.value)


def test_a_directive_in_both_places_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidParameter,
        match=r"specified both as a flag and in the configuration file: debug: \(from flag: true, from file: false\)",
    ):
        read(*written(tmp_path, {"debug": False}), "-D")


@pytest.mark.parametrize(
    "host",
    [
        "tcp://127.0.0.1:0",
        "tcp://0.0.0.0:0",
        "fd://",
        "npipe:////x",
        "/var/run/x.sock",
        "tcp://name:1",
        "unix://relative",
    ],
)
def test_a_listener_that_is_not_safe_or_not_meant_is_refused(host: str) -> None:
    with pytest.raises(CarrackError):
        open_listener(host, DaemonConfig())


def test_loopback_tcp_needs_to_be_said() -> None:
    open_listener("tcp://127.0.0.1:0", DaemonConfig(tls=False)).close()


def test_tcp_beyond_loopback_needs_to_be_said_twice() -> None:
    with pytest.raises(InvalidParameter, match="--insecure-tcp"):
        open_listener("tcp://0.0.0.0:0", DaemonConfig(tls=False))
    open_listener("tcp://0.0.0.0:0", DaemonConfig(tls=False, insecure_tcp=True)).close()


def test_a_socket_that_another_daemon_answers_is_left_alone(tmp_path: Path) -> None:
    config = DaemonConfig(exec_root=tmp_path)
    with closing(open_listener(f"unix://{tmp_path}/s", config)), pytest.raises(CarrackError, match="another daemon answers there"):
        open_listener(f"unix://{tmp_path}/s", config)


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    config = DaemonConfig(exec_root=tmp_path)
    open_listener(f"unix://{tmp_path}/s", config).socket.close()
    open_listener(f"unix://{tmp_path}/s", config).socket.close()
    assert oct((tmp_path / "s").stat().st_mode & 0o777) == "0o660"
