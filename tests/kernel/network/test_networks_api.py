"""The routes of networks and volumes over a real socket, and Docker's own client on them."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import uvloop

from carrack.api import networks as network_routes
from carrack.api import volumes as volume_routes
from carrack.api.router import Api, Product, Route
from carrack.http import Request, Response
from carrack.networks.networks import Networks
from carrack.state.database import Database
from carrack.volumes.volumes import Volumes
from tests.contract.http.live_server import LiveServer
from tests.kernel.network.lab import Lab

pytestmark = pytest.mark.root


async def ping(request: Request) -> Response:
    return Response(200, b"OK", {"Content-Type": "text/plain"})


class Service:
    """A daemon that has networks and volumes and nothing else."""

    def __init__(self, lab: Lab, networks: Networks, volumes: Volumes, path: Path) -> None:
        self.lab, self.networks, self.volumes, self.path = lab, networks, volumes, path

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, object]:
        """One request; the status and the decoded answer."""
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.path))
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text) if text.strip() else None

    def docker(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Docker's own client."""
        binary = shutil.which("docker")
        if binary is None:
            pytest.skip("no docker client on this machine")
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.path.parent), "DOCKER_HOST": f"unix://{self.path}"}
        return subprocess.run([binary, *arguments], env=environment, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def service(lab: Lab, tmp_path: Path) -> Iterator[Service]:
    networks = lab.open()
    (tmp_path / "records").mkdir()
    with Database(tmp_path / "records/state.db") as database:
        volumes = Volumes(database, tmp_path / "volumes", lambda *_: None)
        routes = [
            Route("HEAD", "/_ping", ping),
            Route("GET", "/_ping", ping),
            *network_routes.routes(networks),
            *volume_routes.routes(volumes),
        ]
        path = tmp_path / "api.sock"
        with LiveServer(Api(routes, product=Product("24.0.9+test")), path, None, uvloop.new_event_loop):
            yield Service(lab, networks, volumes, path)


def filters(**values: str) -> str:
    return quote(json.dumps({name.replace("_not", "!"): [value] for name, value in values.items()}))


# ── networks ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_three_default_networks_are_listed(service: Service) -> None:
    status, networks = service.ask("GET", "/v1.43/networks")
    assert status == 200
    assert {(each["Name"], each["Driver"], each["Scope"]) for each in networks} == {  # type: ignore[attr-defined]
        ("bridge", "bridge", "local"),
        ("host", "host", "local"),
        ("none", "null", "local"),
    }


def test_inspect_shows_the_bridge_as_docker_does(service: Service) -> None:
    box = service.lab.start(service.networks, "web")
    network = service.networks.get("bridge")
    _, shown = service.ask("GET", "/v1.43/networks/bridge")
    assert shown == {
        "Name": "bridge",
        "Id": network.id,
        "Created": shown["Created"],  # type: ignore[index]
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}]},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {
            box.id: {
                "Name": "web",
                "EndpointID": box.endpoint.id,
                "MacAddress": "02:42:ac:11:00:02",
                "IPv4Address": "172.17.0.2/16",
                "IPv6Address": "",
            }
        },
        "Options": {
            "com.docker.network.bridge.default_bridge": "true",
            "com.docker.network.bridge.enable_icc": "true",
            "com.docker.network.bridge.enable_ip_masquerade": "true",
            "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
            "com.docker.network.bridge.name": "carrack0",
            "com.docker.network.driver.mtu": "1500",
        },
        "Labels": {},
    }


def test_a_list_shows_containers_only_to_clients_before_1_28(service: Service) -> None:
    service.lab.start(service.networks, "web")
    counts = {}
    for version in ("1.27", "1.28"):
        _, shown = service.ask("GET", f"/v{version}/networks?filters={filters(name='bridge')}")
        counts[version] = len(shown[0]["Containers"])  # type: ignore[index]
    assert counts == {"1.27": 1, "1.28": 0}


