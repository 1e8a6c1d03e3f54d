"""The commands of a swarm against Debian's dockerd in a swarm of one: the same lines through `docker` and `carrack`, and what
they do: services that converge, are scaled, updated and rolled back, their logs, secrets and configs."""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Images
from tests.rig.command_twins import lines_of, normal
from tests.rig.commands import Result
from tests.rig.dockerd import Dockerd
from tests.rig.engine import CommandLine, carrack_program, docker_major, docker_program

READING = lines_of("""
swarm join-token worker
swarm join-token -q manager
swarm join-token nope
swarm unlock-key
swarm unlock-key -q
swarm unlock
swarm ca
swarm ca -q
swarm leave
swarm init
swarm join --token x 127.0.0.1:1
swarm nope
node ls
node list
node ls -q
node ls --format json
node ls --format '{{.TLSStatus}} {{.Self}} {{.ManagerStatus}} {{.EngineVersion}} {{.Hostname}}'
node ls --format 'table {{.ID}}\\t{{.Self}}'
node ls --filter role=manager -q
node ls --filter nope=1
node inspect self
node inspect self --pretty
node inspect -f '{{.Status.State}} {{.Spec.Role}}' self
node inspect nope
node inspect --pretty nope
node ps
node ps self --no-trunc
node ps -q
node ps --format json
node ps nope
node ps --filter desired-state=running
node rm nope
node update nope
node promote self
secret ls
secret ls -q
secret ls --format '{{.Name}} {{.Labels}} {{.Driver}}'
secret ls --format json
secret ls --filter name=word
secret ls --filter nope=1
secret inspect word
secret inspect --pretty word
secret inspect -f '{{.Spec.Name}}' word nope
secret create word /etc/hostname
secret create
secret rm nope
config ls
config ls --format json
config inspect page
config inspect --pretty page
config inspect nope
config rm nope
service ls
service ls -q
service ls --format json
service ls --format '{{.Name}} {{.Mode}} {{.Replicas}} {{.Image}} {{.Ports}}'
service ls --filter name=talk
service ls --filter mode=global
service ls --filter nope=1
service ps talk
service ps talk -q
service ps talk --no-trunc
service ps talk --format json
service ps talk nope
service ps everywhere
service ps --filter node=self talk
service ps --filter nope=1 talk
service ps --no-resolve talk
service inspect talk
service inspect --pretty talk
service inspect --pretty everywhere
service inspect --pretty nope
service inspect -f '{{.Spec.Name}} {{.Spec.TaskTemplate.ContainerSpec.Image}}' talk nope
service inspect -f '{{json .Spec.Mode}}' talk
service inspect nope
service logs --raw --tail 0 talk
service logs screen
service logs nope
service logs --since nonsense talk
service scale talk
service scale talk=x
service scale everywhere=2
service scale nope=1
service update nope
service update --replicas 3 everywhere
service rollback nope
service rm nope
service create --name talk --no-resolve-image busybox
service create --network nope busybox
service create --secret nope busybox
service create --config nope busybox
service create --mode x busybox
info --format '{{.Swarm.LocalNodeState}} {{.Swarm.Nodes}}'
plugin ls
plugin inspect nope
plugin rm nope
plugin enable nope
plugin set nope a=b
""")

EVERYWHERE = """
service create -d --no-resolve-image --name everywhere --mode global --label x=y --label z=1 --container-label c=d
--constraint node.role==worker --placement-pref spread=node.labels.x --limit-cpu .5 --limit-memory 50m --reserve-cpu .1
--reserve-memory 10m --log-driver json-file --log-opt max-size=1m --mount type=volume,src=data,dst=/v
--mount type=bind,src=/tmp,dst=/t,ro --network host --hostname hh --user nobody --workdir /tmp --update-delay 1s
--restart-condition on-failure --restart-delay 2s --restart-max-attempts 3 --restart-window 4s --entrypoint 'sh -c'
--health-cmd true --health-interval 9s --health-retries 2 --health-timeout 3s --health-start-period 1s --cap-add NET_ADMIN
--cap-drop KILL --sysctl net.ipv4.ip_forward=1 --ulimit nofile=10:20 --init --read-only --stop-signal INT
--stop-grace-period 3s --dns 8.8.8.8 --host a:1.2.3.4 --group 5 --limit-pids 100 --secret word --config page -e A=1 -e B=2
busybox 'sleep 100'
"""


