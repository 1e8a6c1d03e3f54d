"""Port specifications in all of Docker's forms."""

import pytest

from carrack.engine import ports
from carrack.engine.config import ContainerConfig, HostConfig, PortBinding
from carrack.engine.ports import WantedPort
from carrack.errors import InvalidParameter


def wanted(bindings: dict[str, list[PortBinding] | None], **config: object) -> list[WantedPort]:
    return ports.wanted(ContainerConfig(**config), HostConfig(port_bindings=bindings))  # type: ignore[arg-type]


def test_a_port_without_protocol_is_tcp() -> None:
    assert wanted({"80": [PortBinding("", "8080")]}) == [WantedPort(80, "tcp", "", 8080, 8080)]


def test_equal_ranges_are_paired() -> None:
    found = wanted({"80-81/udp": [PortBinding("127.0.0.1", "90-91")]})
    assert found == [WantedPort(80, "udp", "127.0.0.1", 90, 90), WantedPort(81, "udp", "127.0.0.1", 91, 91)]


def test_one_port_may_take_any_of_a_range() -> None:
    assert wanted({"80/tcp": [PortBinding("", "8000-8010")]}) == [WantedPort(80, "tcp", "", 8000, 8010)]


def test_no_host_port_means_any() -> None:
    assert wanted({"80/tcp": [PortBinding()]}) == [WantedPort(80, "tcp")]


def test_publish_all_takes_what_is_exposed_and_not_bound() -> None:
    config = ContainerConfig(exposed_ports={"80/tcp": {}, "81/tcp": {}})
    host = HostConfig(port_bindings={"80/tcp": [PortBinding("", "1")]}, publish_all_ports=True)
    assert ports.wanted(config, host) == [WantedPort(80, "tcp", "", 1, 1), WantedPort(81, "tcp")]


@pytest.mark.parametrize("text", ["x", "70000", "0/tcp", "80/quic", "90-80", "-1", "٣"])
def test_a_malformed_port_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        wanted({text: [PortBinding("", "1")]})


@pytest.mark.parametrize("binding", [PortBinding("nowhere", "1"), PortBinding("", "a"), PortBinding("", "1-3")])
def test_a_malformed_binding_of_a_range_is_refused(binding: PortBinding) -> None:
    with pytest.raises(InvalidParameter):
        wanted({"80-81": [binding]})
