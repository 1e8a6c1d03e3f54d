"""Links: the old ones of the default bridge, and private names on user-defined networks."""

import pytest

from tests.conftest import MakeEngine
from tests.rig.engine import CommandLine, docker_program
from tests.rig.waiting import until

pytestmark = pytest.mark.both_clients


@pytest.fixture
def db(cli: CommandLine) -> str:
    """A running container called `db`; its address."""
    cli.ok("run", "-d", "--name", "db", "--hostname", "dbhost", "-e", "KIND=sql", "--expose", "5432", "busybox", "sleep", "1000")
    return address(cli)


def address(cli: CommandLine) -> str:
    return cli.ok("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "db")


@pytest.mark.observes("docker run --link", "docker create --link")
def test_a_link_is_a_line_in_hosts_and_variables(cli: CommandLine, db: str) -> None:
    shown = cli.ok("run", "--rm", "--name", "web", "--link", "db:my-db", "busybox", "sh", "-c", "env; cat /etc/hosts").splitlines()
    wanted = {
        f"MY_DB_PORT=tcp://{db}:5432",
        f"MY_DB_PORT_5432_TCP=tcp://{db}:5432",
        f"MY_DB_PORT_5432_TCP_ADDR={db}",
        "MY_DB_PORT_5432_TCP_PORT=5432",
        "MY_DB_PORT_5432_TCP_PROTO=tcp",
        "MY_DB_NAME=/web/my-db",
        "MY_DB_ENV_KIND=sql",
    }
    assert wanted <= set(shown)
    assert not [line for line in shown if line.startswith("MY_DB_ENV_PATH")]
    assert [line.split() for line in shown if line.startswith(db)] == [[db, "my-db", "dbhost", "db"]]


@pytest.mark.observes("docker run --link")
def test_the_linked_container_is_reached_by_each_of_its_names(cli: CommandLine, db: str) -> None:
    cli.ok("run", "-d", "--name", "web", "--link", "db", "busybox", "sleep", "1000")
    assert f"({db})" in cli.ok("exec", "web", "ping", "-c1", "db")
    assert "DB_NAME=/web/db" in cli.ok("exec", "web", "env").splitlines()


@pytest.mark.observes("docker inspect", "docker ps", "docker rm --link")
def test_a_link_is_a_further_name_until_it_is_removed(cli: CommandLine, db: str) -> None:
    cli.ok("run", "-d", "--name", "web", "--link", "db:store", "busybox", "sleep", "1000")
    assert cli.ok("inspect", "-f", "{{json .HostConfig.Links}}", "web") == '["/db:/web/store"]'
    assert "db,web/store" in cli.ok("ps", "--no-trunc", "--format", "{{.Names}}").split()
    cli.ok("rm", "--link", "web/store")
    assert set(cli.ok("ps", "--no-trunc", "--format", "{{.Names}}").split()) == {"db", "web"}
    assert cli.ok("inspect", "-f", "{{json .HostConfig.Links}}", "web") in ("null", "[]")
    assert "store" not in cli.ok("exec", "web", "cat", "/etc/hosts")


@pytest.mark.observes("docker run --link", "docker restart")
def test_hosts_follow_a_linked_container_to_its_new_address(cli: CommandLine, db: str) -> None:
    cli.ok("run", "-d", "--name", "web", "--link", "db", "busybox", "sleep", "1000")
    cli.ok("stop", "-t", "0", "db")
    cli.ok("run", "-d", "--name", "squatter", "busybox", "sleep", "1000")
    cli.ok("start", "db")
    until(lambda: f"{address(cli)}\tdb" in cli.ok("exec", "web", "cat", "/etc/hosts"), "hosts to follow")


@pytest.mark.observes("docker create --link")
def test_a_link_that_leads_nowhere_is_refused(cli: CommandLine, db: str) -> None:
    missing = cli("create", "--link", "nobody:alias", "busybox", "true")
    assert missing.code == 1
    assert "nobody" in missing.stderr
    assert cli("create", "--network", "host", "--link", "db", "busybox", "true").code == 1
    cli.ok("create", "--name", "web", "--link", "db", "busybox", "true")
    cli.ok("stop", "-t", "0", "db")
    refused = cli("start", "web")
    assert refused.code == 1
    assert "Cannot link to a non running container: /db AS /web/db" in refused.stderr
    cli.ok("rm", "db")
    if cli.engine.kind == "carrackd":  # 20.10 keeps the link to what is gone, and never starts the container again
        assert cli.ok("start", "-a", "web") == ""


@pytest.mark.observes("docker run --link", "docker network connect --link")
def test_on_a_user_defined_network_a_link_is_a_private_name(cli: CommandLine) -> None:
    cli.ok("network", "create", "mine")
    cli.ok("run", "-d", "--name", "db", "--network", "mine", "busybox", "sleep", "1000")
    ip = cli.ok("inspect", "-f", "{{.NetworkSettings.Networks.mine.IPAddress}}", "db")
    cli.ok("run", "-d", "--name", "web", "--network", "mine", "--link", "db:private", "busybox", "sleep", "1000")
    assert f"({ip})" in cli.ok("exec", "web", "ping", "-c1", "private")
    cli.ok("run", "-d", "--name", "other", "--network", "mine", "busybox", "sleep", "1000")
    assert cli("exec", "other", "ping", "-c1", "private").code == 1
    cli.ok("run", "-d", "--name", "late", "busybox", "sleep", "1000")
    cli.ok("network", "connect", "--link", "db:joined", "mine", "late")
    assert f"({ip})" in cli.ok("exec", "late", "ping", "-c1", "joined")


@pytest.mark.observes("docker run --link")
def test_without_icc_a_link_opens_what_the_other_exposes(make_engine: MakeEngine) -> None:
    cli = CommandLine(make_engine("--icc=false"), [docker_program()])
    serve = "httpd -p 80 -h /etc; exec httpd -f -p 81 -h /etc"
    cli.ok("run", "-d", "--name", "web", "--expose", "80", "busybox", "sh", "-c", serve)
    place = cli.ok("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "web")
    until(lambda: cli("exec", "web", "wget", "-qO-", "http://127.0.0.1:81/passwd").code == 0, "the server to listen")
    cli.ok("run", "-d", "--name", "linked", "--link", "web:db", "busybox", "sleep", "1000")
    cli.ok("run", "-d", "--name", "other", "busybox", "sleep", "1000")

    def get(who: str, port: int) -> int:
        return cli("exec", who, "timeout", "1", "wget", "-qO-", f"http://{place}:{port}/passwd").code

    assert get("linked", 80) == 0
    assert get("linked", 81) != 0
    assert get("other", 80) != 0
