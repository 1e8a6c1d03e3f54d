"""ps with its filters and formats, inspect, port, top: what they tell about containers."""

import json
import re

import pytest

from tests.rig.engine import CommandLine
from tests.rig.ports import FreePort
from tests.rig.waiting import until

pytestmark = pytest.mark.both_clients


@pytest.fixture
def fleet(cli: CommandLine) -> dict[str, str]:
    """A running, an exited and a created container, by name."""
    return {
        "runs": cli.ok("run", "-d", "--name", "runs", "--label", "role=web", "busybox", "sleep", "1000"),
        "ended": _ended(cli),
        "waits": cli.ok("create", "--name", "waits", "--label", "role=db", "busybox", "true"),
    }


def _ended(cli: CommandLine) -> str:
    assert cli("run", "--name", "ended", "busybox", "sh", "-c", "exit 3").code == 3
    return cli.ok("inspect", "--format", "{{.Id}}", "ended")


def names(cli: CommandLine, *args: str) -> list[str]:
    return cli.ok("ps", *args, "--format", "{{.Names}}").split()


@pytest.mark.observes("docker ps")
@pytest.mark.usefixtures("fleet")
def test_ps_lists_what_runs(cli: CommandLine) -> None:
    assert names(cli) == ["runs"]


@pytest.mark.observes("docker ps --all")
@pytest.mark.usefixtures("fleet")
def test_ps_all_lists_the_newest_first(cli: CommandLine) -> None:
    assert names(cli, "-a") == ["waits", "ended", "runs"]


@pytest.mark.observes("docker ps")
def test_ps_prints_dockers_table(cli: CommandLine, fleet: dict[str, str]) -> None:
    head, row = cli.ok("ps").splitlines()
    assert head.split("  ")[0] == "CONTAINER ID"
    assert re.split(r"\s{2,}", head.strip()) == ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    cells = re.split(r"\s{2,}", row.strip())
    assert cells[:3] == [fleet["runs"][:12], "busybox", '"sleep 1000"']
    assert re.fullmatch(r"(Less than a second|\d+ seconds?|About a minute) ago", cells[3])
    assert re.fullmatch(r"Up (Less than a second|\d+ seconds?|About a minute)", cells[4])
    assert cells[-1] == "runs"


@pytest.mark.observes("docker ps --no-trunc", "docker ps --quiet")
def test_ps_quiet_and_no_trunc(cli: CommandLine, fleet: dict[str, str]) -> None:
    assert cli.ok("ps", "-q") == fleet["runs"][:12]
    assert cli.ok("ps", "-q", "--no-trunc") == fleet["runs"]


@pytest.mark.observes("docker ps --last", "docker ps --latest")
@pytest.mark.usefixtures("fleet")
def test_ps_last_counts_all_states(cli: CommandLine) -> None:
    assert names(cli, "-l") == ["waits"]
    assert names(cli, "-n", "2") == ["waits", "ended"]


@pytest.mark.observes("docker ps --filter")
@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["name=run"], ["runs"]),
        (["name=^/ended$"], ["ended"]),
        (["status=exited"], ["ended"]),
        (["status=created", "status=running"], ["waits", "runs"]),
        (["label=role"], ["waits", "runs"]),
        (["label=role=db"], ["waits"]),
        (["exited=3"], ["ended"]),
        (["exited=4"], []),
        (["ancestor=busybox"], ["waits", "ended", "runs"]),
        (["ancestor=other"], []),
        (["before=waits"], ["ended", "runs"]),
        (["since=runs"], ["waits", "ended"]),
        (["network=bridge", "status=running"], ["runs"]),
        (["network=none"], []),
        (["is-task=false", "name=runs"], ["runs"]),
    ],
)
def test_ps_filters(cli: CommandLine, filters: list[str], found: list[str]) -> None:
    words = [word for text in filters for word in ("--filter", text)]
    assert names(cli, "-a", *words) == found


@pytest.mark.observes("docker ps --filter")
def test_ps_filters_by_id_and_volume_and_port(cli: CommandLine, fleet: dict[str, str], free_port: FreePort) -> None:
    port = free_port()
    cli.ok("run", "-d", "--name", "stored", "-v", "shelf:/data", "-p", f"{port}:80", "busybox", "sleep", "1000")
    assert names(cli, "-a", "--filter", f"id={fleet['ended'][:12]}") == ["ended"]
    assert names(cli, "-a", "--filter", "volume=shelf") == ["stored"]
    assert names(cli, "-a", "--filter", "volume=/data") == ["stored"]
    assert names(cli, "-a", "--filter", f"publish={port}") == ["stored"]


