"""A create request is checked and merged as Docker does it."""

import pytest

from carrack.engine import request
from carrack.engine.config import ContainerConfig, CreateRequest, HostConfig, RestartPolicy
from carrack.engine.resources import Machine
from carrack.errors import InvalidParameter
from carrack.oci.image_config import ExecutionConfig

MACHINE = Machine(processors=2)


def asked(**host: object) -> CreateRequest:
    return CreateRequest(image="x", host_config=HostConfig(**host))  # type: ignore[arg-type]


def test_a_plain_request_is_accepted_without_warnings() -> None:
    assert request.check(asked(), MACHINE) == []


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"memory": 1024}, "Minimum memory limit allowed is 6MB"),
        ({"memory": 10 << 20, "memory_swap": 7 << 20}, "Minimum memoryswap limit should be larger than memory limit, see usage"),
        ({"memory_swap": 7 << 20}, "You should always set the Memory limit when using Memoryswap limit, see usage"),
        ({"nano_cpus": 3_000_000_000}, "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"),
        ({"nano_cpus": 1, "cpu_period": 1000}, "Conflicting options: Nano CPUs and CPU Period cannot both be set"),
        ({"cpu_quota": 10}, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        ({"cpuset_cpus": "a"}, "Invalid value a for cpuset cpus: invalid format: a"),
        ({"blkio_weight": 5}, "Range of blkio weight is from 10 to 1000"),
        ({"sysctls": {"kernel.panic": "1"}}, "is not namespaced"),
        ({"sysctls": {"net.ipv4.ip_forward": "1"}, "network_mode": "host"}, "not allowed in host network namespace"),
        (
            {"restart_policy": RestartPolicy("sometimes")},
            "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
        ),
        (
            {"restart_policy": RestartPolicy("always"), "auto_remove": True},
            "can't create 'AutoRemove' container with restart policy",
        ),
        ({"extra_hosts": ["name"]}, "bad format for add-host"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_in_dockers_words(host: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        request.check(asked(**host), MACHINE)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "number"),
    [("9", 9), ("KILL", 9), ("SIGKILL", 9), ("sigterm", 15), ("RTMIN+1", 35), ("SIGRTMAX", 64), ("SIGRTMAX-1", 63)],
)
def test_a_signal_is_a_number_or_a_name(text: str, number: int) -> None:
    assert request.parse_signal(text) == number


@pytest.mark.parametrize("text", ["", "0", "33", "65", "SIGNOPE", "SIG_IGN", "RTMIN+40", "-9"])
def test_an_unknown_signal_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid signal|does not support signal"):
        request.parse_signal(text)


def test_the_images_environment_comes_behind_ones_own_and_never_replaces_it() -> None:
    config = ContainerConfig(env=["A=mine"], cmd=["true"])
    request.merge(config, ExecutionConfig(env=["A=image", "B=image"]))
    assert config.env == ["A=mine", "B=image"]


def test_a_command_of_ones_own_keeps_the_images_entrypoint() -> None:
    config = ContainerConfig(cmd=["ls"])
    request.merge(config, ExecutionConfig(entrypoint=["/entry"], cmd=["default"]))
    assert (config.entrypoint, config.cmd) == (["/entry"], ["ls"])


def test_an_entrypoint_of_ones_own_drops_the_images_command() -> None:
    config = ContainerConfig(entrypoint=["/mine"])
    request.merge(config, ExecutionConfig(entrypoint=["/entry"], cmd=["default"]))
    assert (config.entrypoint, config.cmd) == (["/mine"], None)


def test_an_empty_entrypoint_clears_the_images() -> None:
    config = ContainerConfig(entrypoint=[""], cmd=["ls"])
    request.merge(config, ExecutionConfig(entrypoint=["/entry"]))
    assert (config.entrypoint, config.cmd) == (None, ["ls"])


def test_no_command_at_all_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="no command specified"):
        request.merge(ContainerConfig(), ExecutionConfig())


def test_swap_defaults_to_as_much_again_as_the_memory() -> None:
    host = HostConfig(memory=10 << 20)
    request.settle(host, default_log_driver="local", default_log_options={})
    assert host.memory_swap == 20 << 20


def test_a_log_driver_of_ones_own_does_not_inherit_the_daemons_options() -> None:
    host = HostConfig()
    host.log_config.type = "json-file"
    request.settle(host, default_log_driver="local", default_log_options={"max-size": "1m"})
    assert host.log_config.config == {}
