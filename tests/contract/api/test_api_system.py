"""ping, version, info, df and events."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from carrack.api.versions import MAX_VERSION
from tests.contract.api.conftest import Daemon
from tests.contract.api.engine_double import container

DaemonOf = Callable[..., Daemon]


@pytest.mark.parametrize("path", ["/_ping", "/v1.43/_ping"])
def test_ping_says_ok_and_names_the_builder(daemon_of: DaemonOf, path: str) -> None:
    status, headers, body = daemon_of().ask("GET", path)
    assert (status, body) == (200, b"OK")
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert (headers["builder-version"], headers["swarm"], headers["pragma"]) == ("1", "inactive", "no-cache")
    assert headers["cache-control"] == "no-cache, no-store, must-revalidate"


def test_ping_by_head_has_no_length(daemon_of: DaemonOf) -> None:
    with daemon_of().connect() as client:
        client.send("HEAD /_ping HTTP/1.1", "Host: d")
        line, headers = client.head()
        assert (line, headers["content-length"], headers["api-version"]) == ("HTTP/1.1 200 OK", "0", MAX_VERSION)


def test_version_names_both_bounds_and_the_product(daemon_of: DaemonOf) -> None:
    found = json.loads(daemon_of().ask("GET", "/version")[2])
    assert (found["ApiVersion"], found["MinAPIVersion"], found["Version"]) == (MAX_VERSION, "1.24", "24.0.9+carrack0.1.0")
    assert found["Components"][0]["Name"] == "Engine"
    assert found["Components"][0]["Details"]["KernelVersion"] == "6.18.0"


def test_info_leaves_out_what_the_version_does_not_know(daemon_of: DaemonOf) -> None:
    daemon = daemon_of(container("web"))
    new = json.loads(daemon.ask("GET", "/v1.50/info")[2])
    old = json.loads(daemon.ask("GET", "/v1.43/info")[2])
    assert {"FirewallBackend", "CDISpecDirs"} <= new.keys()
    assert not {"FirewallBackend", "CDISpecDirs"} & old.keys()
    assert "BridgeNfIptables" in old
    assert "BridgeNfIptables" not in new
    assert (old["RuncCommit"], new["RuncCommit"]) == ({"ID": "", "Expected": ""}, {"ID": ""})
    assert "AllowNondistributableArtifactsCIDRs" in old["RegistryConfig"]
    assert "AllowNondistributableArtifactsCIDRs" not in new["RegistryConfig"]
    assert (new["Containers"], new["Swarm"]["LocalNodeState"]) == (1, "inactive")


def test_df_counts_only_what_was_asked(daemon_of: DaemonOf) -> None:
    daemon = daemon_of(container("web"))
    everything = json.loads(daemon.ask("GET", "/v1.43/system/df")[2])
    assert everything["LayersSize"] == 4096
    assert everything["Containers"][0]["SizeRootFs"] == 1000
    some = json.loads(daemon.ask("GET", "/v1.43/system/df?type=volume")[2])
    assert (some["Containers"], some["Volumes"]) == (None, [])
    assert daemon.ask("GET", "/v1.43/system/df?type=nonsense")[0] == 400


def test_events_are_sent_as_they_happen(daemon_of: DaemonOf) -> None:
    daemon = daemon_of()
    with daemon.connect() as client:
        client.send('GET /v1.43/events?filters={"type":["container"]} HTTP/1.1', "Host: d")
        _, headers = client.head()
        assert headers["content-type"] == "application/json"
        daemon.engine.events.emit("network", "create", "n", {})
        daemon.engine.events.emit("container", "start", "c", {"image": "busybox", "name": "web"})
        event = json.loads(client.chunk())
    nanoseconds = event.pop("timeNano")
    assert event.pop("time") == nanoseconds // 10**9
    assert event == {
        "status": "start",
        "id": "c",
        "from": "busybox",
        "Type": "container",
        "Action": "start",
        "Actor": {"ID": "c", "Attributes": {"image": "busybox", "name": "web"}},
        "scope": "local",
    }


def test_events_up_to_a_past_moment_end(daemon_of: DaemonOf) -> None:
    daemon = daemon_of()
    daemon.engine.events.emit("volume", "create", "v", {})
    _, _, body = daemon.ask("GET", "/events?since=1&until=2")
    assert body == b""


def test_events_that_end_before_they_begin_are_refused(daemon_of: DaemonOf) -> None:
    status, _, body = daemon_of().ask("GET", "/events?since=20&until=10")
    assert (status, json.loads(body)["message"]) == (400, "`since` time (20) cannot be after `until` time (10)")


def test_a_listener_that_leaves_is_forgotten(daemon_of: DaemonOf) -> None:
    daemon = daemon_of()
    with daemon.connect() as client:
        client.send("GET /events HTTP/1.1", "Host: d")
        client.head()
        assert len(daemon.engine.events._listeners) == 1
    daemon.server.run(daemon.server.server.close(10))
    assert not daemon.engine.events._listeners
