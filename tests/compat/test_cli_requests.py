"""`carrack` asks a daemon exactly what Docker's command asks it: the same command line given to both, the requests compared.

The daemon is a recorder, so every flag can be tried, whether or not this machine could honour it.
"""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig.command_twins import DOCKER, compare
from tests.rig.engine import carrack_program
from tests.rig.recorder import Recorder

pytestmark = [
    pytest.mark.docker_since(28),
    pytest.mark.skipif(DOCKER is None, reason="no docker command line on PATH"),
    pytest.mark.skipif(not Path(carrack_program()).exists(), reason="run scripts/setup"),
]

RUN_FLAGS = """
--add-host a:1.2.3.4 --add-host b=[::1] --add-host c:host-gateway
--annotation a=b --annotation c
-a stdin -a STDERR
--blkio-weight 100 --blkio-weight-device /dev/sda:200
--cap-add net_admin --cap-add CAP_SYS_TIME --cap-drop all
--cgroup-parent /x --cgroupns host
--cpu-count 2 --cpu-percent 50
--cpu-period 1000 --cpu-quota 500 --cpu-rt-period 100 --cpu-rt-runtime 10 -c 512 --cpuset-cpus 0-1 --cpuset-mems 0
--cpus 1.5
-d
-d -i -t
--device /dev/null --device /dev/zero:/dev/x --device /dev/full:r --device /dev/a:/dev/b:rw --device vendor.com/gpu=0
--device-cgroup-rule 'c 1:3 rwm'
--device-read-bps /dev/sda:1mb --device-read-iops /dev/sda:5 --device-write-bps /dev/sda:2k --device-write-iops /dev/sda:7
--dns 8.8.8.8 --dns ::1 --dns-option ndots:2 --dns-opt rotate --dns-search example.com
--domainname d --hostname h
--entrypoint /bin/x
--entrypoint ''
-e A=1 -e B= -e FROM_OUTSIDE -e UNKNOWN_HERE
--expose 80 --expose 90-92/udp
--gpus all
--gpus 'device=0,driver=nvidia' --gpus 2
--group-add audio --group-add 5
--health-cmd 'true x' --health-interval 5s --health-retries 3 --health-timeout 2s --health-start-period 1m
--health-cmd x --health-start-interval 1s
--no-healthcheck
--init
--init=false
-i
-it=false
--io-maxbandwidth 1m --io-maxiops 5
--ip 1.2.3.4 --ip6 ::5 --network front --link-local-ip 169.254.1.1
--ipc host --pid host --uts host --userns host
--pid container:abc --ipc container:abc --network container:abc
--isolation default
--kernel-memory 5m
-l a=b --label c
--link other:alias
--network front --link other:alias --network-alias x --net-alias y
--log-driver json-file --log-opt max-size=1m --log-opt a
--mac-address 92:d0:c6:0a:29:33
-m 100m --memory-reservation 50m --memory-swap 1g --memory-swappiness 10
--memory-swap -1
--mount type=bind,src=/a,dst=/b,ro,bind-propagation=rshared,bind-recursive=writable
--mount type=volume,src=v,dst=/b,volume-nocopy,volume-label=a=b,volume-driver=x,volume-opt=o=p,volume-subpath=s
--mount type=tmpfs,dst=/t,tmpfs-size=5m,tmpfs-mode=1770 --mount type=image,src=i,dst=/i,image-subpath=p
--mount type=bind,source=/a,target=/b,consistency=cached,bind-nonrecursive
--name abc
--network host
--network none
--network bridge
--net front
--network name=front,alias=a,ip=10.0.0.1,ip6=::1,mac-address=92:d0:c6:0a:29:33,link-local-ip=1.1.1.1,driver-opt=k=v,gw-priority=5
--network front --network back
--oom-kill-disable --oom-score-adj 500
--pids-limit 100
--pids-limit=-1
--platform linux/amd64
--platform linux/arm/v7
--platform aarch64
--privileged --read-only
-p 80:80 -p 127.0.0.1:81:81/udp -p [::1]:82:82 -p 83 -p 8000-8002:90-92 -P
-p target=80,published=8080,protocol=udp -p 9000-9010:99
--restart always
--restart on-failure:3
--restart no --rm
--runtime runc
--security-opt no-new-privileges --security-opt apparmor=x --security-opt label:disable --security-opt systempaths=unconfined
--security-opt seccomp=unconfined
--shm-size 64m
--stop-signal SIGINT --stop-timeout 5
--storage-opt size=5G
--sysctl net.core.somaxconn=5 --sysctl kernel.msgmax=1
--tmpfs /t --tmpfs /u:size=5m,mode=700
-t
--ulimit nofile=5:8 --ulimit core=-1 --ulimit nofile=6
-u 5:6
-v /a:/b -v v:/c:ro -v /anonymous -v ./rel:/d -v /a:/b
--volume-driver x --volumes-from a:ro --volumes-from b
-w /w
--sig-proxy=false --pull missing --detach-keys ctrl-a,a
--disable-content-trust
""".strip().splitlines()