class Swarm:
    """A dockerd that is a swarm of one node, and both commands on it."""

    def __init__(self, engine: Dockerd) -> None:
        self.engine = engine
        self.docker = CommandLine(engine, [docker_program()])
        self.carrack = CommandLine(engine, [carrack_program()])

    def states(self, service: str) -> list[str]:
        """The states of the tasks that are to run, by slot."""
        shown = self.docker.ok("service", "ps", service, "--filter", "desired-state=running", "--format", "{{.CurrentState}}")
        return [line.partition(" ")[0] for line in shown.splitlines()]


@pytest.fixture(scope="module")
def swarm(images: Images) -> Iterator[Swarm]:
    engine = Dockerd(f"s{os.getpid():x}", swarm=True)
    try:
        engine.start()
        engine.api("POST", "/images/load?quiet=1", images.base_archive, headers={"Content-Type": "application/x-tar"})
        made = Swarm(engine)
        made.carrack.ok("swarm", "init", "--advertise-addr", "127.0.0.1")
        made.carrack.ok("secret", "create", "-l", "a=b", "word", "-", stdin="hidden")
        made.carrack.ok("config", "create", "page", "-", stdin="shown\n")
        script = "echo one; echo two >&2; trap 'exit 0' TERM; sleep 10000 & wait"
        talk = ["--name", "talk", "--replicas", "2", "--update-monitor", "300ms", "--update-parallelism", "0"]
        talk += ["--rollback-monitor", "300ms", "--rollback-parallelism", "0", "--stop-grace-period", "1s", "--secret", "word"]
        made.carrack.ok(
            "service", "create", "--no-resolve-image", *talk, "--config", "source=page,target=/page", "busybox", "sh", "-c", script
        )
        made.carrack.ok(*shlex.split(EVERYWHERE))
        made.carrack.ok("service", "create", "-d", "-t", "--no-resolve-image", "--name", "screen", "busybox", "sh", "-c", script)
        yield made
    finally:
        engine.close()


def shape(result: Result) -> tuple[int, str, str]:
    return result.code, without_rounding(normal(result.stdout)), normal(result.stderr)


def without_rounding(text: str) -> str:
    """Ages in small letters, as tasks have them, which `normal` leaves."""
    return re.sub(r"(less than a second|about a minute|<age>)( ago)?", "<age>", text)


@pytest.mark.docker_since(28)
@pytest.mark.parametrize("line", READING)
def test_both_say_the_same_of_a_swarm(swarm: Swarm, line: str) -> None:
    words = shlex.split(line)
    assert shape(swarm.carrack(*words)) == shape(swarm.docker(*words))


@pytest.mark.docker_since(28)
@pytest.mark.parametrize("flags", ["", "--raw", "--no-task-ids", "--no-resolve", "--no-trunc", "-t", "--details", "--tail 1"])
def test_the_logs_of_a_service_name_the_task_each_line_is_of(swarm: Swarm, flags: str) -> None:
    words = ["service", "logs", *shlex.split(flags), "talk"]
    theirs, ours = swarm.docker(*words), swarm.carrack(*words)
    for stream in ("stdout", "stderr"):  # the two tasks' lines come in the order of chance
        assert sorted(getattr(ours, stream).splitlines()) == sorted(getattr(theirs, stream).splitlines())
    assert ours.stdout or "--tail" in flags


