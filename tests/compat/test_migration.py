"""`carrack system migrate-from-docker`, from a real dockerd."""

from collections.abc import Iterator

import pytest

from tests.conftest import EnginePool
from tests.rig.commands import Result, run
from tests.rig.engine import CommandLine, Engine, carrack_program, docker_program

pytestmark = pytest.mark.root


@pytest.fixture
def docker(engine_pool: EnginePool) -> Iterator[CommandLine]:
    """A dockerd with an image, two volumes, a network and two containers that someone set up."""
    engine = engine_pool.build("dockerd")
    try:
        engine_pool.start(engine)
        cli = CommandLine(engine, [docker_program()])
        cli.ok("tag", "busybox:latest", "mine/app:1")
        cli.ok("network", "create", "--subnet", "10.123.45.0/24", "--label", "a=b", "back")
        fill = "cd /data; echo kept > file; mkdir d; ln -s ../file d/l; chown 7:8 d; chmod 750 d; echo x > /var/out"
        cli.ok("run", "--name", "filler", "-v", "named:/data", "busybox", "sh", "-c", fill)
        words = ["--restart", "unless-stopped", "-m", "64m", "-e", "WHO=me", "--network", "back", "--network-alias", "svc"]
        cli.ok(
            "create", "--name", "app", *words, "-p", "127.0.0.1:0:80", "-v", "/anonymous", "-v", "named:/d:ro", "mine/app:1", "sh"
        )
        yield cli
    finally:
        engine.close()


def migrate(docker: CommandLine, engine: Engine, *flags: str) -> Result:
    words = ["system", "migrate-from-docker", "--from", f"unix://{docker.engine.socket}", "--to", f"unix://{engine.socket}"]
    return run([carrack_program(), *words, *flags])


@pytest.mark.peer_lacks("it is the source")
def test_everything_comes_over_and_a_second_time_nothing_does(docker: CommandLine, engine: Engine) -> None:
    carrack = CommandLine(engine, [carrack_program()])
    planned = migrate(docker, engine, "--dry-run").ok()
    assert "would bring container filler (busybox): 1 files it changed outside its volumes stay behind" in planned
    assert carrack.ok("volume", "ls", "-q") == ""

    done = migrate(docker, engine).ok()
    assert "volumes: 2 brought over, 0 there already" in done
    assert "containers: 2 brought over, 0 there already" in done
    assert "mine/app:1" in carrack.ok("images", "--format", "{{.Repository}}:{{.Tag}}").split()

    look = "cat /v/file /v/d/l; stat -c '%u %g %a' /v/d; readlink /v/d/l"
    assert carrack.ok("run", "--rm", "-v", "named:/v", "busybox", "sh", "-c", look).split("\n") == [
        "kept",
        "kept",
        "7 8 750",
        "../file",
    ]
    format = "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Memory}} {{.Config.Image}} {{.State.Status}}"
    assert carrack.ok("inspect", "-f", format, "app") == "unless-stopped 67108864 mine/app:1 created"
    assert "WHO=me" in carrack.ok("inspect", "-f", "{{.Config.Env}}", "app")
    assert "svc" in carrack.ok("inspect", "-f", '{{(index .NetworkSettings.Networks "back").Aliases}}', "app")
    assert carrack.ok("network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}} {{.Labels.a}}", "back") == "10.123.45.0/24 b"
    assert len(carrack.ok("volume", "ls", "-q").split()) == 2  # the anonymous one under its own name

    again = migrate(docker, engine).ok()
    assert "containers: 0 brought over, 2 there already" in again
    assert "bringing" not in again
    assert docker.ok("ps", "-aq").count("\n") == 1  # no helper is left there
    assert "carrack-migration" not in docker.ok("images") + carrack.ok("images")


@pytest.mark.peer_lacks("it is the source")
def test_carrack_is_no_docker_to_come_from(engine: Engine) -> None:
    words = ["system", "migrate-from-docker", "--from", f"unix://{engine.socket}", "--to", f"unix://{engine.socket}"]
    refused = run([carrack_program(), *words])
    assert (refused.code, refused.stderr.count("\n")) == (2, 1)
    assert "is Carrack itself" in refused.stderr


def test_no_docker_is_one_sentence() -> None:
    refused = run([carrack_program(), "system", "migrate-from-docker", "--from", "unix:///nowhere/docker.sock"])
    assert (refused.code, refused.stderr.count("\n")) == (1, 1), refused
    assert "unix:///nowhere/docker.sock" in refused.stderr
