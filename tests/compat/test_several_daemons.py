"""Several daemons on one host, and the daemon's own flags: who may share what, and what is refused at the start."""

import json
import os
import stat
from pathlib import Path

import pytest

from tests.conftest import EnginePool, MakeEngine
from tests.rig.carrackd import Carrackd
from tests.rig.commands import run
from tests.rig.engine import CommandLine, Engine, docker_program
from tests.rig.leaks import settled
from tests.rig.namespaces import HeldNamespace, Neighbour
from tests.rig.ports import FreePort
from tests.rig.slots import slot
from tests.rig.unix_http import ask
from tests.rig.waiting import until

pytestmark = pytest.mark.peer_lacks("these are Carrack's flags and promises")


def cli_of(engine: Engine) -> CommandLine:
    return CommandLine(engine, [docker_program()])


def serve(cli: CommandLine, text: str, port: int) -> None:
    script = f"echo {text} > /index.html; exec httpd -f -p 80 -h /"
    cli.ok("run", "-d", "--name", "web", "-p", f"{port}:80", "busybox", "sh", "-c", script)
    until(lambda: fetched(cli.engine, port) == text, f"{text} to answer")


def fetched(engine: Engine, port: int) -> str:
    return engine.on_host("curl", "-s", "-m", "2", f"http://127.0.0.1:{port}/").text


def failed_start(engine: Engine) -> str:
    """Start a daemon that must refuse; return the last line it wrote."""
    engine.launch()
    assert engine.process is not None
    code = engine.process.wait(timeout=20)
    engine.process = None
    assert code == 1, engine.log_tail()
    assert "Traceback" not in engine.log_tail()
    return engine.log_tail().strip().splitlines()[-1]


def test_two_daemons_know_nothing_of_each_other(make_engine: MakeEngine, free_port: FreePort) -> None:
    one, two = cli_of(make_engine()), cli_of(make_engine())
    ports = free_port(), free_port()
    serve(one, "first", ports[0])
    serve(two, "second", ports[1])
    assert fetched(one.engine, ports[0]) == "first"
    assert one.ok("ps", "--format", "{{.Names}}") == two.ok("ps", "--format", "{{.Names}}") == "web"
    assert one.ok("inspect", "-f", "{{.Id}}", "web") != two.ok("inspect", "-f", "{{.Id}}", "web")


def test_containers_of_two_daemons_both_reach_outside(make_engine: MakeEngine, free_port: FreePort) -> None:
    """Each table drops what is forwarded for none of its networks: that must not be the other's traffic."""
    one, two = cli_of(make_engine()), cli_of(make_engine())
    ports = free_port(), free_port()
    serve(one, "first", ports[0])
    serve(two, "second", ports[1])
    with Neighbour([], number=slot() + 1000) as outside:
        for cli, port, text in ((one, ports[0], "first"), (two, ports[1], "second")):
            cli.ok("run", "--rm", "busybox", "ping", "-c", "1", "-W", "2", outside.address)
            assert outside.run("curl", "-s", "-m", "2", f"http://{outside.host_address}:{port}/").text == text


def test_one_daemons_end_disturbs_no_other(make_engine: MakeEngine, free_port: FreePort) -> None:
    one, two = cli_of(make_engine()), cli_of(make_engine())
    ports = free_port(), free_port()
    serve(one, "first", ports[0])
    serve(two, "second", ports[1])
    one.ok("rm", "-f", "web")
    assert one.engine.stop() == 0
    assert fetched(two.engine, ports[1]) == "second"
    two.ok("run", "--rm", "busybox", "ping", "-c", "1", "-W", "2", _gateway(two))


def test_a_port_that_another_daemon_published_is_in_use(make_engine: MakeEngine, free_port: FreePort) -> None:
    one, two = cli_of(make_engine()), cli_of(make_engine())
    port = free_port()
    serve(one, "first", port)
    ended = two("run", "-d", "-p", f"{port}:80", "busybox", "sleep", "1000")
    assert ended.code == 125
    assert "address already in use" in ended.stderr
    assert fetched(one.engine, port) == "first"


def test_a_daemon_that_ends_with_no_containers_leaves_nothing(make_engine: MakeEngine) -> None:
    engine = make_engine()
    assert isinstance(engine, Carrackd)
    cli_of(engine).ok("run", "--rm", "-p", "0:80", "busybox", "true")
    assert engine.stop() == 0
    assert not settled(set(), look=engine.traces)