def test_a_network_is_made_with_all_that_was_asked(service: Service) -> None:
    pool = {"Subnet": "10.7.0.0/16", "IPRange": "10.7.1.0/24", "Gateway": "10.7.0.254", "AuxiliaryAddresses": {"nas": "10.7.1.5"}}
    body = {
        "Name": "mine",
        "Driver": "bridge",
        "Internal": True,
        "Attachable": True,
        "IPAM": {"Driver": "default", "Config": [pool]},
        "Options": {"com.docker.network.driver.mtu": "1400"},
        "Labels": {"team": "a"},
    }
    status, created = service.ask("POST", "/v1.43/networks/create", body)
    assert status == 201
    _, shown = service.ask("GET", f"/v1.43/networks/{created['Id']}")  # type: ignore[index]
    assert created["Warning"] == ""  # type: ignore[index]
    kept = ("Name", "Internal", "Attachable", "Options", "Labels")
    assert {key: shown[key] for key in kept} == {key: body[key] for key in kept}  # type: ignore[index]
    assert shown["IPAM"]["Config"] == [pool]  # type: ignore[index]
    assert service.lab.kernel.get_link(service.networks.get("mine").bridge).mtu == 1400


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"Name": "bridge"}, 403, "operation is not permitted on predefined bridge network "),
        ({"Name": ""}, 400, "network name cannot be empty"),
        ({"Name": "x", "Driver": "weave"}, 404, 'could not find plugin "weave" in v1 plugin registry: plugin not found'),
        ({"Name": "x", "Driver": "host"}, 403, 'only one instance of "host" network is allowed'),
        ({"Name": "x", "Driver": "null"}, 403, 'only one instance of "null" network is allowed'),
        ({"Name": "x", "IPAM": {"Config": [{"Gateway": "10.0.0.1"}]}}, 400, "must have a corresponding subnet"),
        (
            {"Name": "x", "IPAM": {"Config": [{"Subnet": "10.0.0.1/24"}]}},
            400,
            "invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24",
        ),
        (
            {"Name": "x", "IPAM": {"Config": [{"Subnet": "172.17.9.0/24"}]}},
            403,
            "Pool overlaps with other one on this address space",
        ),
        ({"Name": "x", "IPAM": {"Driver": "dhcp"}}, 400, "could not find IPAM driver dhcp"),
        ({"Name": "x", "Scope": "swarm"}, 503, "This node is not a swarm manager."),
        ({"Name": "x", "Options": {"com.docker.network.bridge.enable_icc": "maybe"}}, 400, "enable_icc"),
        ({"Name": "x", "Options": {"com.docker.network.bridge.name": "far-too-long-a-name"}}, 400, "is not an interface name"),
        ({"Name": "x", "Options": {"com.docker.network.bridge.name": "uplink"}}, 403, "existing interface uplink is not a bridge"),
        ({"Name": "x", "EnableIPv4": False}, 400, "IPv4 or IPv6 must be enabled"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(service: Service, body: object, status: int, message: str) -> None:
    links = service.lab.kernel.links()
    answered, document = service.ask("POST", "/v1.48/networks/create", body)
    assert answered == status
    assert message in document["message"]  # type: ignore[index]
    assert service.lab.kernel.links() == links
    assert len(service.networks.list()) == 3


def test_a_network_made_from_a_configuration_has_it(service: Service) -> None:
    config = {"Name": "plan", "ConfigOnly": True, "IPAM": {"Config": [{"Subnet": "10.7.0.0/16"}]}, "Labels": {"a": "b"}}
    assert service.ask("POST", "/v1.43/networks/create", config)[0] == 201
    assert service.ask("POST", "/v1.43/networks/create", {"Name": "mine", "ConfigFrom": {"Network": "plan"}})[0] == 201
    _, shown = service.ask("GET", "/v1.43/networks/mine")
    assert shown["IPAM"]["Config"][0]["Subnet"] == "10.7.0.0/16"  # type: ignore[index]
    assert shown["ConfigFrom"] == {"Network": "plan"}  # type: ignore[index]
    status, document = service.ask("DELETE", "/v1.43/networks/plan")
    assert (status, document) == (403, {"message": 'configuration network "plan" is in use'})


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"name": "mi"}, {"mine"}),
        ({"driver": "bridge"}, {"bridge", "mine"}),
        ({"type": "custom"}, {"mine"}),
        ({"type": "builtin"}, {"bridge", "host", "none"}),
        ({"dangling": "true"}, {"mine"}),
        ({"label": "team=a"}, {"mine"}),
        ({"label": "team=b"}, set()),
        ({"scope": "global"}, set()),
    ],
)
def test_a_list_is_narrowed_by_filters(service: Service, query: dict[str, str], names: set[str]) -> None:
    service.ask("POST", "/v1.43/networks/create", {"Name": "mine", "Labels": {"team": "a"}})
    _, shown = service.ask("GET", f"/v1.43/networks?filters={filters(**query)}")
    assert {each["Name"] for each in shown} == names  # type: ignore[attr-defined]


