"""Many networks and many containers: everything is right for all, and nothing is left. --full runs the stated counts."""

from __future__ import annotations

import random
import time
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from carrack.errors import NotFound, Unavailable
from carrack.networks.creation import NetworkRequest
from carrack.networks.endpoint import EndpointWish
from carrack.networks.network import IpamConfig
from carrack.networks.options import NetworkOptions
from tests.kernel.network.lab import OUTSIDE4, Lab, reach, silent
from tests.kernel.network.test_names import ask

pytestmark = pytest.mark.root


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--full"))


def test_two_hundred_networks(lab: Lab, tmp_path: Path, full: bool) -> None:
    """More than the 31 that Docker's default pools give; each closed to the others, each removed without trace."""
    count = 200 if full else 40
    networks = lab.open(NetworkOptions(run_directory=tmp_path))
    before = {link.name for link in lab.kernel.links()}
    for number in range(count):
        networks.create(NetworkRequest(name=f"n{number}", enable_ipv6=number % 10 == 0))
    subnets = [network.pools[0].network for network in networks.list() if network.pools]
    assert not any(one.overlaps(other) for i, one in enumerate(subnets) for other in subnets[i + 1 :])
    first, last = lab.start(networks, "first", "n0"), lab.start(networks, "last", f"n{count - 1}")
    third = lab.start(networks, "third", f"n{count - 1}")
    lab.echo(last.place, 80)
    assert reach(third.place, last.endpoint.ipv4, 80) == third.endpoint.ipv4
    assert silent([(first.place, last.endpoint.ipv4, 80, "tcp")])
    assert ask(third.place, "last") == (0, [last.endpoint.ipv4])
    for box in (first, last, third):
        networks.unplug(box.endpoint, now=True)
        networks.release(box.id)
        box.end()
    for number in range(count):
        networks.remove(f"n{number}")
    assert {link.name for link in lab.kernel.links()} == before
    assert not [line for line in lab.nft.run("list set inet carrack subnets4").splitlines() if "10." in line]


def test_five_hundred_containers_on_one_network(lab: Lab, tmp_path: Path, full: bool) -> None:
    """Each finds others by name, alias and the short form of its id, and is found under its address."""
    count = 500 if full else 30
    networks = lab.open(NetworkOptions(run_directory=tmp_path))
    networks.create(NetworkRequest(name="crowd"))
    boxes = [lab.start(networks, f"box-{number}", "crowd") for number in range(count)]
    assert len({box.endpoint.ipv4 for box in boxes}) == count
    choose = random.Random(7)
    for asker in boxes:
        for other in choose.sample(boxes, 3):
            name = other.id.removeprefix("id-of-")
            assert ask(asker.place, name) == (0, [other.endpoint.ipv4])
    for other in boxes:
        assert ask(boxes[0].place, other.id.removeprefix("id-of-")) == (0, [other.endpoint.ipv4])
    # The half that leaves is forgotten at once, the other half is not.
    for box in boxes[: count // 2]:
        networks.unplug(box.endpoint)
        networks.release(box.id)
        box.end()
    asker = boxes[-1]
    assert ask(asker.place, "box-0.crowd")[1] == []
    for other in boxes[count // 2 :]:
        assert ask(asker.place, other.id.removeprefix("id-of-")) == (0, [other.endpoint.ipv4])


def test_a_full_network_says_so_and_goes_on_when_one_leaves(lab: Lab) -> None:
    networks = lab.open()
    networks.create(NetworkRequest(name="small", pools=(IpamConfig(subnet="10.64.0.0/29"),)))
    boxes = [lab.start(networks, f"box{number}", "small") for number in range(5)]
    with pytest.raises(Unavailable, match="no available IPv4 addresses on this network's address pools"):
        networks.allocate(networks.get("small"), "one too many", EndpointWish(container_name="one too many"))
    assert not networks.endpoints("one too many")
    networks.unplug(boxes[0].endpoint, now=True)
    networks.release(boxes[0].id)
    assert lab.start(networks, "next", "small").endpoint.ipv4 == boxes[0].endpoint.ipv4


def test_the_default_pools_go_on_behind_docker_s_and_keep_out_of_the_host_s_routes(lab: Lab) -> None:
    uplink = lab.kernel.get_link("uplink").index
    lab.kernel.add_route(ip_network("10.128.0.0/24"), gateway=ip_address(OUTSIDE4), index=uplink)
    networks = lab.open()
    for number in range(30):  # the default bridge has one too
        networks.create(NetworkRequest(name=f"n{number}"))
    assert str(networks.create(NetworkRequest(name="more")).pools[0].network) == "10.128.1.0/24"
    lab.kernel.add_route(ip_network("10.0.0.0/8"), gateway=ip_address(OUTSIDE4), index=uplink)
    started = time.monotonic()
    with pytest.raises(
        NotFound, match=r"fully subnetted: .* collides with the host's route 10\.0\.0\.0/8 via 198\.51\.100\.2 dev uplink"
    ):
        networks.create(NetworkRequest(name="last"))
    assert time.monotonic() - started < 10
