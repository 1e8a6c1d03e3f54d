"""What a container may ask of one network: interface name, link-local addresses, and which of several subnets."""

from __future__ import annotations

import pytest

from carrack.errors import Conflict, Forbidden, InvalidParameter
from carrack.kernel import netns
from carrack.kernel.netlink import Netlink
from carrack.networks.creation import NetworkRequest
from carrack.networks.drivers.bridge import GATEWAY_MODE
from carrack.networks.drivers.interface import INTERFACE_NAME
from carrack.networks.endpoint import EndpointWish
from carrack.networks.network import IpamConfig
from carrack.networks.networks import Networks
from tests.kernel.network.lab import Box, Lab, reach, silent

pytestmark = pytest.mark.root


@pytest.fixture
def networks(lab: Lab) -> Networks:
    networks = lab.open()
    networks.create(NetworkRequest(name="red", pools=(IpamConfig(subnet="10.61.0.0/24"),)))
    networks.create(NetworkRequest(name="blue"))
    return networks


def named(name: str, **wishes: object) -> EndpointWish:
    return EndpointWish(container_name=name, **wishes)  # type: ignore[arg-type]


def interfaces(box: Box) -> dict[str, list[str]]:
    with netns.inside(box.place, Netlink) as kernel:
        names = {link.index: link.name for link in kernel.links()}
        found: dict[str, list[str]] = {name: [] for name in names.values()}
        for index, address in kernel.addresses():
            found[names[index]].append(str(address))
        return found


def test_an_interface_has_the_name_that_was_asked_for(lab: Lab, networks: Networks) -> None:
    box = lab.start(networks, "web", "red", wish=named("web", driver_options={INTERFACE_NAME: "front"}))
    assert interfaces(box)["front"] == ["10.61.0.2/24"]
    endpoint = networks.allocate(networks.get("blue"), box.id, named("web"))
    networks.plug(endpoint, box.place, pidfd=lab.init)
    assert "eth0" in interfaces(box)


def test_a_name_that_another_network_has_is_refused(lab: Lab, networks: Networks) -> None:
    box = lab.start(networks, "web", "red")
    with pytest.raises(Conflict, match="interface name eth0 is in use"):
        networks.allocate(networks.get("blue"), box.id, named("web", driver_options={INTERFACE_NAME: "eth0"}))
    assert networks.address_use(networks.get("blue"), 4) == 1, "the gateway's, and nothing is left of the other"


@pytest.mark.parametrize("name", ["a/b", "far-too-long-for-it", "lo", "a b"])
def test_a_name_that_cannot_be_is_refused(lab: Lab, networks: Networks, name: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid interface name"):
        networks.allocate(networks.get("red"), "id", named("web", driver_options={INTERFACE_NAME: name}))


def test_link_local_addresses_are_had_beside_the_others(lab: Lab, networks: Networks) -> None:
    one = lab.start(networks, "one", "red", wish=named("one", link_local=("169.254.34.68", "fe80::34:68")))
    two = lab.start(networks, "two", "red", wish=named("two", link_local=("169.254.34.69",)))
    assert {"10.61.0.2/24", "169.254.34.68/16", "fe80::34:68/64"} <= set(interfaces(one)["eth0"])
    lab.echo(one.place, 80)
    assert reach(two.place, "169.254.34.68", 80) == "169.254.34.69"


@pytest.mark.parametrize("address", ["10.0.0.1", "nonsense", "fd00::1"])
def test_what_is_not_link_local_is_refused(lab: Lab, networks: Networks, address: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid link-local IP address"):
        networks.allocate(networks.get("red"), "id", named("web", link_local=(address,)))


def test_a_network_may_have_several_subnets_of_one_version(lab: Lab, networks: Networks) -> None:
    """Of its parent's network: macvlan. When the first is full the second is used, each with its own gateway."""
    pools = (IpamConfig(subnet="198.51.100.128/30", gateway="198.51.100.129"), IpamConfig(subnet="203.0.113.0/24"))
    networks.create(NetworkRequest(name="wide", driver="macvlan", options={"parent": "uplink"}, pools=pools))
    first = lab.start(networks, "first", "wide")
    second = lab.start(networks, "second", "wide")
    chosen = lab.start(networks, "chosen", "wide", wish=named("chosen", ipv4="203.0.113.77"))
    assert interfaces(first)["eth0"] == ["198.51.100.130/30"]
    assert interfaces(second)["eth0"] == ["203.0.113.2/24"]
    assert (chosen.endpoint.ipv4, chosen.endpoint.gateway) == ("203.0.113.77", "203.0.113.1")
    lab.echo(second.place, 80)
    assert reach(chosen.place, "203.0.113.2", 80) == "203.0.113.77"
    networks.release(first.id)
    networks.release(chosen.id)
    again = networks.allocate(networks.get("wide"), "again", named("again", ipv4="203.0.113.77"))
    assert again.ipv4 == "203.0.113.77"


def test_a_bridge_has_one_subnet_of_a_version(lab: Lab, networks: Networks) -> None:
    pools = (IpamConfig(subnet="10.62.0.0/24"), IpamConfig(subnet="10.63.0.0/24"))
    with pytest.raises(Forbidden, match="bridge driver doesn't support multiple subnets"):
        networks.create(NetworkRequest(name="wide", pools=pools))


def test_a_size_alone_is_cut_from_the_default_pools(lab: Lab, networks: Networks) -> None:
    pools = (IpamConfig(subnet="0.0.0.0/28"), IpamConfig(subnet="::/96"))
    network = networks.create(NetworkRequest(name="small", enable_ipv6=True, pools=pools))
    assert [pool.network.prefixlen for pool in network.pools] == [28, 96]
    assert network.pools[1].subnet.startswith("fd")
    other = networks.create(NetworkRequest(name="small2", pools=pools[:1]))
    assert not other.pools[0].network.overlaps(network.pools[0].network)


def test_an_isolated_network_has_no_address_of_the_host(lab: Lab, networks: Networks) -> None:
    options = {GATEWAY_MODE[4]: "isolated", GATEWAY_MODE[6]: "isolated"}
    network = networks.create(NetworkRequest(name="alone", internal=True, enable_ipv6=True, options=options))
    index = lab.kernel.get_link(network.bridge).index
    assert not [address for _, address in lab.kernel.addresses(index) if not address.ip.is_link_local]
    one, two = lab.start(networks, "one", "alone"), lab.start(networks, "two", "alone")
    lab.echo(one.place, 80, address="::")
    assert reach(two.place, one.endpoint.ipv4, 80).endswith(two.endpoint.ipv4)
    assert reach(two.place, one.endpoint.ipv6, 80) == two.endpoint.ipv6
    assert silent([(None, one.endpoint.ipv4, 80, "tcp")])
