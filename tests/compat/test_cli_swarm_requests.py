"""The commands of a swarm ask of a daemon exactly what Docker's ask, flag by flag, and say the same.

The daemon is a recorder with a service, nodes, secrets and plugins, so that every flag can be tried without a swarm.
"""

import copy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig.command_twins import DOCKER, compare, lines_of
from tests.rig.recorder import Recorder

pytestmark = [pytest.mark.docker_since(28), pytest.mark.skipif(DOCKER is None, reason="no docker command line on PATH")]

SERVICE_CREATE = lines_of("""
!service create busybox
!service create -d --no-resolve-image busybox sh -c 'a b'
--cap-add net_admin --cap-add ALL --cap-drop sys_time --constraint node.role==manager --container-label a=b --dns
    8.8.8.8 --dns-option ndots:2 --dns-search x.com --endpoint-mode dnsrr --entrypoint 'a "b c"' -e A=1 -e FROM_OUTSIDE
    -e NOPE --generic-resource gpu=2 --group 5 busybox
--generic-resource name=x busybox
--health-cmd 'x y' --health-interval 5s --health-retries 3 --health-start-interval 1s --health-start-period 2s
    --health-timeout 4s --host a:1.2.3.4 --host b:::1 --hostname h --init --isolation default -l a=b -l c --limit-cpu
    1.5 --limit-memory 5m --limit-pids 5 --log-driver x --log-opt a=b busybox
--no-healthcheck --mount type=bind,src=/a,dst=/b,ro --mount type=volume,src=v,dst=/c --name n --oom-score-adj 5
    --placement-pref spread=node.labels.x -p 80:80 -p 81:82/udp -p published=9,target=10,mode=host -q --read-only
    --replicas 3 --replicas-max-per-node 2 --reserve-cpu .5 --reserve-memory 1m busybox
--restart-condition on-failure --restart-delay 1s --restart-max-attempts 2 --restart-window 3s --rollback-delay 1s
    --rollback-failure-action continue --rollback-max-failure-ratio .1 --rollback-monitor 2s --rollback-order
    start-first --rollback-parallelism 2 busybox
--stop-grace-period 3s --stop-signal INT --sysctl net.a=b --sysctl c -t --ulimit nofile=5:6 --update-delay 1s
    --update-failure-action rollback --update-max-failure-ratio .5 --update-monitor 3s --update-order start-first
    --update-parallelism 0 -u u --with-registry-auth -w /w busybox
--mode global busybox
--mode global --replicas 2 busybox
--mode replicated-job --replicas 4 --max-concurrent 2 busybox
--mode replicated-job --replicas 4 busybox
--mode global-job busybox
--mode nope busybox
--mode global --max-concurrent 2 busybox
--network net --network name=n2,alias=x,driver-opt=a=b busybox
--secret s --secret source=t,target=/x,uid=1,gid=2,mode=0400 --config c busybox
--credential-spec file://x busybox
--credential-spec config://x busybox
--update-parallelism 2 --mode replicated-job busybox
--restart-max-attempts 2 --limit-pids 0 busybox
--update-order x busybox
--restart-condition x busybox
--env-file /nope busybox
--no-healthcheck --health-cmd x busybox
--entrypoint '' busybox
-p x busybox
-p 80-81:90-91 busybox
-p 80 busybox
--tmpfs x busybox
--sysctl x= busybox
--replicas-max-per-node 0 busybox
--dns nope busybox
--host nope busybox
--hostname '{{.Node.Hostname}}' busybox
--isolation nope busybox
--network host busybox
--placement-pref x busybox
--generic-resource x busybox
--generic-resource a=1,b=2 busybox
UPPER
--mount type=tmpfs,dst=/x,tmpfs-size=5m busybox
--mount dst=/x busybox
--mount type=bind,src=/a,dst=/b,bind-propagation=rshared busybox
!service create
""")