# Not here: `stats --no-stream`, which takes its one look from a stream, so that many containers are
# asked side by side and the daemon reads twice for them all at once.
OTHER = """
create --name x busybox sh -c 'a b'
ps
ps -a -n 3 -s --filter status=exited --filter label=a=b --no-trunc
ps -l
ps -q --filter name=x --filter name=y
stop -t 3 a
stop --signal INT --timeout 0 a
restart a
kill -s HUP a
kill a
rm -f -v -l a
rm /a
pause a
unpause a
rename a b
wait a
start a
start --checkpoint c --checkpoint-dir /d a
update --memory 5m --cpus 1 --restart always --pids-limit 5 --blkio-weight 10 a
update --cpuset-cpus 0 --cpu-shares 5 --memory-swap -1 a
top a
top a -o pid,comm
diff a
port a
logs a
export a
commit -a me -m msg -c 'ENV x=y' -p=false a repo:tag
commit a
inspect a
inspect --type image a
inspect -s --type container a
container inspect -s a
exec a sh
images -a --digests --filter dangling=true busy
images
image ls --filter reference=x
history a
rmi -f --no-prune a
rmi --platform linux/amd64 a
image inspect a/b:c
tag a b:c
tag a ghcr.io/b/c
save a b
load
image prune -f -a --filter until=5h
import -c 'CMD x' -m msg --platform linux/amd64 http://x.example/y.tar r:t
pull busybox
pull -a ghcr.io/a/b
pull --platform linux/arm64 a:1
push a:1
push -a ghcr.io/a/b
push --platform linux/amd64 a:1
search --limit 5 --filter is-official=true x
network ls --filter driver=bridge
network create n
network create -d macvlan --subnet 10.1.0.0/16 --ip-range 10.1.2.0/24 --gateway 10.1.0.1 --aux-address r=10.1.0.9 -o a=b n
network create --internal --attachable --ipv6 --ipv4=false --scope local --ipam-driver d --ipam-opt x=y --config-from z n
network create --subnet 10.1.0.0/16 --subnet fd00::/64 --gateway fd00::1 n
network connect --ip 1.2.3.4 --ip6 ::1 --alias a,b --alias c --link l:m --link-local-ip 1.1.1.1 --driver-opt k=v --gw-priority 2 n c
network connect n c
network disconnect -f n c
network inspect -v n
network rm n
network prune -f --filter until=1h
volume ls --filter dangling=true
volume create
volume create -d d -o a=b --label c=d v
volume create --group g --sharing all --scope multi --type mount --availability drain --required-bytes 5m --limit-bytes 9m v
volume create --group g --secret a=b --topology-required r=1,z=2 --topology-preferred p=3 v
volume inspect v
volume rm -f v
volume prune -f -a
volume prune -f --filter label=x
container prune -f --filter until=1h
builder prune -f -a --keep-storage 5m
system df
system prune -f --filter label=a
events --since 5 --until 6 --filter type=container
info
version
login -u u -p p r.example
checkpoint ls a
cp a:/x -
""".strip().splitlines()

CONTAINER = {
    "Id": "a",
    "Name": "/a",
    "State": {"Running": True, "Paused": False, "Restarting": False, "Status": "running"},
    "Config": {"Tty": False, "OpenStdin": False, "AttachStdin": False},
    "HostConfig": {"AutoRemove": False},
    "NetworkSettings": {"Ports": {}},
}


@pytest.fixture(scope="module", params=["1.50", "1.41"])
def recorder(request: pytest.FixtureRequest) -> Iterator[Recorder]:
    answers: dict[str, Any] = {"GET /containers/a/json": CONTAINER}
    with Recorder(version=request.param, answers=answers) as recording:
        yield recording


@pytest.mark.parametrize("flags", RUN_FLAGS)
def test_a_flag_of_run_asks_for_what_dockers_asks_for(recorder: Recorder, flags: str) -> None:
    compare(recorder, ["run", *shlex.split(flags), "busybox", "cmd", "-x"])


@pytest.mark.parametrize("line", OTHER)
def test_a_command_asks_for_what_dockers_asks_for(recorder: Recorder, line: str) -> None:
    compare(recorder, shlex.split(line))


def test_env_and_label_files_are_read_as_docker_reads_them(recorder: Recorder, tmp_path: Path) -> None:
    variables = tmp_path / "env"
    variables.write_text("\ufeff# comment\n  A=1 # kept \n\nB\nFROM_OUTSIDE\nC=\n")
    labels = tmp_path / "labels"
    labels.write_text("a=b\nonly-key\n")
    compare(recorder, ["create", "--env-file", str(variables), "-e", "A=2", "--label-file", str(labels), "-l", "a=c", "busybox"])


def test_a_seccomp_profile_travels_by_content(recorder: Recorder, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text('{\n  "defaultAction": "SCMP_ACT_ALLOW",\n  "x": [1, 2]\n}\n')
    compare(recorder, ["create", "--security-opt", f"seccomp={profile}", "busybox"])
