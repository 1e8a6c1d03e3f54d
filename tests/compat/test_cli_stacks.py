"""Stacks: Compose files of version 3 read, merged and printed as Docker's command does, and deployed by the same requests."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig.command_twins import DOCKER, asked, compare, shape
from tests.rig.commands import run
from tests.rig.engine import carrack_program
from tests.rig.recorder import Recorder

pytestmark = [pytest.mark.docker_since(28), pytest.mark.skipif(DOCKER is None, reason="no docker command line on PATH")]

# one line each: what a service says, beside its image
SERVICE_LINES = r"""
cgroup_parent: x
devices: [/dev/null]
network_mode: host
pid: host
restart: always
shm_size: 5m
expose: ['80']
container_name: x
extends: {service: a}
volume_driver: x
mem_limit: 5m
group_add: [a]
platform: x
image: 5
ports: 80
ports: [80:x]
ports: [80, '81', '82:83/udp', '127.0.0.1:1:2']
environment: 5
command: 5
command: a 'b c' d
deploy: 5
deploy:
deploy: {replicas: x}
stop_grace_period: x
stop_grace_period: 90s
healthcheck: {interval: 5}
healthcheck: {test: [CMD, x], interval: 90s, start_interval: 500ms}
volumes: [':']
volumes: ['~/x:/y:ro,rshared', '/a', './b:/c:nocopy']
ports: ['x']
ports: ['80:90:100:110']
secrets: [nope]
networks: [nope]
networks: {a: {aliases: [x], ipv4_address: 1.2.3.4}, b: }
ulimits: {x: {soft: 5}}
ulimits: {x: 5, nofile: {soft: 1, hard: 2}}
user: 5
image: '${A'
image: '${A:?must}'
image: '${A-def}'
image: '${A:-d-e:f}'
image: '$HOME$$x'
image: '${}'
deploy: {replicas: '${N:-4}'}
deploy: {replicas: '${N:-x}'}
tty: '${T:-true}'
tty: yes
deploy: {mode: x}
deploy: {update_config: {x: 1}}
deploy: {update_config: {delay: 1m30s, max_failure_ratio: 0.25}}
x-foo: 5
labels: [a=b, c]
labels: {a: 1, b: true}
labels: {a: 1, b: null, c: 1.5}
environment: [A=1, HOME, NOPE]
env_file: one.env
extra_hosts: {a: 1.2.3.4}
tmpfs: /x
dns: [1.1.1.1, 8.8.8.8]
sysctls: [a=b]
entrypoint: ''
logging: {driver: x, options: {a: 1}}
credential_spec: {file: x}
configs: [{source: a, mode: 0777}]
init: true
cap_add: [A]
build: {context: ., args: {a: b}}
depends_on: [a]
depends_on: {a: {condition: x}}
labels: {a: 'x: y', b: '#z', c: '- q', d: "it's", e: "multi\nline", f: '', g: '@x', h: 'true', i: '12'}
labels: {j: 'null', k: 'a b', l: '*x', m: '%x', n: '0x1f', o: '~', p: 'yes', q: '1:2', r: '[x]'}
labels: {s: '{x}', t: ' lead', u: 'trail ', v: '"q"', w: 'a:b', x: ':', y: '-', z: '?'}
environment: {A: , B: 0x10, C: 010, D: 1e3}
""".strip().splitlines()

# one file each
FILES = [
    "foo: 1",
    'version: "2"',
    "version: 3",
    "services: 5",
    "services: {web: }",
    'services: {"a b": {image: x}}',
    "- a",
    "services: {web: {image: i, image: j}}",
    "networks: {a: {x: 1}}",
    "networks: {a: }",
    "volumes: {a: {external: true, driver: x}}",
    "volumes: {a: , b: {name: c, driver_opts: {x: 1}}}",
    "secrets: {a: {file: ./x, labels: [q]}}",
    "",
    'version: "3.99"',
    'version: "3"\nservices: {}',
    "services: {web: {image: i, secrets: [{target: x}]}}",
    "services: {web: {env_file: nope, image: i}}",
    "networks: {a: {external: true, name: b}}",
    "networks: {a: {ipam: {config: [{subnet: 1.2.3.0/24}]}}}",
    "x-a: &a {image: q}\nservices: {web: {<<: *a, tty: true}}",
    'services:\n  web:\n    image: "a: b"\n    command: ["x", "-y", "a: b", "#c"]',
    "configs: {a: {external: true}, b: {file: y}}",
]

STACK = """
version: "3.13"
x-common: &common
  labels: {team: blue}