@pytest.mark.docker_since(28)
def test_the_logs_of_one_task_are_shown(swarm: Swarm) -> None:
    task = swarm.docker.ok("service", "ps", "-q", "talk").splitlines()[0]
    ours, theirs = swarm.carrack("service", "logs", task), swarm.docker("service", "logs", task)
    assert sorted(ours.stdout.splitlines()) == sorted(theirs.stdout.splitlines())
    assert "two" in ours.stderr


def test_secrets_and_configs_are_where_the_service_asked_for_them(swarm: Swarm) -> None:
    container = swarm.docker.ok("ps", "-q", "--filter", "label=com.docker.swarm.service.name=talk").splitlines()[0]
    assert swarm.carrack.ok("exec", container, "cat", "/run/secrets/word", "/page") == "hiddenshown"


@pytest.mark.docker_since(28)
def test_a_service_is_waited_for_and_how_far_it_is_is_said(swarm: Swarm) -> None:
    command = ["--no-resolve-image", "--update-monitor", "300ms", "--replicas", "2", "busybox", "sleep", "1000"]
    said = {}
    for client, name in ((swarm.docker, "theirs"), (swarm.carrack, "ours")):
        shown = client.ok("service", "create", "--name", name, *command).splitlines()
        assert swarm.states(name) == ["Running", "Running"]
        identity = shown.pop(0)
        lines = [line.replace(identity, "<id>").strip() for line in shown]
        said[name] = [line for line, before in zip(lines, ["", *lines], strict=False) if line != before]
        client.ok("service", "rm", name)
    counts = {name: [line for line in lines if "1 out of 2" not in line] for name, lines in said.items()}
    assert counts["ours"] == counts["theirs"]


def test_a_service_is_scaled_updated_and_rolled_back(swarm: Swarm) -> None:
    create = ["--name", "moved", "--update-monitor", "200ms", "--stop-grace-period", "100ms", "busybox", "sleep", "100"]
    swarm.carrack.ok("service", "create", "-q", "--no-resolve-image", *create)
    assert swarm.carrack.ok("service", "scale", "moved=2").startswith("moved scaled to 2")
    assert len(swarm.states("moved")) == 2
    update = ["--args", "sleep 200", "--env-add", "A=1", "--label-add", "l=m", "--update-parallelism", "0", "--force"]
    update += ["--rollback-monitor", "200ms", "--rollback-parallelism", "0"]
    shown = swarm.carrack.ok("service", "update", *update, "moved")
    assert shown.splitlines()[-1] == "verify: Service moved converged"
    assert swarm.docker.ok("service", "inspect", "-f", "{{.Spec.TaskTemplate.ContainerSpec.Args}}", "moved") == "[sleep 200]"
    shown = swarm.carrack.ok("service", "rollback", "moved")
    assert "rollback: manually requested rollback" in shown
    assert shown.splitlines()[-1] == "rollback: rollback completed"
    assert swarm.docker.ok("service", "inspect", "-f", "{{.Spec.TaskTemplate.ContainerSpec.Args}}", "moved") == "[sleep 100]"
    assert swarm.carrack.ok("service", "rm", "moved") == "moved"


def test_a_job_is_waited_for(swarm: Swarm) -> None:
    shown = swarm.carrack.ok(
        "service", "create", "--no-resolve-image", "--name", "job", "--mode", "replicated-job", "--replicas", "2", "busybox", "true"
    )
    assert "job progress: 2 out of 2 complete" in shown
    assert shown.splitlines()[-1].strip() == "job complete"
    swarm.carrack.ok("service", "rm", "job")


def test_a_node_is_labelled_and_drained(swarm: Swarm) -> None:
    node = swarm.carrack.ok("node", "ls", "-q")
    swarm.carrack.ok("node", "update", "--label-add", "a=b", "--label-add", "bare", node)
    assert swarm.docker.ok("node", "inspect", "-f", "{{.Spec.Labels}}", node) == "map[a:b bare:]"
    swarm.carrack.ok("node", "update", "--label-rm", "a", "--label-rm", "bare", node)
    assert swarm.docker.ok("node", "inspect", "-f", "{{.Spec.Labels}}", node) == "map[]"


