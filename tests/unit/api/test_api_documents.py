"""Documents and durations in Docker's words, and create requests in the meaning of their version."""

from __future__ import annotations

import pytest

from carrack.api.container_json import inspect, status_line, summary
from carrack.api.create_request import adapt, decode_create
from carrack.api.moments import human_duration, parse_timestamp, rfc3339
from carrack.engine.config import ContainerConfig, CreateRequest, EndpointSettings, HostConfig
from carrack.engine.container import Container, ContainerState, HealthState, MountPoint
from carrack.engine.state import Status
from carrack.errors import InvalidParameter

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (MINUTE, "About a minute"),
        (2 * MINUTE, "2 minutes"),
        (HOUR, "About an hour"),
        (1.6 * HOUR, "2 hours"),
        (47 * HOUR, "47 hours"),
        (2 * DAY, "2 days"),
        (14 * DAY, "2 weeks"),
        (60 * DAY, "2 months"),
        (800 * DAY, "2 years"),
    ],
)
def test_a_duration_is_told_as_docker_tells_it(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_a_moment_is_written_as_go_writes_it() -> None:
    assert rfc3339(0) == "0001-01-01T00:00:00Z"
    assert rfc3339(1_700_000_000_000_000_000) == "2023-11-14T22:13:20Z"
    assert rfc3339(1_700_000_000_120_000_000) == "2023-11-14T22:13:20.12Z"


@pytest.mark.parametrize(("text", "value"), [("", 0), ("5", 5 * 10**9), ("5.5", 5_500_000_000), ("1.000000001", 1_000_000_001)])
def test_a_timestamp_is_seconds_with_a_fraction(text: str, value: int) -> None:
    assert parse_timestamp(text, "since") == value


NOW = 1_000_000 * 10**9


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (ContainerState(), "Created"),
        (ContainerState(Status.RUNNING, started_at_nanoseconds=NOW - 5 * 10**9), "Up 5 seconds"),
        (ContainerState(Status.PAUSED, started_at_nanoseconds=NOW - 5 * 10**9), "Up 5 seconds (Paused)"),
        (
            ContainerState(Status.RUNNING, started_at_nanoseconds=NOW - 5 * 10**9, health=HealthState()),
            "Up 5 seconds (health: starting)",
        ),
        (
            ContainerState(Status.RUNNING, started_at_nanoseconds=NOW - 5 * 10**9, health=HealthState("healthy")),
            "Up 5 seconds (healthy)",
        ),
        (
            ContainerState(Status.EXITED, exit_code=3, started_at_nanoseconds=1, finished_at_nanoseconds=NOW - 9 * 10**9),
            "Exited (3) 9 seconds ago",
        ),
        (ContainerState(Status.RESTARTING, exit_code=1, finished_at_nanoseconds=NOW - 10**9), "Restarting (1) 1 second ago"),
        (ContainerState(Status.REMOVING), "Removal In Progress"),
        (ContainerState(Status.DEAD), "Dead"),
    ],
)
def test_the_status_line_says_how_a_container_stands(state: ContainerState, line: str) -> None:
    assert status_line(state, NOW) == line


def record() -> Container:
    return Container(
        "a" * 64,
        "web",
        NOW,
        ContainerConfig(),
        HostConfig(annotations={"k": "v"}),
        "sha256:x",
        "busybox",
        path="sh",
        networks={"mine": EndpointSettings(aliases=["db"])},
    )


def test_annotations_are_in_the_list_since_1_46() -> None:
    assert "Annotations" not in str(summary(record(), "1.45")["HostConfig"])
    assert summary(record(), "1.46")["HostConfig"] == {"NetworkMode": "", "Annotations": {"k": "v"}}


def test_the_short_id_is_an_alias_before_1_45() -> None:
    def aliases(version: str) -> object:
        settings = inspect(record(), version)["NetworkSettings"]
        assert isinstance(settings, dict)
        return settings["Networks"]["mine"]["Aliases"]

    assert aliases("1.44") == ["db", "aaaaaaaaaaaa"]
    assert aliases("1.45") == ["db"]