@pytest.mark.parametrize("query", [{"colour": "red"}, {"type": "odd"}, {"dangling": "perhaps"}])
def test_a_filter_that_cannot_be_is_refused(service: Service, query: dict[str, str]) -> None:
    assert service.ask("GET", f"/v1.43/networks?filters={filters(**query)}")[0] == 400


def test_prune_removes_what_nobody_uses_and_labels_do_not_spare(service: Service) -> None:
    for name, labels in (("old", {}), ("spared", {"keep": "yes"}), ("used", {})):
        service.ask("POST", "/v1.43/networks/create", {"Name": name, "Labels": labels})
    service.lab.start(service.networks, "web", "used")
    assert service.ask("POST", f"/v1.43/networks/prune?filters={filters(label_not='keep')}") == (200, {"NetworksDeleted": ["old"]})


def test_prune_spares_what_is_younger_than_until(service: Service) -> None:
    service.ask("POST", "/v1.43/networks/create", {"Name": "young"})
    assert service.ask("POST", f"/v1.43/networks/prune?filters={filters(until='1h')}") == (200, {"NetworksDeleted": None})


def test_dockers_client_makes_lists_inspects_and_removes_networks(service: Service) -> None:
    made = service.docker("network", "create", "--subnet", "10.8.0.0/24", "--label", "a=b", "mine")
    assert made.stdout.strip() == service.networks.get("mine").id
    listed = service.docker("network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}")
    assert sorted(listed.stdout.splitlines()) == ["bridge bridge local", "host host local", "mine bridge local", "none null local"]
    gateway = service.docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "mine")
    assert gateway.stdout.strip() == "10.8.0.1"
    assert service.docker("network", "rm", "mine").stdout.strip() == "mine"
    missing = service.docker("network", "inspect", "mine")
    assert "network mine not found" in missing.stderr
    assert "bridge is a pre-defined network and cannot be removed" in service.docker("network", "rm", "bridge").stderr


def test_dockers_client_prunes_networks(service: Service) -> None:
    service.docker("network", "create", "mine")
    assert service.docker("network", "prune", "-f").stdout == "Deleted Networks:\nmine\n\n"


# ── volumes ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_volume_is_made_shown_and_removed(service: Service) -> None:
    status, made = service.ask("POST", "/v1.43/volumes/create", {"Name": "mine", "Labels": {"a": "b"}})
    assert status == 201
    assert made == {
        "CreatedAt": made["CreatedAt"],  # type: ignore[index]
        "Driver": "local",
        "Labels": {"a": "b"},
        "Mountpoint": str(service.path.parent / "volumes/mine/_data"),
        "Name": "mine",
        "Options": None,
        "Scope": "local",
    }
    assert service.ask("GET", "/v1.43/volumes/mine") == (200, made)
    assert service.ask("GET", "/v1.43/volumes") == (200, {"Volumes": [made], "Warnings": None})
    assert service.ask("DELETE", "/v1.43/volumes/mine") == (204, None)
    assert service.ask("GET", "/v1.43/volumes/mine") == (404, {"message": "get mine: no such volume"})