@pytest.mark.observes("docker ps --filter")
def test_ps_refuses_a_filter_it_does_not_know(cli: CommandLine) -> None:
    ended = cli("ps", "--filter", "colour=red")
    assert ended.code == 1
    assert "nvalid filter 'colour'" in ended.stderr


@pytest.mark.observes("docker ps --size")
def test_ps_size_counts_what_the_container_wrote(cli: CommandLine) -> None:
    cli.ok("run", "--name", "writer", "busybox", "dd", "if=/dev/zero", "of=/blob", "bs=1000", "count=3000")
    size = cli.ok("ps", "-as", "--filter", "name=writer", "--format", "{{.Size}}")
    assert re.fullmatch(r"3(\.0\d?)?MB \(virtual [4-9][.\d]*MB\)", size)


@pytest.mark.docker_since(23)
@pytest.mark.observes("docker ps --format")
def test_ps_formats_a_table_and_json(cli: CommandLine, fleet: dict[str, str]) -> None:
    assert cli.ok("ps", "--format", "table {{.Names}}\t{{.Image}}").split() == ["NAMES", "IMAGE", "runs", "busybox"]
    row = json.loads(cli.ok("ps", "--no-trunc", "--format", "json"))
    assert (row["ID"], row["Names"], row["State"], row["Labels"]) == (fleet["runs"], "runs", "running", "role=web")


@pytest.mark.observes("docker ps")
@pytest.mark.usefixtures("fleet")
def test_ps_tells_an_exit_code_in_the_status(cli: CommandLine) -> None:
    status = cli.ok("ps", "-a", "--filter", "name=ended", "--format", "{{.Status}}")
    assert re.fullmatch(r"Exited \(3\) (Less than a second|\d+ seconds?) ago", status)
    assert cli.ok("ps", "-a", "--filter", "name=waits", "--format", "{{.Status}}") == "Created"


@pytest.mark.observes("docker inspect", "GET /containers/{id}/json")
def test_inspect_shows_the_container_as_it_was_asked_for(cli: CommandLine) -> None:
    flags = ("-e", "A=1", "-w", "/tmp", "-u", "app", "--hostname", "ship", "--memory", "64m", "--label", "k=v")
    cli.ok("create", "--name", "asked", *flags, "-p", "127.0.0.1:8080:80/tcp", "--restart", "always", "busybox", "sleep", "1")
    shown = json.loads(cli.ok("inspect", "asked"))[0]
    config, host = shown["Config"], shown["HostConfig"]
    assert shown["Name"] == "/asked"
    assert (shown["Path"], shown["Args"]) == ("sleep", ["1"])
    assert "A=1" in config["Env"]
    assert (config["WorkingDir"], config["User"], config["Hostname"]) == ("/tmp", "app", "ship")
    assert (config["Cmd"], config["Image"], config["Labels"]["k"]) == (["sleep", "1"], "busybox", "v")
    assert (host["Memory"], host["RestartPolicy"]["Name"]) == (64 << 20, "always")
    assert host["PortBindings"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}
    assert shown["State"]["Status"] == "created"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", shown["Created"])


@pytest.mark.observes("docker inspect --format", "docker inspect --size", "docker inspect --type")
def test_inspect_formats_sizes_and_types(cli: CommandLine, fleet: dict[str, str]) -> None:
    assert cli.ok("inspect", "-f", "{{.Name}} {{.State.Running}}", "runs") == "/runs true"
    assert json.loads(cli.ok("inspect", "-s", "runs"))[0]["SizeRw"] == 0
    assert cli.ok("inspect", "--type", "container", "-f", "{{.Id}}", "runs") == fleet["runs"]
    assert cli("inspect", "--type", "image", "runs").code == 1


@pytest.mark.observes("docker inspect")
@pytest.mark.usefixtures("fleet")
def test_inspect_shows_the_address_only_while_running(cli: CommandLine) -> None:
    form = "{{.NetworkSettings.Networks.bridge.IPAddress}}"
    assert re.fullmatch(r"\d+\.\d+\.\d+\.\d+", cli.ok("inspect", "-f", form, "runs"))
    assert cli.ok("inspect", "-f", form, "ended") == ""


@pytest.mark.observes("docker port")
def test_port_lists_what_is_published(cli: CommandLine, free_port: FreePort) -> None:
    port = free_port()
    cli.ok("run", "-d", "--name", "open", "-p", f"127.0.0.1:{port}:80", "busybox", "sleep", "1000")
    assert cli.ok("port", "open") == f"80/tcp -> 127.0.0.1:{port}"
    assert cli.ok("port", "open", "80") == f"127.0.0.1:{port}"
    refused = cli("port", "open", "81")
    assert refused.code == 1
    assert "no public port '81" in refused.stderr.lower()


