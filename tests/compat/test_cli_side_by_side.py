"""The same command lines through `docker` and `carrack` against one engine: stdout, stderr and exit code, ids and times made alike.

Lines that read run one after the other; lines that change something run on a world of their own each, made alike beforehand.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import EnginePool, Images
from tests.rig.command_twins import normal
from tests.rig.commands import Result
from tests.rig.engine import CommandLine, Engine, carrack_program, docker_program

pytestmark = pytest.mark.docker_since(28)  # the release whose words carrack speaks

READING = """
ps
ps -a
ps -q
ps -aq --no-trunc
ps -a --no-trunc
ps -n 1
ps -l
ps -as
ps -a --filter name=up
ps -a --filter status=exited --filter status=created
ps -a --filter label=color
ps -a --filter label=color=red -q
ps -a --filter exited=3
ps -a --filter ancestor=busybox
ps -a --filter nonsense=1
ps --format json -a
ps -a --format {{.Names}}
ps -a --format '{{json .Names}} {{.Image}} {{.State}}'
ps -a --format 'table {{.Names}}\\t{{.Image}}\\t{{.Labels}}'
ps -a --format 'table {{.Names}}\\t{{.Label "color"}}'
ps -a --format '{{upper .Names}} {{len .ID}} {{.Mounts}} {{.Networks}} {{.LocalVolumes}}'
ps -a --format '{{if eq .State "running"}}up{{else}}down{{end}}'
ps -a --format '{{.Nope}}'
ps -a --format '{{.Names'
ps -q --format '{{.Names}}'
ps extra
ps --nope
ps -Z
ps --last x
ps -f nonsense
images
images -a
images -q
images --digests
images --no-trunc
images busybox
images nothing-there
images ls
images --filter dangling=true
images --filter reference=busy*
images --filter bogus=1
images --format '{{.Repository}}:{{.Tag}} {{.ID}} {{.Size}}'
images --format 'table {{.ID}}\\t{{.Repository}}'
images --format json
image ls
image history busybox
history busybox
history -q busybox
history --no-trunc busybox
history --format '{{.Size}} {{.Comment}}' busybox
history nothing-there
image inspect busybox
image inspect -f '{{.Os}} {{json .Config.Cmd}}' busybox
image inspect nothing-there
image inspect busybox nothing-there
container inspect up
container inspect -s up
container inspect nope
container inspect up nope
container inspect -f '{{.State.Status}} {{.Name}} {{.Config.Image}}' up gone
container inspect -f '{{.HostConfig.NetworkMode}} {{json .HostConfig.RestartPolicy}}' up
container inspect -f '{{range .Config.Env}}{{println .}}{{end}}' up
container inspect -f '{{.NoSuchField}}' up
container inspect -f '{{.State' up
container inspect -f json up
inspect up
inspect busybox
inspect nope
inspect --type container busybox
inspect --type image up
inspect --type nonsense up
inspect --type= up
inspect -s up
inspect -s busybox
inspect
port up
port up 80
port up 80/tcp
port up 81
port up x
port nope
port
top up
top up -o pid,args
top nope
top gone
diff gone
diff nope
logs up
logs -t up
logs --tail 1 up
logs -n 0 up
logs --since 1h up
logs --until 1h up
logs --details up
logs nope
logs --tail nonsense up
logs --since nonsense up
exec up echo hi
exec up sh -c 'echo out; echo err >&2; exit 7'
exec -e A=b -w /tmp up sh -c 'echo $A; pwd'
exec -u nobody up id -u
exec nope true
exec gone true
exec up no-such-program
exec up
exec -e =x up true
exec -it up true
attach gone
attach nope
wait gone
wait gone nope
start nope
stop nope
stop gone
kill nope
kill gone
kill -s NONSENSE up
restart nope
pause gone
pause nope
unpause up
unpause nope
rename up up
rename nope other
rename up
rm up
rm nope
rm -f nope
rm
update up
update --memory x up
update nope --memory 50m
export nope
export up extra
commit nope
cp nope:/x -
cp up:/nope -
cp up:/x up:/y
cp /a /b
cp x
create
create nothing/there:never --pull never
create --pull sometimes busybox
run
run --name up busybox true
run --nope busybox
run -Z busybox
run --memory x busybox
run --rm=x busybox
run --name
run --rm --restart always busybox
run --pull never no/such/image
run --rm busybox no-such-program
run --rm busybox /etc
run --rm busybox sh -c 'exit 42'
run --rm busybox sh -c 'echo out; echo err >&2'
run --rm -i busybox cat
run --rm --network nope busybox true
run --rm -v /nope:relative busybox true
run --rm -p 99999:1 busybox true
run --rm --entrypoint nope busybox
run --rm -w relative busybox true
run --rm -u nosuchuser busybox true
run --rm -e A=1 --env-file /no/such busybox true
run --rm --mount type=bind,src=/no/such,dst=/x busybox true
run --rm --mount type=bind busybox true
run --rm --label =x busybox true
run --rm UPPERCASE
run --rm --health-interval 5 busybox true
run --rm -it busybox true
run -d --attach stdout busybox true
run --rm --stop-signal NOPE busybox true
run --rm --cap-add nope busybox true
run --rm --cpus 1000 busybox true
run --rm --memory 1k busybox true
run --rm --hostname box busybox hostname
run --rm --tmpfs /t busybox sh -c 'mount | grep -c " /t "'
run --rm --read-only busybox touch /x
run --rm --pids-limit 50 busybox true
run --rm -l a=b --name labelled busybox true
stats --no-stream gone --format '{{.Name}}'
stats --no-stream nope
network ls
network ls -q
network ls --no-trunc
network ls --filter driver=bridge
network ls --filter bogus=1
network ls --format '{{.Name}} {{.Driver}} {{.Scope}} {{.Internal}}'
network ls --format json
network inspect bridge
network inspect nope
network inspect -f '{{.Name}} {{.Driver}}' bridge host
network inspect
network rm nope
network rm -f nope
network rm bridge
network create
network create bridge
network create --subnet nonsense n
network create --subnet 10.0.0.0/8 --subnet 10.1.0.0/16 n
network create --gateway 10.0.0.1 n
network create --subnet 10.99.0.0/24 --gateway 10.98.0.1 n
network connect nope up
network connect bridge nope
network disconnect bridge nope
network disconnect nope up
network nope
network --nope
volume ls
volume ls -q
volume ls --filter name=data
volume ls --filter bogus=1
volume ls --format '{{.Name}} {{.Driver}} {{.Mountpoint}}'
volume ls --format json
volume inspect data
volume inspect nope
volume inspect -f '{{.Name}}' data nope
volume rm nope
volume rm data-of-nobody
volume create -d nope x
volume create a b
rmi nope
rmi
tag nope x:1
tag busybox UPPER
tag busybox x y
save nope
save
load extra
import
import /no/such
pull UPPER
pull -a busybox:1
pull
push nope/nope:1
push busybox@sha256:0000000000000000000000000000000000000000000000000000000000000000
search
version --format {{.Server.Os}}
version extra
info --format {{.OSType}}
info --format '{{json .Swarm.LocalNodeState}}'
info extra
events --since 0 --until 1
events --since nonsense
events --filter nonsense
system df
system df -v
system df --format '{{.Type}} {{.TotalCount}}'
system df --format json
system events --since 0 --until 1
system info --format {{.OSType}}
system nope
container nope
container ls
container ls -aq
container list -a --format {{.Names}}
container rm nope
image nope
image rm nope
builder prune extra
nope
--nope
--nope ps
-H
-H unix:///no/such.sock ps
-H nonsense://x ps
--context nope ps
-c nope ps
-l nonsense ps
help nope
context show
context inspect nope
context use nope
context rm nope
context rm default
context create default
context create x y
login a b
logout nowhere.example
wait
top
kill
stop
start
restart
pause
unpause
diff
attach
exec
commit
history
build
build /no/such/folder
build --nope .
cp
""".strip().splitlines()

CHANGING = """
run -d --name new busybox true
run --rm --name new busybox echo hi
create --name new busybox
stop -t 0 up
kill up
restart -t 0 up
restart -t 0 up nope
pause up
rename up newer
rm -f up
rm gone made
rm -fv up gone nope
start gone
start made gone nope
start -a made
wait made
update --memory 64m --memory-swap 64m up
update --restart always up gone
commit gone new:1
commit -m msg -c 'CMD ["x"]' -a me gone new:1
exec -d up touch /tmp/x
cp /etc/hostname up:/tmp/
cp up:/etc/passwd -
tag busybox new:2
tag busybox new
rmi other:1
rmi -f busybox
rmi busybox
image rm other:1 nope
volume create
volume create new
volume create --label a=b new
volume rm spare
volume rm spare nope data
volume prune -f
volume prune
network create new
network create --label a=b --subnet 10.213.7.0/24 --gateway 10.213.7.9 new
network connect front up
network disconnect bridge up
network rm front
network rm front nope
network prune -f
container prune -f
container prune --force --filter label=color=red
image prune -f
image prune -af
system prune -f
system prune -f --volumes
builder prune -f
""".strip().splitlines()


_CHAIN = re.compile(r"failed to create (?:task for container|shim task|shim): .*: (exec: .*): unknown")
"""Through which programs a start went that failed: Docker's command tells it, ours tells the cause."""