def test_a_volume_without_body_is_anonymous(service: Service) -> None:
    status, made = service.ask("POST", "/v1.43/volumes/create", {})
    assert status == 201
    assert made["Labels"] == {"com.docker.volume.anonymous": ""}  # type: ignore[index]


@pytest.mark.parametrize(
    ("body", "status"),
    [({"Name": "a/b"}, 400), ({"Name": "mine", "Driver": "x"}, 404), ({"Name": "mine", "DriverOpts": {"colour": "red"}}, 400)],
)
def test_a_volume_that_cannot_be_is_refused(service: Service, body: object, status: int) -> None:
    assert service.ask("POST", "/v1.43/volumes/create", body)[0] == status
    assert service.volumes.list() == []


def test_only_volumes_of_a_cluster_can_be_updated(service: Service) -> None:
    status, document = service.ask("PUT", "/v1.43/volumes/mine?version=1", {})
    assert (status, document) == (503, {"message": "volume update only valid for cluster volumes, but swarm is unavailable"})


def test_a_volume_in_use_is_a_conflict(service: Service) -> None:
    service.volumes.create("mine", "local", {}, {})
    service.volumes.acquire("mine", "abc")
    assert service.ask("DELETE", "/v1.43/volumes/mine") == (409, {"message": "remove mine: volume is in use - [abc]"})


@pytest.mark.parametrize(
    ("query", "names"),
    [({"dangling": "true"}, {"free"}), ({"dangling": "false"}, {"used"}), ({"name": "fr"}, {"free"}), ({"label": "a"}, {"used"})],
)
def test_volumes_are_narrowed_by_filters(service: Service, query: dict[str, str], names: set[str]) -> None:
    service.volumes.create("free", "local", {}, {})
    service.volumes.create("used", "local", {}, {"a": "b"})
    service.volumes.acquire("used", "abc")
    _, shown = service.ask("GET", f"/v1.43/volumes?filters={filters(**query)}")
    assert {each["Name"] for each in shown["Volumes"]} == names  # type: ignore[index]


@pytest.mark.parametrize(
    ("version", "query", "gone"),
    [("1.41", {}, {"named", "anonymous"}), ("1.42", {}, {"anonymous"}), ("1.42", {"all": "1"}, {"named", "anonymous"})],
)
def test_prune_takes_named_volumes_only_when_told_or_by_old_clients(
    service: Service, version: str, query: dict[str, str], gone: set[str]
) -> None:
    service.volumes.create("named", "local", {}, {})
    service.volumes.create("anonymous", "local", {}, {"com.docker.volume.anonymous": ""})
    _, report = service.ask("POST", f"/v{version}/volumes/prune?filters={filters(**query)}")
    assert set(report["VolumesDeleted"]) == gone  # type: ignore[index]


def test_dockers_client_makes_lists_and_removes_volumes(service: Service) -> None:
    assert service.docker("volume", "create", "--label", "a=b", "mine").stdout.strip() == "mine"
    assert service.docker("volume", "ls", "--format", "{{.Driver}} {{.Name}}").stdout == "local mine\n"
    assert service.docker("volume", "inspect", "-f", "{{.Labels.a}}", "mine").stdout.strip() == "b"
    assert service.docker("volume", "rm", "mine").stdout.strip() == "mine"
    assert "get mine: no such volume" in service.docker("volume", "inspect", "mine").stderr
    assert service.docker("volume", "prune", "-af").stdout == "Total reclaimed space: 0B\n"
