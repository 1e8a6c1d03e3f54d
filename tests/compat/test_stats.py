"""stats: what containers use, as a stream, once, and to the command line."""

import re
import time
from typing import Any

import pytest

from tests.rig.engine import CommandLine, Engine
from tests.rig.json_stream import JsonStream


def cpu_percent(stats: dict[str, Any]) -> float:
    """Docker's own formula, as its documentation gives it."""
    now, before = stats["cpu_stats"], stats["precpu_stats"]
    spent = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    passed = now["system_cpu_usage"] - before["system_cpu_usage"]
    return float(spent / passed * now["online_cpus"] * 100.0)


def once(engine: Engine, name: str, query: str = "stream=0") -> dict[str, Any]:
    reply = engine.api("GET", f"/containers/{name}/stats?{query}")
    assert reply.status == 200, reply.body
    found = reply.json
    assert isinstance(found, dict)
    return found


@pytest.mark.observes("GET /containers/{id}/stats")
def test_dockers_formula_tells_a_busy_container_from_an_idle_one(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "busy", "busybox", "sh", "-c", "while :; do :; done")
    cli.ok("run", "-d", "--name", "idle", "busybox", "sleep", "1000")
    busy, idle = once(cli.engine, "busy"), once(cli.engine, "idle")
    assert 5 < cpu_percent(busy) < 130
    assert 0 <= cpu_percent(idle) < 3
    assert busy["name"] == "/busy"
    assert busy["preread"] < busy["read"]


@pytest.mark.observes("GET /containers/{id}/stats")
def test_memory_and_processes_are_counted_against_their_limits(cli: CommandLine) -> None:
    script = "sleep 1000 & head -c 8000000 /dev/zero >/dev/shm/held; wait"
    cli.ok("run", "-d", "--name", "held", "-m", "64m", "--pids-limit", "50", "busybox", "sh", "-c", script)
    deadline = time.monotonic() + 20
    while (found := once(cli.engine, "held"))["memory_stats"]["usage"] < 8_000_000 and time.monotonic() < deadline:
        pass
    assert found["memory_stats"]["usage"] >= 8_000_000
    assert found["memory_stats"]["limit"] == 64 << 20
    assert found["memory_stats"]["stats"]
    assert found["pids_stats"]["limit"] == 50
    assert found["pids_stats"]["current"] == 2


@pytest.mark.observes("GET /containers/{id}/stats")
def test_without_a_limit_memory_is_measured_by_the_machines(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "free", "busybox", "sleep", "1000")
    kilobytes = int(re.findall(r"MemTotal: +(\d+)", cli.engine.on_host("cat", "/proc/meminfo").ok())[0])
    assert once(cli.engine, "free")["memory_stats"]["limit"] == pytest.approx(kilobytes << 10)


@pytest.mark.observes("GET /containers/{id}/stats")
def test_network_traffic_is_counted_by_interface(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "talker", "busybox", "sleep", "1000")
    gateway = cli.ok("inspect", "-f", "{{.NetworkSettings.Networks.bridge.Gateway}}", "talker")
    before = once(cli.engine, "talker", "stream=0&one-shot=1")["networks"]
    assert set(before) == {"eth0"}
    cli.ok("exec", "talker", "ping", "-c", "3", "-i", "0.1", "-s", "1000", gateway)
    after = once(cli.engine, "talker", "stream=0&one-shot=1")["networks"]
    assert after["eth0"]["tx_bytes"] - before["eth0"]["tx_bytes"] >= 3000
    assert after["eth0"]["rx_packets"] - before["eth0"]["rx_packets"] >= 3


@pytest.mark.observes("GET /containers/{id}/stats")
def test_a_container_without_interfaces_of_its_own_has_no_networks(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "none", "--network", "none", "busybox", "sleep", "1000")
    cli.ok("run", "-d", "--name", "hosts", "--network", "host", "busybox", "sleep", "1000")
    assert not once(cli.engine, "none", "stream=0&one-shot=1").get("networks")
    assert not once(cli.engine, "hosts", "stream=0&one-shot=1").get("networks")


@pytest.mark.observes("GET /containers/{id}/stats")
def test_what_is_written_past_the_cache_is_block_io(cli: CommandLine) -> None:
    script = "dd if=/dev/zero of=/here bs=1M count=4 oflag=direct 2>/dev/null; sleep 1000"
    cli.ok("run", "-d", "--name", "writer", "busybox", "sh", "-c", script)
    deadline = time.monotonic() + 20
    written = 0
    while written < 4 << 20 and time.monotonic() < deadline:
        rows = once(cli.engine, "writer")["blkio_stats"]["io_service_bytes_recursive"] or []
        written = sum(row["value"] for row in rows if row["op"].lower() == "write")
    assert written >= 4 << 20


