"""volume ls and inspect, and the events that containers, images, networks and volumes make."""

import json
import time
from contextlib import closing
from threading import Thread

import pytest

from tests.rig.engine import CommandLine, Engine

pytestmark = pytest.mark.both_clients


def now() -> str:
    """The time as `--since` and `--until` take it."""
    return f"{time.time():.6f}"


@pytest.mark.observes(
    "docker volume create --label",
    "docker volume ls --filter",
    "docker volume ls --format",
    "docker volume ls --quiet",
    "docker volume ls",
    "docker volume create",
    "GET /volumes",
    "POST /volumes/create",
)
def test_volume_ls_lists_names_and_filters(cli: CommandLine) -> None:
    assert cli.ok("volume", "create", "--label", "role=db", "alpha") == "alpha"
    cli.ok("create", "--name", "user", "-v", "beta:/b", "busybox", "true")
    assert cli.ok("volume", "ls", "-q").split() == ["alpha", "beta"]
    assert cli.ok("volume", "ls", "-q", "--filter", "label=role=db") == "alpha"
    assert cli.ok("volume", "ls", "-q", "--filter", "dangling=true") == "alpha"
    assert cli.ok("volume", "ls", "-q", "--filter", "name=bet") == "beta"
    assert cli.ok("volume", "ls", "--format", "{{.Driver}} {{.Name}}").splitlines() == ["local alpha", "local beta"]


@pytest.mark.observes("docker volume inspect", "GET /volumes/{name}")
def test_volume_inspect_shows_where_the_content_is(cli: CommandLine) -> None:
    cli.ok("run", "--rm", "-v", "gamma:/g", "busybox", "sh", "-c", "echo inside > /g/f")
    shown = json.loads(cli.ok("volume", "inspect", "gamma"))[0]
    assert (shown["Name"], shown["Driver"], shown["Scope"]) == ("gamma", "local", "local")
    assert cli.engine.on_host("cat", shown["Mountpoint"] + "/f").ok() == "inside"


@pytest.mark.observes("docker volume rm", "DELETE /volumes/{name}")
def test_volume_rm_refuses_one_in_use(cli: CommandLine) -> None:
    container_id = cli.ok("create", "--name", "user", "-v", "delta:/d", "busybox", "true")
    ended = cli("volume", "rm", "delta")
    assert ended.code == 1
    assert f"remove delta: volume is in use - [{container_id}]" in ended.stderr
    cli.ok("rm", "user")
    assert cli.ok("volume", "rm", "delta") == "delta"


@pytest.mark.observes("GET /volumes/{name}")
def test_an_unknown_volume_is_named(cli: CommandLine) -> None:
    ended = cli("volume", "inspect", "nothing")
    assert ended.code == 1
    assert "no such volume" in ended.stderr.lower()


@pytest.mark.observes("docker events --format", "docker events", "GET /events")
def test_a_containers_life_is_told_in_order(cli: CommandLine) -> None:
    words = ("--filter", "type=container", "--format", '{{.Action}} {{index .Actor.Attributes "name"}}')
    with cli.pipes("events", "--since", now(), *words) as events:
        cli.ok("run", "--name", "lived", "busybox", "true")
        cli.ok("rm", "lived")
        events.expect("destroy lived")
        told = [line for line in events.seen.splitlines() if line.endswith(" lived")]
    assert [line.split()[0] for line in told] == ["create", "attach", "start", "die", "destroy"]


@pytest.mark.observes("docker events")
def test_a_death_by_kill_tells_signal_and_code(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "victim", "busybox", "sleep", "1000")
    with cli.pipes("events", "--since", now(), "--filter", "container=victim", "--format", "{{json .}}") as events:
        cli.ok("kill", "victim")
        events.expect('"Action":"die".*\n')
        told = [json.loads(line) for line in events.seen.splitlines()]
    (kill,) = (event for event in told if event["Action"] == "kill")
    die = next(event for event in told if event["Action"] == "die")
    assert {event["Type"] for event in told} == {"container"}
    assert (kill["Action"], kill["Actor"]["Attributes"]["signal"]) == ("kill", "9")
    assert die["Actor"]["Attributes"]["exitCode"] == "137"
    assert die["timeNano"] // 10**9 == die["time"]


@pytest.mark.observes("GET /events", "docker restart", "docker kill")
@pytest.mark.parametrize(("end", "states"), [("kill", {"exited"}), ("restart", {"restarting", "running"})])
def test_who_hears_of_a_death_finds_the_container_dead_or_restarting(engine: Engine, end: str, states: set[str]) -> None:
    """Compose asks at that moment, and by the answer `up` ends or `logs -f` goes on."""
    client = engine.docker_py()
    seen = []
    with closing(client), closing(client.events(filters={"event": "die"}, decode=True)) as deaths:
        for _ in range(5):
            container = client.containers.run("busybox", "sleep 1000", detach=True)
            asking = Thread(target=lambda container=container: container.kill() if end == "kill" else container.restart(timeout=0))
            asking.start()
            assert next(deaths)["Actor"]["ID"] == container.id
            seen.append(engine.api("GET", f"/containers/{container.id}/json").json["State"]["Status"])
            asking.join()
            container.remove(force=True)
            while end == "restart" and next(deaths)["Actor"]["ID"] != container.id:
                pass
    between = {"exited"} if engine.kind == "dockerd" else set()  # it calls a restart no restart (moby#45538)
    assert set(seen) <= states | between, seen


@pytest.mark.observes("docker events --since", "docker events --until")
def test_past_events_can_be_asked_for(cli: CommandLine) -> None:
    before = now()
    cli.ok("run", "--name", "past", "busybox", "true")
    words = ("events", "--since", before, "--until", now(), "--filter", "container=past", "--format", "{{.Action}}")
    assert cli.ok(*words).split() == ["create", "attach", "start", "die"]


@pytest.mark.observes("docker events --filter")
def test_images_networks_and_volumes_make_events(cli: CommandLine) -> None:
    before = now()
    cli.ok("tag", "busybox", "other:1")
    cli.ok("rmi", "other:1")
    cli.ok("run", "--rm", "-v", "told:/t", "busybox", "true")
    cli.ok("volume", "rm", "told")
    words = ("events", "--since", before, "--until", now(), "--format", "{{.Type}} {{.Action}}")
    told = cli.ok(*words).splitlines()
    wanted = ["image tag", "image untag", "volume create", "network connect", "volume mount", "network disconnect"]
    for event in [*wanted, "volume unmount", "volume destroy"]:
        assert event in told, event
    assert cli.ok(*words, "--filter", "event=untag").splitlines()[-1] == "image untag"
    assert not [line for line in cli.ok(*words, "--filter", "type=volume").splitlines() if not line.startswith("volume")]