services:
  web:
    <<: *common
    image: busybox:${TAG:-latest}
    command: ["sh", "-c", "echo $$HOME; sleep 100"]
    entrypoint: /bin/ep x
    environment:
      A: 1
      B:
      C: "text"
      D: "true"
    env_file: [one.env]
    ports:
      - "8080:80"
      - "9000-9001:90-91/udp"
      - target: 443
        published: 8443
        mode: host
    volumes:
      - data:/data
      - ./here:/here:ro
      - /anon
      - type: tmpfs
        target: /t
        tmpfs: {size: 1000000}
      - type: volume
        source: named
        target: /n
        volume: {nocopy: true}
    networks:
      front:
        aliases: [www]
      back:
    secrets:
      - word
      - source: other
        target: /run/x
        uid: "5"
        gid: "6"
        mode: 0440
    configs:
      - page
    deploy:
      mode: replicated
      replicas: 3
      labels: {tier: front}
      endpoint_mode: vip
      update_config: {parallelism: 2, delay: 5s, failure_action: rollback, monitor: 3s, max_failure_ratio: 0.2, order: start-first}
      rollback_config: {parallelism: 0, order: stop-first}
      resources:
        limits: {cpus: "0.5", memory: 50M, pids: 10}
        reservations: {cpus: "0.1", memory: 10M, generic_resources: [{discrete_resource_spec: {kind: gpu, value: 2}}]}
      restart_policy: {condition: on-failure, delay: 2s, max_attempts: 3, window: 60s}
      placement:
        constraints: [node.role == manager]
        preferences: [{spread: node.labels.zone}]
        max_replicas_per_node: 2
    healthcheck: {test: "curl x", interval: 10s, timeout: 1m30s, retries: 3, start_period: 5s}
    logging: {driver: json-file, options: {max-size: 1m}}
    stop_signal: SIGINT
    stop_grace_period: 20s
    hostname: hh
    user: nobody
    working_dir: /w
    tty: true
    stdin_open: true
    read_only: true
    init: true
    cap_add: [NET_ADMIN]
    cap_drop: [KILL]
    dns: 8.8.8.8
    dns_search: [example.com]
    extra_hosts: ["a:1.2.3.4", "b:5.6.7.8"]
    sysctls: {net.core.somaxconn: 5}
    ulimits: {nproc: 5, nofile: {soft: 10, hard: 20}}
    depends_on: [db]
    build: .
    container_name: x
    privileged: true
    restart: always
  db:
    image: db
    healthcheck: {disable: true}
    deploy: {mode: global}
networks:
  front:
    driver: overlay
    attachable: true
    driver_opts: {a: b}
    labels: {x: y}
    ipam: {driver: default, config: [{subnet: 10.5.0.0/16}]}
  back: {internal: true, name: realback}
volumes:
  data: {}
  named: {driver: d, driver_opts: {o: p}, labels: [k=v]}
secrets:
  word: {file: ./word.txt, labels: {l: m}}
  other: {external: true}
configs:
  page: {file: ./page.txt, template_driver: golang}
"""
OVERRIDE = """
version: "3.13"
services:
  web:
    environment: ["A=2", "Z=9"]
    ports: ["8081:80"]
    command: override
  extra:
    image: busybox
    volumes: ["data:/data"]