@pytest.mark.observes("GET /containers/{id}/stats")
def test_a_stream_begins_at_once_and_goes_on(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "one", "busybox", "sleep", "1000")
    with JsonStream(cli.engine.socket, "/containers/one/stats") as stream:
        first, second = stream.next(), stream.next()
    assert first["precpu_stats"].get("system_cpu_usage", 0) == 0
    assert second["preread"] == first["read"]
    assert second["precpu_stats"]["system_cpu_usage"] == first["cpu_stats"]["system_cpu_usage"]


@pytest.mark.observes("GET /containers/{id}/stats")
def test_one_shot_answers_at_once_without_a_sample_before(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "one", "busybox", "sleep", "1000")
    found = once(cli.engine, "one", "stream=0&one-shot=1")
    assert found["preread"] == "0001-01-01T00:00:00Z"
    assert found["cpu_stats"]["cpu_usage"]["total_usage"] > 0
    refused = cli.engine.api("GET", "/containers/one/stats?stream=1&one-shot=1")
    assert (refused.status, refused.message) == (400, "cannot have stream=true and one-shot=true")


@pytest.mark.observes("GET /containers/{id}/stats")
def test_what_does_not_run_uses_nothing_and_what_is_not_there_is_not_found(cli: CommandLine) -> None:
    cli.ok("create", "--name", "still", "busybox", "true")
    found = once(cli.engine, "still")
    assert found["read"] == "0001-01-01T00:00:00Z"
    assert found["memory_stats"] == {}
    assert found["cpu_stats"]["cpu_usage"]["total_usage"] == 0
    missing = cli.engine.api("GET", "/containers/nobody/stats?stream=0")
    assert (missing.status, missing.message) == (404, "No such container: nobody")


@pytest.mark.observes("GET /containers/{id}/stats")
def test_a_stream_lives_through_a_stop_and_ends_with_the_removal(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "one", "busybox", "sleep", "1000")
    with JsonStream(cli.engine.socket, "/containers/one/stats") as stream:
        assert stream.next()["pids_stats"]["current"] == 1
        cli.ok("stop", "-t", "0", "one")
        while stream.next()["pids_stats"].get("current"):
            pass
        cli.ok("rm", "one")
        while stream.next() is not None:
            pass


@pytest.mark.observes("GET /containers/{id}/stats")
def test_all_who_watch_a_container_see_the_same_samples(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "one", "busybox", "sleep", "1000")
    streams = [JsonStream(cli.engine.socket, "/containers/one/stats") for _ in range(10)]
    try:
        seen = [{stream.next()["read"] for _ in range(3)} for stream in streams]
    finally:
        for stream in streams:
            stream.close()
    assert len(set().union(*seen)) <= 4


@pytest.mark.both_clients
@pytest.mark.observes("docker stats", "docker stats --no-stream", "docker stats --format")
def test_the_command_line_prints_a_row(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "shown", "-m", "64m", "busybox", "sleep", "1000")
    row = cli.ok("stats", "--no-stream", "--format", "{{.Name}}|{{.CPUPerc}}|{{.MemUsage}}|{{.NetIO}}|{{.BlockIO}}|{{.PIDs}}")
    assert re.fullmatch(
        r"shown\|\d+\.\d\d%\|[\d.]+[KM]?i?B / 64MiB\|[\d.]+[kM]?B / [\d.]+[kM]?B\|[\d.]+[kM]?B / [\d.]+[kM]?B\|1", row
    )


@pytest.mark.both_clients
@pytest.mark.observes("docker stats --all", "docker stats --no-trunc")
def test_all_shows_those_that_do_not_run(cli: CommandLine) -> None:
    identity = cli.ok("create", "--name", "still", "busybox", "true")
    assert cli.ok("stats", "--no-stream", "--format", "{{.Name}}") == ""
    assert cli.ok("stats", "--no-stream", "-a", "--no-trunc", "--format", "{{.ID}}").split() == [identity]


@pytest.mark.both_clients
@pytest.mark.observes("docker stats")
def test_the_live_view_is_redrawn(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "shown", "busybox", "sleep", "1000")
    with cli.terminal("stats", "shown") as view:
        view.expect("shown")
        view.expect(r"\x1b\[")
        view.expect("shown")