def test_a_start_that_the_network_refuses_leaves_nothing(make_engine: MakeEngine) -> None:
    engine = make_engine()
    assert isinstance(engine, Carrackd)
    cli_of(engine).ok("run", "--rm", "--network", "none", "busybox", "true")
    before = engine.traces()
    setting = "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.no_such_setting=1"
    refused = cli_of(engine)("run", "--rm", "--network", f"name=bridge,driver-opt={setting}", "busybox", "true")
    assert (refused.code, "no_such_setting" in refused.stderr) == (125, True), refused.stderr
    assert not settled(before, look=engine.traces)


def test_a_second_daemon_on_the_same_data_root_is_refused(make_engine: MakeEngine) -> None:
    first, second = make_engine(), make_engine(start=False)
    second.data_root = first.data_root
    said = failed_start(second)
    assert first.process is not None
    assert str(first.process.pid) in said
    assert str(first.data_root) in said
    assert cli_of(first).ok("run", "--rm", "busybox", "echo", "unharmed") == "unharmed"
    _nothing_of(second)


def test_a_second_daemon_with_the_same_pidfile_is_refused(make_engine: MakeEngine) -> None:
    first, second = make_engine(), make_engine(start=False)
    second.pidfile = first.pidfile
    said = failed_start(second)
    assert first.process is not None
    assert str(first.process.pid) in said
    assert first.pidfile.read_text().strip() == str(first.process.pid)


def test_a_second_daemon_of_the_same_instance_is_refused(make_engine: MakeEngine) -> None:
    first, second = make_engine(), make_engine(start=False)
    second.token, token = first.token, second.token
    said = failed_start(second)
    second.token = token
    assert first.process is not None
    assert str(first.process.pid) in said
    assert cli_of(first).ok("run", "--rm", "busybox", "echo", "unharmed") == "unharmed"


def test_a_stale_pidfile_is_no_obstacle(make_engine: MakeEngine) -> None:
    engine = make_engine(start=False)
    dead = run(["sh", "-c", "echo $$"]).text
    engine.pidfile.write_text(dead)
    engine.start()
    assert engine.process is not None
    assert engine.pidfile.read_text().strip() == str(engine.process.pid)


def test_an_unwritable_data_root_is_refused(make_engine: MakeEngine, tmp_path: Path) -> None:
    engine = make_engine(start=False)
    (tmp_path / "file").write_text("in the way")
    engine.data_root = tmp_path / "file" / "data"
    said = failed_start(engine)
    assert str(engine.data_root) in said
    _nothing_of(engine)


def test_a_read_only_data_root_is_refused(make_engine: MakeEngine, tmp_path: Path) -> None:
    engine = make_engine(start=False)
    engine.data_root = tmp_path
    run(["mount", "-t", "tmpfs", "-o", "ro", "none", str(tmp_path)]).ok()
    try:
        said = failed_start(engine)
        assert str(tmp_path) in said
        assert "read-only" in said.lower()
    finally:
        run(["umount", str(tmp_path)]).ok()
    _nothing_of(engine)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--no-such-flag"], "no-such-flag"),
        (["--bip", "not-an-address"], "not-an-address"),
        (["-H", "carrier://x"], "carrier"),
        (["--log-driver", "carrier-pigeon"], "carrier-pigeon"),
        (["--default-address-pool", "base=nonsense,size=24"], "nonsense"),
        (["--instance", "Not/A/Name"], "Not/A/Name"),
        (["--tlsverify"], "tls"),
        (["-H", "tcp://0.0.0.0:0"], "tls"),
    ],
)
def test_a_bad_flag_is_refused_in_one_line(make_engine: MakeEngine, flags: list[str], words: str) -> None:
    engine = make_engine(*flags, start=False)
    assert words in failed_start(engine)
    _nothing_of(engine)


def test_a_malformed_config_file_is_refused(make_engine: MakeEngine) -> None:
    engine = make_engine(start=False)
    (engine.folder / "daemon.json").write_text("{")
    assert "daemon.json" in failed_start(engine)
    (engine.folder / "daemon.json").write_text('{"no-such-setting": 1}')
    assert "no-such-setting" in failed_start(engine)