SERVICE_UPDATE = lines_of("""
+ web
+ --args 'a b' --cap-add net_raw --cap-drop kill --config-add source=c2,target=/c --config-rm c --constraint-add
    node.x==y --constraint-rm old==1 --container-label-add x=y --container-label-rm cl web
+ --dns-add 1.1.1.1 --dns-rm 8.8.8.8 --dns-option-add a --dns-option-rm o --dns-search-add s2 --dns-search-rm s
    --endpoint-mode dnsrr --entrypoint 'x y' --env-add B=2 --env-add FROM_OUTSIDE --env-rm A --force
    --generic-resource-add gpu=3 --group-add 7 --group-rm 5 web
+ --generic-resource-rm gpu web
+ --health-cmd hc --health-interval 9s web
+ --no-healthcheck --host-add n:1.1.1.1 --host-rm h:1.2.3.4 --hostname hn --image other:2 --init --isolation process
    --label-add l2=x --label-rm l --limit-cpu 2 --limit-memory 6m --limit-pids 9 --log-driver ld --log-opt lo=1 web
+ --host-rm h web
+ --mount-add type=bind,src=/n,dst=/nn --mount-rm /m --network-add net --network-rm n2 --oom-score-adj 9
    --placement-pref-add spread=b --placement-pref-rm spread=a --publish-add 90:90 --publish-rm 80 --read-only
    --replicas 5 --replicas-max-per-node 4 --reserve-cpu 1 --reserve-memory 9m web
+ --publish-add 81:80 --mount-add type=volume,src=q,dst=/m web
+ --restart-condition none --restart-delay 1s --restart-max-attempts 9 --restart-window 2s --rollback-delay 1s
    --rollback-failure-action continue --rollback-max-failure-ratio .2 --rollback-monitor 1s --rollback-order
    start-first --rollback-parallelism 4 --secret-add t --secret-rm s --stop-grace-period 7s --stop-signal HUP
    --sysctl-add x=y --sysctl-rm sk -t --ulimit-add core=5 --ulimit-rm nofile --update-delay 1s --update-failure-action
    continue --update-max-failure-ratio .3 --update-monitor 2s --update-order start-first --update-parallelism 7 -u user
    --with-registry-auth -w /wd web
+ --rollback web
+ --rollback --replicas 2 web
+ --network-add n2 web
+ --publish-rm 80/udp web
+ --publish-rm 80:80 web
+ --publish-rm x web
+ --replicas 0 --limit-cpu 0 --env-rm nope web
+ --label-add l=new web
+ --entrypoint '' --args '' web
+ --max-concurrent 3 web
service update -d --image other:3 web
+ --cap-add ALL --cap-drop chown web
+ --init=false --read-only=false --tty=false web
+ --config-add c web
+ --secret-add source=s,target=new web
+ --credential-spec config://x web
+ --log-driver '' web
+ --log-opt a=b web
+ --restart-window 3s web
+ --update-delay 3s web
+ --args '"un' web
+ --placement-pref-rm zone=a web
service rollback -d web
service scale -d web=3 web=4
service scale -d glob=3
service scale -d web=
service rm web
service inspect --pretty --format x web
service ls
service ls -q --filter name=x
service ps web
service ps --filter name=x --no-resolve web
service logs web
service logs --raw --tail 5 --since 5 -t --details -f web
service logs task1
""")

CLUSTER = lines_of("""
swarm init
swarm init --advertise-addr eth0 --autolock --availability drain --cert-expiry 5h --data-path-addr 1.2.3.4
    --data-path-port 5000 --default-addr-pool 10.0.0.0/8 --default-addr-pool 11.0.0.0/8 --default-addr-pool-mask-length
    26 --dispatcher-heartbeat 3s --external-ca protocol=cfssl,url=https://x --force-new-cluster --listen-addr 1.2.3.4
    --max-snapshots 5 --snapshot-interval 6 --task-history-limit 7
swarm init --listen-addr eth0:99 --advertise-addr [::1]:5
swarm init --listen-addr [::1]
swarm init --listen-addr ::1
swarm init --listen-addr x:y
swarm init --availability nope
swarm init --data-path-port 80
swarm init --default-addr-pool nope
swarm init --external-ca nope
swarm init --external-ca protocol=x
swarm init --external-ca protocol=cfssl
swarm init --external-ca url=x
swarm join --token t host:1
swarm join --token t --advertise-addr a --availability pause --data-path-addr d --listen-addr l:5 host:1
swarm join
swarm leave
swarm leave -f
swarm update --autolock --cert-expiry 1h --dispatcher-heartbeat 9s --external-ca protocol=cfssl,url=u,x=y
    --max-snapshots 2 --snapshot-interval 3 --task-history-limit 4
swarm ca
swarm ca --cert-expiry 3h
swarm ca --rotate -d
swarm ca --rotate -d --ca-cert /etc/hostname
swarm ca -q
swarm join-token worker
swarm join-token --rotate manager
swarm unlock
swarm unlock-key
swarm unlock-key --rotate -q
node ls
node ls -q
node ls --filter name=x
node inspect n --pretty --format x
node ps
node ps a b
node rm a b
node rm -f a
node update --availability drain --role worker --label-add a=b --label-rm l n
node update n
node update --label-rm nope n
node promote n m
node demote n
secret create -l a=b --template-driver t s /etc/hostname
secret create -d drv s
secret create s -
secret ls --filter name=x
secret inspect a b
secret rm a b
config create -l a=b --template-driver t s /etc/hostname
config create s -
config ls -q
config inspect a
config inspect --pretty --format x a
config rm a
""")

