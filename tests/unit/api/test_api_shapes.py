"""What each version shows of a document: the tables, and the fields that came and went from 1.24 to the newest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from carrack.api import container_json, create_request, image_json, json_streams, system
from carrack.api.router import Product
from carrack.api.shapes import Field, Shape
from carrack.api.versions import DOCKER_RELEASES, MAX_VERSION
from carrack.engine.config import ContainerConfig, EndpointSettings, HostConfig
from carrack.engine.container import Container, ContainerState, HealthState
from carrack.engine.state import Status
from carrack.engine.system_information import SystemInformation
from carrack.errors import InvalidParameter
from carrack.images.image import Image
from carrack.oci.descriptor import OCI_MANIFEST, Descriptor
from carrack.oci.digest import Digest
from carrack.oci.image_config import ImageConfig

DIGEST = "sha256:" + "ab" * 32
VERSIONS = [f"1.{minor}" for minor in range(24, 57)]


def keys(document: object, prefix: str = "") -> set[str]:
    """Every path of a document, without what is below lists."""
    found: set[str] = set()
    if isinstance(document, dict):
        for name, value in document.items():
            found |= {prefix + name} | keys(value, f"{prefix}{name}.")
    return found


def changes(of: Any) -> dict[str, tuple[set[str], set[str]]]:
    """Version → (what came, what went), where something did."""
    found = {}
    before = keys(of("1.24"))
    for version in VERSIONS[1:]:
        now = keys(of(version))
        if now != before:
            found[version] = (now - before, before - now)
        before = now
    return found


def record() -> Container:
    return Container(
        "a" * 64,
        "web",
        1,
        ContainerConfig(),
        HostConfig(network_mode="bridge", annotations={"k": "v"}, kernel_memory_tcp=5),
        DIGEST,
        "busybox",
        path="sh",
        state=ContainerState(Status.RUNNING, health=HealthState("healthy")),
        networks={"bridge": EndpointSettings(ip_address="172.17.0.2")},
        image_manifest=Descriptor(OCI_MANIFEST, DIGEST, 7),
    )


def image() -> Image:
    descriptor = Descriptor(OCI_MANIFEST, DIGEST, 7)
    return Image(Digest.parse(DIGEST), ImageConfig("amd64", "linux"), None, (), (), 5, None, descriptor, descriptor, ())


def test_a_field_comes_goes_or_is_left_out_when_empty() -> None:
    shape = Shape(Field("New", since="1.40"), Field("Old", gone="1.41"), Field("In.*.Deep", omitted_empty="1.42"))

    def fit(version: str) -> object:
        return shape.fit({"New": 1, "Old": 2, "In": {"a": {"Deep": ""}, "b": {"Deep": "x"}}}, version)

    assert fit("1.39") == {"Old": 2, "In": {"a": {"Deep": ""}, "b": {"Deep": "x"}}}
    assert fit("1.41") == {"New": 1, "In": {"a": {"Deep": ""}, "b": {"Deep": "x"}}}
    assert fit("1.42") == {"New": 1, "In": {"a": {}, "b": {"Deep": "x"}}}


def test_a_line_of_containers_in_every_version() -> None:
    assert changes(lambda version: container_json.summary(record(), version)) == {
        "1.44": ({"NetworkSettings.Networks.bridge.DNSNames"}, set()),
        "1.46": ({"HostConfig.Annotations", "HostConfig.Annotations.k"}, set()),
        "1.48": (
            {"NetworkSettings.Networks.bridge.GwPriority"}
            | {f"ImageManifestDescriptor{rest}" for rest in ("", ".mediaType", ".digest", ".size")},
            set(),
        ),
        "1.52": ({"Health", "Health.Status", "Health.FailingStreak"}, set()),
    }


def test_a_container_in_every_version() -> None:
    found = changes(lambda version: container_json.inspect(record(), version))
    assert {version: sorted(came) for version, (came, _) in found.items() if came} == {
        "1.43": ["HostConfig.Annotations", "HostConfig.Annotations.k"],
        "1.44": ["NetworkSettings.Networks.bridge.DNSNames"],
        "1.48": [
            "ImageManifestDescriptor",
            "ImageManifestDescriptor.digest",
            "ImageManifestDescriptor.mediaType",
            "ImageManifestDescriptor.size",
            "NetworkSettings.Networks.bridge.GwPriority",
        ],
        "1.52": ["Storage", "Storage.RootFS", "Storage.RootFS.Snapshot", "Storage.RootFS.Snapshot.Name"],
    }
    gone = {name.rpartition(".")[2] for name in found["1.52"][1]}
    assert {"IPAddress", "Gateway", "MacAddress", "Bridge", "KernelMemoryTCP", "OnBuild", "SecondaryIPAddresses"} <= gone
    assert len(gone) == 16


def test_an_image_in_every_version() -> None:
    found = changes(lambda version: image_json.inspect(image(), version, (), "overlay2", None))
    assert found["1.44"] == (set(), {"VirtualSize", "Created"})
    assert {name.partition(".")[0] for name in found["1.45"][1]} == {"Container", "ContainerConfig"}
    assert found["1.48"][0] == {f"Descriptor{rest}" for rest in ("", ".mediaType", ".digest", ".size")}
    assert {name.removeprefix("Config.") for name in found["1.50"][1]} == {
        "Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce", "Image",
    }  # fmt: skip
    assert found["1.52"][1] == {"Parent", "Comment", "DockerVersion", "Author"} | {
        f"Config.{name}" for name in ("Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "User", "Volumes", "WorkingDir")
    }
    assert set(found) == {"1.44", "1.45", "1.48", "1.50", "1.52"}


def test_a_line_of_images_in_every_version() -> None:
    found = changes(lambda version: image_json.summary(image(), version, containers=3))
    assert set(found) == {"1.44", "1.48"}
    assert [image_json.summary(image(), version, containers=3)["Containers"] for version in ("1.50", "1.51")] == [-1, 3]


def test_info_in_every_version() -> None:
    found = changes(lambda version: system.info_json(SystemInformation(id="i"), version))
    assert {version: {name.rpartition(".")[2] for name in came} for version, (came, _) in found.items() if came} == {
        "1.44": {"CDISpecDirs"},
        "1.49": {"FirewallBackend", "Driver"},
    }
    assert {version: len(went) for version, (_, went) in found.items() if went} == {"1.25": 1, "1.49": 5, "1.50": 2}


def test_the_newest_version_has_a_release_of_docker() -> None:
    assert MAX_VERSION == "1.56"
    assert [f"1.{minor}" for minor in range(43, 57)] == list(DOCKER_RELEASES)
    assert Product(DOCKER_RELEASES[MAX_VERSION]).version == "29.8.0"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/jsonl;q=0.5, application/json-seq", "application/json-seq"),
        ("text/html, application/jsonl;q=0.1", "application/jsonl"),
        ("application/jsonl;q=0", "application/json"),
        ("application/jsonl;q=x", "application/json"),
    ],
)
def test_the_framing_of_a_stream_is_negotiated(accept: str, chosen: str) -> None:
    assert json_streams.negotiate(accept, "application/json") == chosen


def test_a_json_text_sequence_begins_each_document_with_a_record_separator() -> None:
    assert json_streams.encoder("application/json-seq")({"a": 1}) == b'\x1e{"a":1}\n'


def adapted(document: dict[str, object], version: str) -> tuple[Any, list[str]]:
    request = create_request.decode_create(json.dumps({"Image": "a", **document}).encode())
    return request, create_request.adapt(request, version)


def test_a_containers_own_hardware_address_ends_with_1_52() -> None:
    with pytest.raises(InvalidParameter, match="container-wide MAC address no longer supported"):
        adapted({"MacAddress": "02:00:00:00:00:01"}, "1.52")
    assert adapted({"MacAddress": "02:00:00:00:00:01"}, "1.51")[0].mac_address == "02:00:00:00:00:01"


def test_an_empty_list_of_bindings_is_one_of_any_port_and_warned_of_since_1_52() -> None:
    body: dict[str, object] = {"HostConfig": {"PortBindings": {"80/tcp": []}}}
    old, silent = adapted(body, "1.51")
    _, warned = adapted(body, "1.52")
    assert len(old.host_config.port_bindings["80/tcp"]) == 1
    assert (silent, len(warned)) == ([], 1)


def test_a_sysctl_of_eth0_moves_to_the_endpoint_until_1_47() -> None:
    body: dict[str, object] = {"HostConfig": {"Sysctls": {"net.ipv4.conf.eth0.log_martians": "1", "net.core.somaxconn": "9"}}}
    request, warnings = adapted(body, "1.47")
    endpoint = request.networking_config.endpoints_config["bridge"]
    assert endpoint.driver_opts == {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1"}
    assert request.host_config.sysctls == {"net.core.somaxconn": "9"}
    assert warnings[0].startswith('Migrated sysctl "net.ipv4.conf.eth0.log_martians"')
    with pytest.raises(InvalidParameter, match="must be supplied using driver option"):
        adapted(body, "1.48")


def test_old_clients_get_the_hosts_cgroup_namespace_and_shallow_read_only_binds() -> None:
    body: dict[str, object] = {"HostConfig": {"Mounts": [{"Type": "bind", "Source": "/a", "Target": "/a", "ReadOnly": True}]}}
    assert [adapted(body, version)[0].host_config.cgroupns_mode for version in ("1.40", "1.41")] == ["host", ""]
    assert adapted(body, "1.43")[0].host_config.mounts[0].bind_options.read_only_non_recursive
    assert adapted(body, "1.44")[0].host_config.mounts[0].bind_options is None


def test_capabilities_in_full_are_refused_in_the_one_version_that_had_them() -> None:
    body = b'{"Image":"a","HostConfig":{"Capabilities":["CAP_KILL"]}}'
    create_request.check_legacy(body, "1.41")
    with pytest.raises(InvalidParameter, match="Capabilities is no longer supported"):
        create_request.check_legacy(body, "1.40")


def test_annotations_narrow_a_list() -> None:
    from carrack.engine.filters import Filters
    from carrack.engine.listing import select

    def shown(*wanted: str) -> int:
        return len(select([record()], Filters({"annotation": wanted}), all=True, limit=0))

    assert [shown("k"), shown("k=v"), shown("k=w"), shown("other"), shown("k", "k=v")] == [1, 1, 0, 0, 1]
