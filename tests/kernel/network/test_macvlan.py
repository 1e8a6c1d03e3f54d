"""macvlan and ipvlan networks: containers that are members of the network that an interface of the machine is in."""

from __future__ import annotations

import pytest

from carrack.errors import Forbidden, InvalidParameter, SystemFailure
from carrack.kernel import netns
from carrack.kernel.netlink import Netlink
from carrack.networks.creation import NetworkRequest
from carrack.networks.endpoint import EndpointWish, PortBinding
from carrack.networks.network import IpamConfig
from carrack.networks.networks import Networks
from tests.kernel.network.lab import OUTSIDE4, Lab, reach

pytestmark = pytest.mark.root

LAN = (IpamConfig(subnet="198.51.100.0/24", ip_range="198.51.100.128/27", gateway=OUTSIDE4),)


@pytest.fixture
def networks(lab: Lab) -> Networks:
    return lab.open()


def make(networks: Networks, name: str = "lan", driver: str = "macvlan", **options: str) -> None:
    networks.create(NetworkRequest(name=name, driver=driver, pools=LAN, options=options))


def test_containers_are_members_of_the_machines_own_network(lab: Lab, networks: Networks) -> None:
    make(networks, parent="uplink")
    first, second = lab.start(networks, "one", "lan"), lab.start(networks, "two", "lan")
    lab.echo(first.place, 80)
    lab.echo(lab.outside, 9000)
    assert first.endpoint.ipv4 == "198.51.100.128"
    assert reach(lab.outside, first.endpoint.ipv4, 80) == OUTSIDE4
    assert reach(second.place, first.endpoint.ipv4, 80) == second.endpoint.ipv4
    assert reach(first.place, OUTSIDE4, 9000) == first.endpoint.ipv4
    with netns.inside(first.place, Netlink) as inside:
        assert [str(route.gateway) for route in inside.routes() if route.destination.prefixlen == 0] == [OUTSIDE4]


def test_a_vlan_of_the_parent_is_made_and_removed_with_the_network(lab: Lab, networks: Networks) -> None:
    try:
        lab.kernel.add_vlan("probe", lab.kernel.get_link("uplink").index, 49)
    except OSError:
        with pytest.raises(SystemFailure, match=r"cannot make interface uplink\.50: Operation not supported"):
            make(networks, parent="uplink.50")
        assert [network.name for network in networks.list() if network.name == "lan"] == []
        pytest.skip("this kernel has no vlan interfaces")
    make(networks, parent="uplink.50")
    link = lab.kernel.get_link("uplink.50")
    assert (link.kind, link.up) == ("vlan", True)
    networks.remove("lan")
    assert lab.kernel.find_link("uplink.50") is None
    assert lab.kernel.find_link("uplink") is not None


def test_a_container_leaves_and_its_address_is_free(lab: Lab, networks: Networks) -> None:
    make(networks, parent="uplink")
    box = lab.start(networks, "plain")
    joined = networks.allocate(networks.get("lan"), box.id, EndpointWish())
    networks.plug(joined, box.place, pidfd=lab.init)
    networks.unplug(joined, now=True, netns_fd=box.place)
    networks.release(box.id, joined.id)
    with netns.inside(box.place, Netlink) as inside:
        assert [link.name for link in inside.links()] == ["lo", "eth0"]
    assert networks.allocate(networks.get("lan"), "next", EndpointWish()).ipv4 == joined.ipv4


def test_ports_are_not_published_there(lab: Lab, networks: Networks) -> None:
    make(networks, parent="uplink")
    box = lab.start(networks, "one", "lan")
    assert networks.hold([PortBinding(80, "tcp", "", "8080")], box.id) == ()


def test_a_parent_has_one_network(networks: Networks) -> None:
    make(networks, parent="uplink")
    with pytest.raises(Forbidden, match="is already using parent interface uplink"):
        networks.create(NetworkRequest(name="other", driver="macvlan", options={"parent": "uplink"}))


@pytest.mark.parametrize(
    ("driver", "options", "complaint"),
    [
        ("macvlan", {"parent": "nowhere"}, "parent interface nowhere does not exist"),
        ("macvlan", {"parent": "nowhere.5"}, "the parent interface nowhere was not found on the host"),
        ("macvlan", {"parent": "uplink.9999"}, "parent interface uplink.9999 does not exist"),
        ("macvlan", {"parent": "uplink", "macvlan_mode": "odd"}, "requested macvlan mode 'odd' is not valid"),
        ("ipvlan", {"parent": "uplink", "ipvlan_mode": "l7"}, "requested ipvlan mode 'l7' is not valid"),
        ("ipvlan", {"parent": "uplink", "ipvlan_flag": "odd"}, "requested ipvlan flag 'odd' is not valid"),
    ],
)
def test_options_that_cannot_be_are_refused(networks: Networks, driver: str, options: dict[str, str], complaint: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        make(networks, driver=driver, **options)
    assert complaint in refused.value.message


def test_networks_and_containers_outlive_the_daemon(lab: Lab, networks: Networks) -> None:
    make(networks, parent="uplink")
    box = lab.start(networks, "one", "lan")
    lab.shut(networks, keep=True)
    networks = lab.open()
    assert [endpoint.id for endpoint in networks.endpoints(box.id)] == [box.endpoint.id]
    assert networks.allocate(networks.get("lan"), "next", EndpointWish()).ipv4 == "198.51.100.129"


def test_ipvlan_works_or_the_kernel_is_named(lab: Lab, networks: Networks) -> None:
    make(networks, driver="ipvlan", parent="uplink")
    lab.echo(lab.outside, 9000)
    try:
        lab.kernel.add_ipvlan("probe", lab.kernel.get_link("uplink").index, "l2", "bridge")
    except OSError:
        with pytest.raises(SystemFailure, match="this kernel has no ipvlan interfaces"):
            lab.start(networks, "one", "lan")
    else:
        lab.kernel.delete_link(lab.kernel.get_link("probe").index)
        box = lab.start(networks, "one", "lan")
        assert reach(box.place, OUTSIDE4, 9000) == box.endpoint.ipv4