PLUGINS = lines_of("""
plugin ls
plugin ls -q
plugin ls --no-trunc
plugin ls --format '{{.ID}} {{.Name}} {{.Description}} {{.Enabled}} {{.PluginReference}}'
plugin ls --format json
plugin ls --filter enabled=true
plugin inspect p q
plugin inspect -f '{{.Name}}' p
plugin enable p
plugin enable --timeout 5 a/b:c
plugin enable --timeout -1 p
plugin disable p
plugin disable -f p
plugin rm p q
plugin rm -f p
plugin set p A=1 B=2
plugin push a/b
plugin push UPPER
plugin push a/b@sha256:0000000000000000000000000000000000000000000000000000000000000000
plugin install --grant-all-permissions a/b K=V
plugin install --grant-all-permissions --alias al --disable reg.example/a/b:t
plugin install a/b
plugin install a/priv
plugin install --grant-all-permissions --alias AL a/b
plugin upgrade p
plugin upgrade --grant-all-permissions d
plugin upgrade --grant-all-permissions d other/x
plugin upgrade --grant-all-permissions --skip-remote-check d other/x
plugin create foo /nope
plugin create foo
""")

WHEN = {"CreatedAt": "2026-01-02T03:04:05.5Z", "UpdatedAt": "2026-02-03T04:05:06Z"}
FILE = {"UID": "0", "GID": "0", "Mode": 292}
SPEC: dict[str, Any] = {
    "Name": "web",
    "Labels": {"l": "1", "keep": "2"},
    "TaskTemplate": {
        "ContainerSpec": {
            "Image": "busybox:latest@sha256:" + "0" * 64,
            "Labels": {"cl": "1"},
            "Command": ["ep"],
            "Args": ["sleep", "1"],
            "Env": ["A=1", "K=2"],
            "Groups": ["5"],
            "Hosts": ["1.2.3.4 h", "1.2.3.4 g h"],
            "DNSConfig": {"Nameservers": ["8.8.8.8"], "Search": ["s"], "Options": ["o"]},
            "Mounts": [{"Type": "volume", "Source": "v", "Target": "/m"}],
            "Secrets": [{"File": {"Name": "s", **FILE}, "SecretID": "sid", "SecretName": "s"}],
            "Configs": [{"File": {"Name": "c", **FILE}, "ConfigID": "cid", "ConfigName": "c"}],
            "Sysctls": {"sk": "1"},
            "Ulimits": [{"Name": "nofile", "Hard": 6, "Soft": 5}],
            "CapabilityAdd": ["CAP_NET_ADMIN"],
            "Init": False,
        },
        "Resources": {
            "Limits": {"NanoCPUs": 1000},
            "Reservations": {"GenericResources": [{"DiscreteResourceSpec": {"Kind": "gpu", "Value": 2}}]},
        },
        "Placement": {"Constraints": ["old==1"], "Preferences": [{"Spread": {"SpreadDescriptor": "a"}}]},
        "Networks": [{"Target": "n2id"}],
        "ForceUpdate": 3,
    },
    "Mode": {"Replicated": {"Replicas": 2}},
    "EndpointSpec": {
        "Mode": "vip",
        "Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 80, "PublishMode": "ingress"}],
    },
}
GLOBAL = {**copy.deepcopy(SPEC), "Name": "glob", "Mode": {"Global": {}}}
NODE = {"Spec": {"Role": "worker", "Availability": "active", "Labels": {"l": "1"}}, "Version": {"Index": 4}}
CLUSTER_SPEC = {
    "Name": "default",
    "Labels": {},
    "Orchestration": {"TaskHistoryRetentionLimit": 5},
    "Raft": {"SnapshotInterval": 10000, "KeepOldSnapshots": 0, "HeartbeatTick": 1, "ElectionTick": 10},
    "Dispatcher": {"HeartbeatPeriod": 5000000000},
    "CAConfig": {"NodeCertExpiry": 7776000000000000},
    "TaskDefaults": {},
    "EncryptionConfig": {"AutoLockManagers": False},
}
PRIVILEGES = [
    {"Name": "network", "Description": "", "Value": ["host"]},
    {"Name": "mount", "Description": "perms", "Value": ["/x", "/y"]},
]
LONG = "a long description that goes on and on and on and on and on for ever"
ANSWERS: dict[str, Any] = {
    "GET /networks/net": {"Id": "netid", "Name": "net", "Scope": "swarm", "Attachable": True},
    "GET /networks/n2": {"Id": "n2id", "Name": "n2", "Scope": "swarm"},
    "GET /networks/host": {"Id": "hostid", "Name": "host", "Scope": "local"},
    "GET /secrets": [{"ID": f"{name}id", **WHEN, "Spec": {"Name": name}} for name in ("s", "t")],
    "GET /configs": [{"ID": f"{name}id", **WHEN, "Spec": {"Name": name}} for name in ("c", "c2", "x")],
    "GET /secrets/a": {"ID": "a", "Spec": {"Name": "a"}},
    "GET /configs/a": {"ID": "a", "Spec": {"Name": "a"}},
    "DELETE /secrets/a": {},
    "DELETE /configs/a": {},
    "POST /secrets/create": {"ID": "sid"},
    "POST /configs/create": {"ID": "cid"},
    "GET /services": [],
    "GET /services/web": {"ID": "webid", "Version": {"Index": 7}, "Spec": SPEC, "PreviousSpec": SPEC},
    "GET /services/glob": {"ID": "globid", "Version": {"Index": 7}, "Spec": GLOBAL},
    "POST /services/webid/update": {},
    "POST /services/create": {"ID": "svc"},
    "DELETE /services/web": {},
    "GET /tasks": [],
    "GET /tasks/task1": {"ID": "task1", "Spec": {"ContainerSpec": {}}, "ServiceID": "webid", "Slot": 1, "NodeID": "nid"},
    "GET /swarm": {
        "ID": "cl",
        "Version": {"Index": 9},
        "JoinTokens": {"Worker": "WT", "Manager": "MT"},
        "TLSInfo": {"TrustRoot": "PEM\n"},
        "Spec": CLUSTER_SPEC,
    },
    "GET /swarm/unlockkey": {"UnlockKey": "KEY"},
    "POST /swarm/init": "nid",
    "POST /swarm/update": {},
    "POST /swarm/join": {},
    "POST /swarm/leave": {},
    "GET /info": {
        "Swarm": {
            "NodeID": "nid",
            "LocalNodeState": "active",
            "ControlAvailable": True,
            "RemoteManagers": [{"NodeID": "nid", "Addr": "1.2.3.4:2377"}],
        },
        "IndexServerAddress": "https://index.docker.io/v1/",
    },
    "GET /nodes": [],
    "GET /nodes/nid": {"ID": "nid", **NODE, "ManagerStatus": {"Addr": "1.2.3.4:2377", "Leader": True}},
    "GET /nodes/n": {"ID": "nid2", **NODE, "Description": {"Hostname": "h2"}},
    "GET /nodes/m": {"ID": "mid", **NODE, "Spec": {"Role": "manager", "Availability": "active"}},
    "DELETE /nodes/a": {},
    "POST /nodes/nid2/update": {},
    "GET /plugins": [
        {
            "Id": "0123456789abcdef0123",
            "Name": "a/b:latest",
            "PluginReference": "docker.io/a/b:latest",
            "Enabled": True,
            "Config": {"Description": LONG},
            "Settings": {},
        },
        {"Id": "1123456789abcdef0123", "Name": "z:1", "Enabled": False, "Config": {"Description": "short\nline"}},
    ],
    "GET /plugins/p/json": {
        "Id": "0123",
        "Name": "p:latest",
        "Enabled": True,
        "PluginReference": "docker.io/library/p:latest",
    },
    "GET /plugins/d/json": {
        "Id": "0123",
        "Name": "d:latest",
        "Enabled": False,
        "PluginReference": "docker.io/library/d:latest",
    },
    "POST /plugins/p/enable": {},
    "POST /plugins/a/b:c/enable": {},
    "POST /plugins/p/disable": {},
    "DELETE /plugins/p": {},
    "POST /plugins/p/set": {},
    "GET /plugins/privileges": PRIVILEGES,
    "POST /plugins/pull": {"status": "x"},
    "POST /plugins/create": {},
}


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder(version="1.50", answers=ANSWERS) as recording:
        yield recording