def test_the_config_file_is_honoured(make_engine: MakeEngine) -> None:
    engine = make_engine(start=False)
    (engine.folder / "daemon.json").write_text(json.dumps({"log-driver": "json-file", "labels": ["from=file"]}))
    engine.start()
    shown = engine.api("GET", "/info").json
    assert (shown["LoggingDriver"], shown["Labels"]) == ("json-file", ["from=file"])


def test_the_socket_is_for_its_group_only(make_engine: MakeEngine) -> None:
    engine = make_engine()
    assert stat.S_IMODE(os.stat(engine.socket).st_mode) == 0o660


def test_the_private_roots_are_closed_to_others(make_engine: MakeEngine) -> None:
    engine = make_engine()
    assert stat.S_IMODE(os.stat(engine.data_root).st_mode) == 0o710
    assert stat.S_IMODE(os.stat(engine.exec_root).st_mode) & 0o022 == 0


def test_several_hosts_are_listened_on_at_once(make_engine: MakeEngine, free_port: FreePort) -> None:
    port = free_port()
    other = Path(f"/tmp/ct-other-{os.getpid()}.sock")
    engine = make_engine("-H", f"unix://{other}", "-H", f"tcp://127.0.0.1:{port}", "--tls=false")
    assert ask(other, "GET", "/_ping").body == b"OK"
    assert run(["curl", "-s", "-m", "3", f"http://127.0.0.1:{port}/_ping"]).text == "OK"
    assert engine.stop() == 0
    assert not other.exists()


def test_the_bridge_has_the_address_that_bip_says(make_engine: MakeEngine) -> None:
    engine = make_engine()
    assert isinstance(engine, Carrackd)
    assert f"inet {engine.bip} " in run(["ip", "-4", "-o", "address", "show", engine.bridge]).ok()


def test_validate_says_whether_the_configuration_is_good(engine_pool: EnginePool) -> None:
    engine = engine_pool.build("carrackd", ["--validate"])
    try:
        good = run(engine.argv())
        assert (good.code, "configuration OK" in good.stdout + good.stderr) == (0, True)
        assert not engine.data_root.exists()
    finally:
        engine.folder.joinpath("home").rmdir()
        engine.folder.rmdir()


def test_a_forwarded_packet_of_no_network_is_dropped(engine_pool: EnginePool) -> None:
    """carrackd switches forwarding on; the host must not have become a router for others by that."""
    with HeldNamespace() as host:
        host.run("sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward").ok()
        engine = engine_pool.build("carrackd", host=host)
        try:
            engine_pool.start(engine)
            assert host.run("cat", "/proc/sys/net/ipv4/ip_forward").ok() == "1"
            assert "forward" in engine.log_tail().lower()
            with Neighbour(host.prefix(), number=1) as left, Neighbour(host.prefix(), number=2) as right:
                assert left.run("busybox", "ping", "-c", "1", "-W", "1", left.host_address).code == 0
                assert left.run("busybox", "ping", "-c", "1", "-W", "1", right.address).code != 0
                cli_of(engine).ok("run", "--rm", "busybox", "ping", "-c", "1", "-W", "2", right.address)
        finally:
            engine.close()


def _gateway(cli: CommandLine) -> str:
    return cli.ok("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge")


def _nothing_of(engine: Engine) -> None:
    """A daemon that refused to start has made nothing: its folder on disk aside, no link, table, cgroup or process."""
    assert isinstance(engine, Carrackd)
    assert engine.traces() == set()


def test_a_daemon_opens_as_many_files_as_it_may_and_containers_begin_with_what_it_was_given(
    make_engine: MakeEngine, engine_pool: EnginePool
) -> None:
    engine = make_engine(start=False)
    argv = engine.argv()
    engine.argv = lambda: ["prlimit", "--nofile=300:4000", *argv]  # type: ignore[method-assign]
    engine_pool.start(engine)
    assert engine.process is not None
    limits = Path(f"/proc/{engine.process.pid}/limits").read_text()
    assert next(line.split()[3:5] for line in limits.splitlines() if "open files" in line) == ["4000", "4000"]
    assert cli_of(engine).ok("run", "--rm", "busybox", "sh", "-c", "ulimit -Sn; ulimit -Hn").split() == ["300", "4000"]