def test_the_swarms_settings_tokens_and_key_change(swarm: Swarm) -> None:
    before = swarm.carrack.ok("swarm", "join-token", "-q", "worker")
    swarm.carrack.ok("swarm", "join-token", "--rotate", "worker")
    assert swarm.docker.ok("swarm", "join-token", "-q", "worker") != before
    assert swarm.carrack.ok("swarm", "update", "--autolock", "--task-history-limit", "3").startswith("Swarm updated.\nTo unlock")
    key = swarm.carrack.ok("swarm", "unlock-key", "-q")
    assert swarm.docker.ok("swarm", "unlock-key", "-q") == key
    swarm.carrack.ok("swarm", "unlock-key", "--rotate")
    assert swarm.docker.ok("swarm", "unlock-key", "-q") != key
    assert swarm.carrack.ok("swarm", "update", "--autolock=false") == "Swarm updated."
    assert swarm.docker.ok("info", "-f", "{{.Swarm.Cluster.Spec.Orchestration.TaskHistoryRetentionLimit}}") == "3"


def test_the_root_certificate_is_renewed_and_every_node_is_waited_for(swarm: Swarm) -> None:
    before = swarm.carrack.ok("swarm", "ca")
    shown = swarm.carrack.ok("swarm", "ca", "--rotate")
    after = swarm.docker.ok("swarm", "ca")
    assert after != before
    assert shown.endswith(after)
    assert "desired root digest: sha256:" in shown


STACK = """
services:
  web:
    image: busybox:latest
    command: sh -c "cat /page; trap 'exit 0' TERM; sleep 1000 & wait"
    configs: [page]
    deploy: {replicas: 2, update_config: {monitor: 200ms}, labels: {tier: front}}
  lone:
    image: busybox:latest
    command: sleep 1000
    stop_grace_period: 100ms
configs:
  page: {file: ./page.txt}
"""


def test_a_stack_is_deployed_looked_at_changed_and_removed(swarm: Swarm, tmp_path: Path) -> None:
    (tmp_path / "stack.yml").write_text(STACK)
    (tmp_path / "page.txt").write_text("of a stack\n")
    deploy = ["stack", "deploy", "-c", str(tmp_path / "stack.yml"), "--resolve-image", "never"]
    shown = swarm.carrack.ok(*deploy, "--detach=false", "hall")
    assert "Creating network hall_default" in shown
    assert sorted(swarm.states("hall_web")) == ["Running", "Running"]
    assert "of a stack" in swarm.carrack.ok("service", "logs", "--raw", "hall_web")
    for line in (
        "ls",
        "ls --format json",
        "services hall",
        "services -q hall",
        "ps hall",
        "ps -q hall",
        "ps --format json hall",
        "ps nope",
    ):
        words = ["stack", *line.split()]
        assert docker_major() < 28 or shape(swarm.carrack(*words)) == shape(swarm.docker(*words))
    (tmp_path / "stack.yml").write_text(STACK.replace("replicas: 2", "replicas: 1").replace("  lone:", "x-lone:\n  lone:"))
    shown = swarm.carrack.ok(*deploy, "--prune", "--detach=false", "hall")
    assert "Removing service hall_lone" in shown
    assert "Updating service hall_web" in shown
    assert swarm.states("hall_web") == ["Running"]
    shown = swarm.carrack.ok("stack", "rm", "--detach=false", "hall")
    assert shown.splitlines() == ["Removing service hall_web", "Removing config hall_page", "Removing network hall_default"]
    assert swarm.carrack("stack", "rm", "hall").stderr == "Nothing found in stack: hall\n"