@pytest.mark.parametrize("line", SERVICE_CREATE)
def test_a_flag_of_service_create_asks_for_what_dockers_asks_for(recorder: Recorder, line: str) -> None:
    words = shlex.split(line[1:] if line.startswith("!") else f"service create --no-resolve-image {line}")
    compare(recorder, words, stdout=True)


@pytest.mark.parametrize("line", SERVICE_UPDATE)
def test_a_flag_of_service_update_asks_for_what_dockers_asks_for(recorder: Recorder, line: str) -> None:
    words = shlex.split(f"service update -d --no-resolve-image {line[2:]}" if line.startswith("+ ") else line)
    compare(recorder, words, stdout=True)


@pytest.mark.parametrize("line", CLUSTER)
def test_a_command_of_the_cluster_asks_for_what_dockers_asks_for(recorder: Recorder, line: str) -> None:
    compare(recorder, shlex.split(line), stdout=True)


@pytest.mark.parametrize("line", PLUGINS)
def test_a_command_of_the_engines_plugins_asks_for_what_dockers_asks_for(recorder: Recorder, line: str) -> None:
    compare(recorder, shlex.split(line), stdout=True)


CERTIFICATE_LINES = lines_of("""
swarm ca --ca-cert {pem}
swarm ca --rotate -d --ca-cert {pem}
swarm ca --rotate -d --ca-cert {pem} --ca-key {pem}
swarm ca --rotate -d --ca-key {pem}
swarm ca --rotate -d --ca-cert {pem} --external-ca protocol=cfssl,url=u
swarm ca --rotate -d --ca-cert {other}
swarm ca --rotate -d --ca-cert {other}.absent
secret create s {other}
config create s {other}
""")


