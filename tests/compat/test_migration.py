"""`carrack system migrate-from-docker`, from a real dockerd."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import EnginePool
from tests.rig.commands import Result, run
from tests.rig.engine import CommandLine, Engine, carrack_program, docker_program

pytestmark = pytest.mark.root


DEFINITIONS = {
    "limits": "--memory 64m --memory-swap 128m --memory-reservation 32m --cpus 0.5 --cpu-shares 300 --pids-limit 77 "
    "--oom-score-adj 300 --ulimit nofile=100:200 --shm-size 8m busybox true",
    "rights": "--cap-add NET_ADMIN --cap-drop CHOWN --security-opt no-new-privileges --read-only --user 7:8 --group-add 9 "
    "--device /dev/null:/dev/mine:r busybox id",
    "wide": "--privileged --pid host --ipc host --uts host busybox true",
    "files": "--tmpfs /t:size=1m,mode=1770 --mount type=bind,src=/etc,dst=/e,readonly -v named:/ro:ro -v /anon "
    "--mount type=volume,src=named,dst=/n,volume-nocopy --volume /tmp:/h:rslave busybox ls",
    "words": "--hostname box --domainname example.org --dns 9.9.9.9 --dns-search corp --dns-option ndots:2 --add-host a:10.0.0.1 "
    "--env A=1 --env B= --workdir /tmp --entrypoint /bin/echo --label com.docker.compose.project=p --stop-signal INT "
    "--stop-timeout 3 --init -it busybox a b",
    "watched": "--health-cmd true --health-interval 5s --health-retries 2 --restart on-failure:3 busybox sleep 1",
    "logged": "--log-driver json-file --log-opt max-size=1m --log-opt max-file=2 --restart always busybox true",
    "netted": "--network back --ip 10.123.45.9 --network-alias svc -p 127.0.0.1:18080:80 -p 18081:81/udp --expose 90 "
    "--sysctl net.ipv4.ip_default_ttl=9 busybox sleep 1000",
    "sharer": "--network container:netted busybox true",
    "borrower": "--volumes-from files:ro busybox true",
    "linker": "--link words:w busybox true",
    "hosted": "--network host --rm busybox true",
    "none": "--network none busybox true",
}


@pytest.fixture(scope="module")
def docker(engine_pool: EnginePool) -> Iterator[CommandLine]:
    """A dockerd that somebody has used: five images, volumes, networks, containers with all kinds of settings."""
    engine = engine_pool.build("dockerd")
    try:
        engine_pool.start(engine)
        cli = CommandLine(engine, [docker_program()])
        cli.ok("tag", "busybox:latest", "mine/app:1")
        cli.ok("network", "create", "--subnet", "10.123.45.0/24", "--label", "a=b", "back")
        cli.ok("network", "create", "auto")
        fill = "cd /data; echo kept > file; mkdir d; ln -s ../file d/l; chown 7:8 d; chmod 750 d; echo x > /var/out"
        cli.ok("run", "--name", "filler", "-v", "named:/data", "busybox", "sh", "-c", fill)
        words = ["--restart", "unless-stopped", "-m", "64m", "-e", "WHO=me", "--network", "back", "--network-alias", "svc"]
        cli.ok(
            "create", "--name", "app", *words, "-p", "127.0.0.1:0:80", "-v", "/anonymous", "-v", "named:/d:ro", "mine/app:1", "sh"
        )
        for name, flags in DEFINITIONS.items():
            cli.ok("create", "--name", name, *flags.split())
        cli.ok("network", "connect", "--alias", "again", "auto", "netted")
        for number in range(3):
            cli.ok("commit", "-c", f"LABEL number={number}", "none", f"made:{number}")
        cli.ok("run", "-d", "--name", "older", "-v", "named:/x", "made:0", "sleep", "1000")
        cli.ok("tag", "made:1", "made:0")  # the container's image has no name of its own any more
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
    assert "older may be writing to it now" in planned
    assert "would bring network auto (bridge): on addresses that are free here" in planned
    assert carrack.ok("volume", "ls", "-q") == ""

    done = migrate(docker, engine).ok()
    total = len(DEFINITIONS) + 3
    assert "volumes: 3 brought over, 0 there already" in done
    assert f"containers: {total} brought over, 0 there already" in done
    assert "\n    docker stop older && carrack start older" in done
    assert "\n    docker network rm back " in done
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
    assert len(carrack.ok("volume", "ls", "-q").split()) == 3  # the anonymous ones under their own names
    for name in (*DEFINITIONS, "older"):
        assert differences(inspect(docker, name), inspect(carrack, name)) == set(), name
    carrack.ok("start", "older", "files", "words", "linker", "borrower", "netted", "sharer")  # on what came over

    again = migrate(docker, engine).ok()
    assert f"containers: 0 brought over, {total} there already" in again
    assert "bringing" not in again
    assert docker.ok("ps", "-aq").count("\n") == total - 1  # no helper is left there
    assert "carrack-migration" not in docker.ok("images") + carrack.ok("images")


def inspect(cli: CommandLine, name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(cli.ok("inspect", name))
    return found[0]


def differences(theirs: dict[str, Any], ours: dict[str, Any]) -> set[str]:
    """Names of settings that are not what they were, empty and absent being one; without those that cannot be."""
    found = {"Image"} if theirs["Image"] != ours["Image"] else set()
    for part in ("Config", "HostConfig"):
        left, right = dict(_leaves(part, theirs[part])), dict(_leaves(part, ours[part]))
        found |= {name for name in left.keys() | right.keys() if left.get(name) != right.get(name)}
    theirs, ours = theirs["NetworkSettings"]["Networks"], ours["NetworkSettings"]["Networks"]
    own = ("bridge", "host", "none", "")
    found |= {f"network {name}" for name in theirs.keys() ^ ours.keys()}
    for name in (theirs.keys() & ours.keys()) - set(own):
        found |= {f"{name} {key}" for key in ("IPAMConfig",) if (theirs[name].get(key) or {}) != (ours[name].get(key) or {})}
        if not set(ours[name]["Aliases"] or ()) <= set(theirs[name]["Aliases"] or ()):
            found.add(f"{name} Aliases")
    other_by_nature = {
        "Config.Hostname",  # its own id
        "Config.Image",  # of `older`: no name leads to its image
        "HostConfig.NetworkMode",  # newer APIs say bridge for default; another container's id
        "HostConfig.Runtime",
        "HostConfig.Binds.2",  # of `files`: the anonymous volume, by its name
        "HostConfig.LogConfig.Type",  # who chose none gets ours, which is bounded
    }
    return found - other_by_nature


def _leaves(name: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _leaves(f"{name}.{key}", each)
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _leaves(f"{name}.{number}", each)
    elif value not in (None, "", False, 0):
        yield name, value


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