def test_a_tmpfs_of_the_host_config_is_no_mount() -> None:
    container = record()
    container.host_config.tmpfs = {"/run": ""}
    container.mounts = [MountPoint("tmpfs", "", "/run"), MountPoint("tmpfs", "", "/cache")]
    shown = summary(container, "1.43")["Mounts"]
    assert isinstance(shown, list)
    assert [mount["Destination"] for mount in shown] == ["/cache"]


def test_a_command_without_arguments_is_its_path() -> None:
    assert summary(record(), "1.43")["Command"] == "sh"


def adapted(body: bytes, version: str) -> tuple[CreateRequest, list[str]]:
    request = decode_create(body)
    return request, adapt(request, version)


def test_the_default_network_has_a_name() -> None:
    request, _ = adapted(b'{"Image":"a","NetworkingConfig":{"EndpointsConfig":{"default":{"Aliases":["x"]}}}}', "1.43")
    assert request.host_config.network_mode == "bridge"
    assert list(request.networking_config.endpoints_config or {}) == ["bridge"]


@pytest.mark.parametrize(("version", "removed"), [("1.24", False), ("1.25", True)])
def test_automatic_removal_was_the_clients_before_1_25(version: str, removed: bool) -> None:
    assert adapted(b'{"Image":"a","HostConfig":{"AutoRemove":true}}', version)[0].host_config.auto_remove is removed


def test_console_size_counts_since_1_42() -> None:
    body = b'{"Image":"a","HostConfig":{"ConsoleSize":[24,80]}}'
    assert adapted(body, "1.41")[0].host_config.console_size == (0, 0)
    assert adapted(body, "1.42")[0].host_config.console_size == (24, 80)


def test_options_of_another_mount_type_are_refused_since_1_42() -> None:
    body = b'{"Image":"a","HostConfig":{"Mounts":[{"Type":"bind","VolumeOptions":{}}]}}'
    mounts = adapted(body, "1.41")[0].host_config.mounts
    assert mounts is not None
    assert mounts[0].volume_options is None
    with pytest.raises(InvalidParameter, match='VolumeOptions must not be specified on mount type "bind"'):
        adapted(body, "1.42")


@pytest.mark.parametrize(
    ("body", "version", "text"),
    [
        (
            b'{"Image":"a","NetworkingConfig":{"EndpointsConfig":{"x":{},"y":{}}}}',
            "1.43",
            "Container cannot be created with multiple network endpoints: x, y",
        ),
        (
            b'{"Image":"a","HostConfig":{"Mounts":[{"Type":"volume","VolumeOptions":{"Subpath":"s"}}]}}',
            "1.44",
            "VolumeOptions.Subpath needs API v1.45 or newer",
        ),
        (
            b'{"Image":"a","HostConfig":{"Mounts":[{"Type":"image"}]}}',
            "1.47",
            'Mount type "Image" needs API v1.48 or newer',
        ),
        (
            b'{"Image":"a","MacAddress":"02:00:00:00:00:01","HostConfig":{"NetworkMode":"host"}}',
            "1.43",
            "conflicting options: mac-address and the network mode",
        ),
    ],
)
def test_what_a_version_does_not_have_is_refused_by_name(body: bytes, version: str, text: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        adapted(body, version)
    assert caught.value.message == text


def test_the_hardware_address_belongs_to_the_main_network() -> None:
    body = b'{"Image":"a","MacAddress":"02:00:00:00:00:01"}'
    for version in ("1.43", "1.44"):
        request, warnings = adapted(body, version)
        endpoint = (request.networking_config.endpoints_config or {})["bridge"]
        assert endpoint is not None
        assert endpoint.mac_address == "02:00:00:00:00:01"
        assert bool(warnings) is (version == "1.44")


def test_an_endpoints_hardware_address_did_not_count_before_1_44() -> None:
    body = b'{"Image":"a","NetworkingConfig":{"EndpointsConfig":{"bridge":{"MacAddress":"02:00:00:00:00:01"}}}}'
    for version, address in (("1.43", ""), ("1.44", "02:00:00:00:00:01")):
        endpoint = (adapted(body, version)[0].networking_config.endpoints_config or {})["bridge"]
        assert endpoint is not None
        assert endpoint.mac_address == address