@pytest.mark.observes("docker top", "GET /containers/{id}/top")
def test_top_lists_the_containers_processes(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "crowd", "busybox", "sh", "-c", "sleep 1001 & exec sleep 1002")

    def ends() -> list[str]:
        return sorted(row.split()[-1] for row in cli.ok("top", "crowd").splitlines()[1:])

    until(lambda: ends() == ["1001", "1002"], "the shell to have started both")
    head, *rows = cli.ok("top", "crowd").splitlines()
    assert head.split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    pid = cli.ok("inspect", "-f", "{{.State.Pid}}", "crowd")
    assert pid in {row.split()[1] for row in rows}


@pytest.mark.observes("docker top")
def test_top_takes_the_columns_of_ps(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "crowd", "busybox", "sleep", "1002")
    head, row = cli.ok("top", "crowd", "-o", "pid,args").splitlines()
    assert head.split() == ["PID", "COMMAND"]
    assert row.split()[1:] == ["sleep", "1002"]


@pytest.mark.observes("docker top")
def test_top_of_a_stopped_container_is_refused(cli: CommandLine) -> None:
    cli.ok("run", "--name", "ended", "busybox", "true")
    ended = cli("top", "ended")
    assert ended.code == 1
    assert "is not running" in ended.stderr


@pytest.mark.observes("docker ps --filter")
def test_ps_filters_by_image_and_its_descendants(cli: CommandLine) -> None:
    cli.ok("create", "--name", "base", "busybox", "true")
    cli.ok("commit", "base", "child:1")
    cli.ok("create", "--name", "derived", "child:1", "true")
    cli.ok("tag", "busybox", "other:name")
    identity = cli.ok("images", "-q", "--no-trunc", "busybox")
    for ancestor in ("busybox", "busybox:latest", "other:name", identity, identity.removeprefix("sha256:")[:12]):
        assert sorted(names(cli, "-a", "--filter", f"ancestor={ancestor}")) == ["base", "derived"], ancestor
    assert names(cli, "-a", "--filter", "ancestor=child:1") == ["derived"]
    assert names(cli, "-a", "--filter", "ancestor=nobody") == []


@pytest.mark.observes("docker ps --filter")
def test_ps_filters_by_age_exit_ports_networks_and_health(cli: CommandLine) -> None:
    cli.ok("network", "create", "mine")
    cli.ok("run", "-d", "--name", "one", "--network", "mine", "--expose", "80-82", "busybox", "sleep", "1000")
    cli("run", "--name", "two", "busybox", "sh", "-c", "exit 3")
    cli.ok("run", "-d", "--name", "three", "--health-cmd", "true", "--health-interval", "1h", "busybox", "sleep", "1000")
    assert names(cli, "-a", "--filter", "before=two") == ["one"]
    assert names(cli, "-a", "--filter", "since=two") == ["three"]
    assert names(cli, "-a", "--filter", "exited=3") == ["two"]
    assert names(cli, "--filter", "exited=3") == names(cli, "--filter", "before=three", "--filter", "name=two") == []
    assert names(cli, "-a", "--filter", "expose=81") == ["one"]
    assert names(cli, "-a", "--filter", "expose=79-90/tcp") == ["one"]
    assert names(cli, "-a", "--filter", "network=mine") == ["one"]
    assert names(cli, "--filter", "health=starting") == ["three"]
    assert sorted(names(cli, "--filter", "health=none")) == ["one"]
    assert sorted(names(cli, "--filter", "is-task=false")) == ["one", "three"]
    assert names(cli, "--filter", "is-task=true") == []
    missing = cli("ps", "-a", "--filter", "since=nobody")
    assert missing.code == 1
    assert "such container" in missing.stderr


@pytest.mark.peer_lacks("1.56 has it")
@pytest.mark.observes("GET /containers/json")
def test_ps_filters_by_annotation(cli: CommandLine) -> None:
    cli.ok("create", "--name", "noted", "--annotation", "kind=a", "busybox", "true")
    cli.ok("create", "--name", "plain", "busybox", "true")
    for wanted, found in (("kind", ["/noted"]), ("kind=a", ["/noted"]), ("kind=b", [])):
        reply = cli.engine.api("GET", f'/containers/json?all=1&filters={{"annotation":["{wanted}"]}}')
        assert [row["Names"][0] for row in reply.json] == found