"""


ANSWERS: dict[str, Any] = {
    "GET /info": {"Swarm": {"LocalNodeState": "active", "ControlAvailable": True, "NodeID": "nid"}},
    "GET /networks": [],
    "GET /services": [],
    "GET /secrets": [{"ID": "oid", "Spec": {"Name": "other"}}, {"ID": "wid", "Spec": {"Name": "stk_word"}}],
    "GET /configs": [{"ID": "pid", "Spec": {"Name": "stk_page"}}],
    "GET /secrets/stk_word": {"ID": "wid", "Version": {"Index": 3}, "Spec": {"Name": "stk_word"}},
    "GET /configs/stk_page": {"ID": "pid", "Version": {"Index": 4}, "Spec": {"Name": "stk_page"}},
    "POST /secrets/wid/update": {},
    "POST /configs/pid/update": {},
    "POST /networks/create": {"Id": "newnet"},
    "POST /services/create": {"ID": "svcid"},
    "GET /tasks": [],
    "GET /nodes": [],
}
THERE: dict[str, Any] = {
    "ID": "webid",
    "Version": {"Index": 7},
    "Spec": {
        "Name": "stk_web",
        "Labels": {"com.docker.stack.image": "busybox:latest", "com.docker.stack.namespace": "stk"},
        "TaskTemplate": {"ContainerSpec": {"Image": "busybox:latest@sha256:" + "0" * 64}, "Placement": {}, "ForceUpdate": 5},
        "Mode": {"Replicated": {"Replicas": 1}},
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("stack")
    (place / "a.yml").write_text(STACK)
    (place / "b.yml").write_text(OVERRIDE)
    (place / "one.env").write_text("E=file\n")
    (place / "word.txt").write_text("secretword\n")
    (place / "page.txt").write_text("page\n")
    (place / "here").mkdir()
    return place


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder(version="1.50", answers=ANSWERS) as recording:
        yield recording


def both_print(folder: Path, text: str, *words: str) -> None:
    (folder / "t.yml").write_text(text)
    said = []
    for program in (str(DOCKER), carrack_program()):
        done = run(["sh", "-c", f"cd {folder} && exec {program} stack config {shlex.join(words) or '-c t.yml'}"])
        said.append((done.code, done.stdout, re.sub(r'time="[^"]*"', "<time>", done.stderr)))
    assert said[1] == said[0]


@pytest.mark.parametrize("line", SERVICE_LINES)
def test_what_a_service_may_say_is_read_as_docker_reads_it(folder: Path, line: str) -> None:
    image = "" if line.startswith("image") else "    image: i\n"
    both_print(folder, f'version: "3.13"\nservices:\n  web:\n{image}    {line}\n')


@pytest.mark.parametrize("text", FILES)
def test_a_file_is_read_and_refused_as_docker_does(folder: Path, text: str) -> None:
    both_print(folder, f"{text}\n")


@pytest.mark.parametrize("names", ["a.yml", "a.yml b.yml", "b.yml a.yml", "nope.yml"])
def test_files_are_merged_as_docker_merges_them(folder: Path, names: str) -> None:
    both_print(folder, "", *[word for name in names.split() for word in ("-c", name)])


def test_variables_are_left_alone_when_asked(folder: Path) -> None:
    both_print(folder, "", "--skip-interpolation", "-c", "a.yml")


@pytest.mark.parametrize("program", [DOCKER, carrack_program()])
def test_what_cannot_be_yaml_is_refused(folder: Path, program: str) -> None:
    (folder / "bad.yml").write_text("{\n")
    done = run([program, "stack", "config", "-c", str(folder / "bad.yml")])
    assert (done.code, done.stderr[:5]) == (1, "yaml:")


DEPLOYMENTS = [
    "-c a.yml --resolve-image never",
    "-c a.yml -c b.yml --resolve-image never --prune",
    "-c a.yml --resolve-image changed --with-registry-auth",
    "-c a.yml",
    "-c a.yml --resolve-image bogus",
    "-c b.yml",
    "-c nope.yml",
    "",
]


def deployed(recorder: Recorder, program: str, folder: Path, words: str) -> tuple[Any, ...]:
    script = f"cd {folder} && exec {program} stack deploy {words} stk"
    requests, result = asked(recorder, "sh", ["-c", script])
    shaped = shape(requests)
    # Docker's command makes networks and services in the order of a map
    chance = ("/networks/create", "/services/create", "/distribution")
    by_chance = [request for request in shaped if request[1].startswith(chance)]
    others = [request for request in shaped if not request[1].startswith(chance)]
    return sorted(by_chance, key=str), others, result.code, sorted(result.stdout.splitlines()), result.stderr


@pytest.mark.parametrize("there", [False, True], ids=["new", "there"])
@pytest.mark.parametrize("words", DEPLOYMENTS)
def test_a_stack_is_deployed_by_the_requests_docker_sends(folder: Path, words: str, there: bool) -> None:
    answers = {**ANSWERS, **({"GET /services": [THERE], "POST /services/webid/update": {}} if there else {})}
    with Recorder(version="1.50", answers=answers) as recorder:
        assert deployed(recorder, carrack_program(), folder, words) == deployed(recorder, str(DOCKER), folder, words)


@pytest.mark.parametrize(
    "line",
    """
stack ls
stack services stk
stack services -q stk
stack services --filter name=web stk
stack ps stk
stack ps -q --no-resolve --filter name=x stk
stack rm stk
stack rm stk2 stk
stack ps
stack services
stack rm
stack config
stack deploy stk
stack up stk
stack deploy -c /nope ''
""".strip().splitlines(),
)
def test_a_command_of_stacks_asks_for_what_dockers_asks_for(recorder: Recorder, line: str) -> None:
    compare(recorder, shlex.split(line), stdout=True)
