"""The daemon's configuration at work: what reload changes, what `info` says, which versions are served, what metrics show."""

import json
import os
import re
import signal
import time
import urllib.request
from typing import Any

import pytest

from tests.conftest import MakeEngine
from tests.rig.engine import CommandLine, Engine, docker_program
from tests.rig.ports import FreePort
from tests.rig.waiting import until

pytestmark = pytest.mark.peer_lacks("its own names and defaults")


def configure(engine: Engine, document: object) -> None:
    (engine.folder / "daemon.json").write_text(json.dumps(document))


def reload(engine: Engine) -> None:
    assert engine.process is not None
    os.kill(engine.process.pid, signal.SIGHUP)


def info(engine: Engine) -> Any:
    return engine.api("GET", "/info").json


@pytest.mark.observes("GET /info", "GET /events")
def test_a_reload_changes_labels_registries_and_debug_and_is_told(make_engine: MakeEngine) -> None:
    engine = make_engine(start=False)
    configure(engine, {"labels": ["tier=one"]})
    engine.start()
    assert (info(engine)["Labels"], info(engine)["Debug"]) == (["tier=one"], False)
    before = f"{time.time():.3f}"
    wanted = {
        "labels": ["tier=two"],
        "debug": True,
        "insecure-registries": ["reg.example:5000", "10.0.0.0/8"],
        "registry-mirrors": ["https://mirror.example"],
    }
    configure(engine, wanted)
    reload(engine)
    until(lambda: info(engine)["Labels"] == ["tier=two"], "the reload")
    shown = info(engine)
    assert shown["Debug"] is True
    assert "10.0.0.0/8" in shown["RegistryConfig"]["InsecureRegistryCIDRs"]
    assert shown["RegistryConfig"]["IndexConfigs"]["reg.example:5000"]["Secure"] is False
    assert shown["RegistryConfig"]["Mirrors"] == ["https://mirror.example/"]
    told = engine.api("GET", f"/v1.41/events?since={before}&until={time.time() + 0.01:.3f}").body.decode().splitlines()
    (event,) = [json.loads(line) for line in told if json.loads(line)["Action"] == "reload"]
    assert (event["Type"], event["Actor"]["Attributes"]["labels"]) == ("daemon", '["tier=two"]')


def test_a_wrong_file_at_reload_changes_nothing_and_the_daemon_goes_on(make_engine: MakeEngine) -> None:
    engine = make_engine(start=False)
    configure(engine, {"labels": ["tier=one"]})
    engine.start()
    configure(engine, {"labels": ["tier=two"], "nonsense": True})
    reload(engine)
    until(lambda: "the following directives don't match any configuration option: nonsense" in engine.log_tail(), "the refusal")
    assert info(engine)["Labels"] == ["tier=one"]


@pytest.mark.observes("GET /info")
def test_containers_get_the_defaults_of_the_configuration(make_engine: MakeEngine) -> None:
    engine = make_engine(start=False)
    document = {
        "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 321, "Hard": 654}},
        "default-shm-size": "3m",
        "no-new-privileges": True,
    }
    configure(engine, document)
    engine.start()
    cli = CommandLine(engine, [docker_program()])
    engine.api("POST", "/images/load?quiet=1", _busybox(), headers={"Content-Type": "application/x-tar"})
    script = "ulimit -n; df -P /dev/shm | tail -1 | awk '{print $2}'; grep NoNewPrivs /proc/self/status"
    assert cli.shell(script).ok().split() == ["321", "3072", "NoNewPrivs:", "1"]
    assert cli.shell("ulimit -n", "--ulimit", "nofile=77").ok() == "77"
    assert "name=no-new-privileges" in info(engine)["SecurityOptions"]


def _busybox() -> bytes:
    from tests.rig.archives import Recipe, busybox_entries, docker_archive, tar

    return docker_archive(Recipe((tar(busybox_entries()),), ("busybox:latest",), {"Cmd": ["sh"]}, ("busybox",)))


@pytest.mark.observes("GET /version")
def test_the_oldest_version_served_is_a_setting(make_engine: MakeEngine) -> None:
    engine = make_engine("--min-api-version", "1.44", start=False)
    engine.start()
    assert engine.api("GET", "/version").json["MinAPIVersion"] == "1.44"
    refused = engine.api("GET", "/v1.43/info")
    assert (refused.status, refused.json["message"]) == (
        400,
        "client version 1.43 is too old. Minimum supported API version is 1.44, please upgrade your client to a newer version",
    )
    assert engine.api("GET", "/v1.44/info").status == 200


def test_a_configuration_can_be_checked_without_starting(make_engine: MakeEngine) -> None:
    engine = make_engine(start=False)
    for document, code, said in (
        ({"labels": ["a=b"]}, 0, "configuration OK"),
        ({"iptables": False}, 1, "iptables cannot be false"),
    ):
        configure(engine, document)
        ended = engine.on_host(*engine.argv()[len(engine.host_prefix()) :], "--validate")
        assert (ended.code, said in ended.stdout + ended.stderr) == (code, True)


@pytest.mark.observes("GET /metrics")
def test_metrics_show_the_engine_and_its_containers(make_engine: MakeEngine, free_port: FreePort) -> None:
    port = free_port()
    engine = make_engine("--metrics-addr", f"127.0.0.1:{port}")
    cli = CommandLine(engine, [docker_program()])
    container = cli.ok("run", "-d", "--name", "busy", "--memory", "64m", "busybox", "sh", "-c", "while :; do :; done")
    cli.ok("create", "--name", "idle", "busybox")

    def page() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            return str(answer.read().decode())

    def figure(name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", page(), re.MULTILINE)
        assert found is not None, name
        return float(found[1])

    labels = f'id="{container}",name="busy",image="busybox"'
    assert figure('engine_daemon_container_states_containers{state="running"}') == 1
    assert figure('engine_daemon_container_states_containers{state="stopped"}') == 1
    assert figure('engine_daemon_container_actions_seconds_count{action="create"}') == 2
    assert figure('engine_daemon_container_actions_seconds_bucket{action="start",le="+Inf"}') == 1
    assert figure(f"carrack_container_memory_limit_bytes{{{labels}}}") == 64 << 20
    first = figure(f"carrack_container_cpu_seconds_total{{{labels}}}")
    until(lambda: figure(f"carrack_container_cpu_seconds_total{{{labels}}}") > first, "the container to use the processor")
    assert 'name="idle"' not in page()
    for line in page().splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) \S+ .+|[a-z_]+(\{([a-z_]+="(\\.|[^"\\])*",?)+\})? [0-9.e+-]+', line), line