@pytest.mark.parametrize("line", CERTIFICATE_LINES)
def test_files_are_read_as_docker_reads_them(recorder: Recorder, tmp_path: Path, line: str) -> None:
    pem, other = tmp_path / "pem", tmp_path / "other"
    pem.write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    other.write_text("no certificate\n")
    compare(recorder, shlex.split(line.format(pem=pem, other=other)), stdout=True)


@pytest.mark.parametrize("flags", [[], ["--compress"]])
def test_a_plugins_folder_travels_as_an_archive(recorder: Recorder, tmp_path: Path, flags: list[str]) -> None:
    (tmp_path / "rootfs/sub").mkdir(parents=True)
    (tmp_path / "rootfs/sub/file").write_text("hi")
    (tmp_path / "config.json").write_text("{}")
    compare(recorder, ["plugin", "create", *flags, "foo", str(tmp_path)], stdout=True)


@pytest.mark.parametrize("lacking", ["config.json", "rootfs"])
def test_a_folder_that_is_no_plugin_is_refused(recorder: Recorder, tmp_path: Path, lacking: str) -> None:
    (tmp_path / "rootfs").mkdir()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / lacking).rename(tmp_path / "elsewhere")
    compare(recorder, ["plugin", "create", "foo", str(tmp_path)], stdout=True)