def shape(result: Result) -> tuple[int, str, str]:
    stdout = normal(result.stdout)
    if "images" in result.argv or "image" in result.argv:
        stdout = "\n".join(sorted(stdout.splitlines()))  # Docker's command lists an image's names in the order of a map
    return result.code, stdout, _CHAIN.sub(r"\1", normal(result.stderr))


class Pair:
    """Both clients on one engine."""

    def __init__(self, engine: Engine) -> None:
        self.docker = CommandLine(engine, [*engine.host_prefix(), docker_program()])
        self.carrack = CommandLine(engine, [*engine.host_prefix(), carrack_program()])

    def clear(self, archive: bytes) -> None:
        """An engine with nothing but busybox:latest."""
        engine = self.docker.engine
        for row in engine.api("GET", "/containers/json?all=1").json:
            engine.api("DELETE", f"/containers/{row['Id']}?force=1&v=1")
        for row in engine.api("GET", "/volumes").json.get("Volumes") or []:
            engine.api("DELETE", f"/volumes/{row['Name']}?force=1")
        for row in engine.api("GET", "/networks").json:
            if row["Name"] not in ("bridge", "host", "none"):
                engine.api("DELETE", f"/networks/{row['Id']}")
        names = [row.get("RepoTags") or [] for row in engine.api("GET", "/images/json").json]
        if names != [["busybox:latest"]]:
            for row in engine.api("GET", "/images/json?all=1").json:
                engine.api("DELETE", f"/images/{row['Id']}?force=1")
            engine.api("POST", "/images/load?quiet=1", archive, headers={"Content-Type": "application/x-tar"})

    def furnish(self) -> None:
        """Containers in several states, a network, volumes and a second image name."""
        self._order("/networks/create", {"Name": "front"})
        self._order("/volumes/create", {"Name": "data"})
        self._order("/volumes/create", {"Name": "spare"})
        self._order("/images/busybox/tag?repo=other&tag=1")
        script = "echo first; echo second >&2; trap 'exit 0' TERM; sleep 10000 & wait"
        host = {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1"}]}, "Binds": ["data:/data"]}
        up = {"Cmd": ["sh", "-c", script], "Labels": {"color": "red"}, "ExposedPorts": {"80/tcp": {}}, "HostConfig": host}
        for name, wanted in (
            ("up", up),
            ("gone", {"Cmd": ["sh", "-c", "echo changed > /new; exit 3"]}),
            ("made", {"Cmd": ["echo", "made"]}),
        ):
            self._order(
                f"/containers/create?name={name}", {"Image": "busybox", "AttachStdout": True, "AttachStderr": True, **wanted}
            )
        self._order("/containers/up/start")
        self._order("/containers/gone/start")
        self._order("/containers/gone/wait")

    def _order(self, target: str, body: object = None) -> None:
        answer = self.docker.engine.api("POST", target, body)
        assert answer.status < 300, answer.body

    def world(self) -> list[list[str]]:
        """What there is now, in words that are the same whenever it was made."""
        api = self.docker.engine.api
        containers = [
            f"{row['Names'][0]} {row['State']} {len(row['NetworkSettings']['Networks'])}"
            for row in api("GET", "/containers/json?all=1").json
        ]
        names = [name for row in api("GET", "/images/json").json for name in row.get("RepoTags") or ["<none>"]]
        volumes = [f"{row['Name']} {row['Labels']}" for row in api("GET", "/volumes").json.get("Volumes") or []]
        networks = [f"{row['Name']} {row['Labels']}" for row in api("GET", "/networks").json]
        return [sorted(normal(text) for text in found) for found in (containers, names, volumes, networks)]


@pytest.fixture(scope="module")
def pair(engine_pool: EnginePool, engine_kind: str) -> Iterator[Pair]:
    """Both clients on an engine of this module's own."""
    engine = engine_pool.build(engine_kind)
    try:
        engine_pool.start(engine)
        yield Pair(engine)
    finally:
        engine.close()


@pytest.fixture(scope="module")
def furnished(pair: Pair, images: Images) -> Pair:
    """The same with the things that READING reads."""
    pair.clear(images.base_archive)
    pair.furnish()
    return pair


@pytest.mark.parametrize("line", READING)
def test_both_say_the_same(furnished: Pair, line: str) -> None:
    words = shlex.split(line)
    theirs = shape(furnished.docker(*words))
    ours = shape(furnished.carrack(*words))
    assert ours == theirs


@pytest.mark.parametrize("line", CHANGING)
def test_both_do_the_same(pair: Pair, images: Images, line: str) -> None:
    words = shlex.split(line)
    outcomes = []
    for client in (pair.docker, pair.carrack):
        pair.clear(images.base_archive)
        pair.furnish()
        done = shape(client(*words))
        for name in ("gone", "made", "new"):
            pair.docker.engine.api("POST", f"/containers/{name}/wait")  # what was started ends by itself
        outcomes.append((done, pair.world()))
    assert outcomes[1] == outcomes[0]


def test_copies_land_where_dockers_land(pair: Pair, images: Images, tmp_path: Path) -> None:
    """Docker's documented cases of `cp`, out of a container and into it."""
    pair.clear(images.base_archive)
    pair.docker.ok("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    pair.docker.ok(
        "exec", "box", "sh", "-c", "mkdir -p /src/dir/sub; echo f > /src/file; echo s > /src/dir/sub/s; ln -s /src/file /src/link"
    )
    seen = {}
    for client in (pair.docker, pair.carrack):
        place = tmp_path / client.name
        (place / "dir/sub").mkdir(parents=True)
        (place / "file").write_text("f")
        (place / "link").symlink_to("file")
        cases = [
            ("box:/src/file", f"{place}/out1"),
            ("box:/src/file", f"{place}/dir"),
            ("box:/src/dir", f"{place}/out2"),
            ("box:/src/dir", f"{place}/dir"),
            ("box:/src/dir/.", f"{place}/out3"),
            ("box:/src/link", f"{place}/out4"),
            ("box:/src/file", f"{place}/missing/"),
            ("box:/src/dir", f"{place}/file"),
            (f"{place}/file", "box:/tmp/in1"),
            (f"{place}/file", "box:/tmp"),
            (f"{place}/dir", "box:/tmp/in2"),
            (f"{place}/dir/.", "box:/tmp/in2"),
            (f"{place}/dir", "box:/tmp/in1"),
            (f"{place}/link", "box:/tmp/in5"),
            (f"{place}/file", "box:/tmp/absent/"),
            (f"{place}/absent", "box:/tmp"),
        ]
        codes = [(client("cp", *case).code, client("cp", "-L", *case).code) for case in cases]
        local = sorted(str(path.relative_to(place)) for path in place.rglob("*"))
        inside = pair.docker.ok("exec", "box", "sh", "-c", "cd /tmp; find . | sort; rm -rf /tmp/*")
        seen[client.name] = (codes, local, inside)
    assert seen["carrack"] == seen["docker"]
