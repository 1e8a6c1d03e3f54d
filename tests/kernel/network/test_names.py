"""The embedded name server: real containers' namespaces, the real process, questions as resolvers ask them."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from carrack.kernel import netns
from carrack.networks.creation import NetworkRequest
from carrack.networks.dns import place as place_of_names
from carrack.networks.dns.control import Done, Drop, Put, Serve, receive_answer, send
from carrack.networks.dns.table import ContainerNames, EndpointNames
from carrack.networks.endpoint import EndpointWish
from carrack.networks.names import _Opened
from carrack.networks.networks import Networks
from carrack.networks.options import NetworkOptions
from tests.kernel.network.lab import OUTSIDE4, Box, Lab

pytestmark = pytest.mark.root

A, PTR, MX, AAAA = 1, 12, 15, 28
RESOLVER = "127.0.0.11"


def question(name: str, kind: int, identifier: int = 0x1234) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">HHHHHH", identifier, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


def read_answer(data: bytes) -> tuple[int, list[str]]:
    """(response code, answers) of a reply whose records repeat the question's name by a pointer."""
    _, flags, _, count, _, _ = struct.unpack_from(">HHHHHH", data)
    offset = 12
    while data[offset]:
        offset += data[offset] + 1
    offset += 5
    answers = []
    for _ in range(count):
        kind, _, _, length = struct.unpack_from(">HHIH", data, offset + 2)
        content = data[offset + 12 : offset + 12 + length]
        if kind == PTR:
            labels = []
            while content[0]:
                labels.append(content[1 : 1 + content[0]].decode())
                content = content[1 + content[0] :]
            answers.append(".".join(labels))
        else:
            answers.append(str(ip_address(content)))
        offset += 12 + length
    return flags & 0x0F, answers


def ask(place: int, name: str, kind: int = A, *, by: str = "udp", patience: float = 15.0) -> tuple[int, list[str]]:
    """Ask the container's name server."""
    number = socket.SOCK_DGRAM if by == "udp" else socket.SOCK_STREAM
    with netns.inside(place, lambda: socket.socket(socket.AF_INET, number)) as asker:
        asker.settimeout(patience)
        asker.connect((RESOLVER, 53))
        data = question(name, kind)
        asker.sendall(data if by == "udp" else struct.pack(">H", len(data)) + data)
        return read_answer(asker.recv(4096) if by == "udp" else asker.recv(4096)[2:])


@pytest.fixture
def networks(lab: Lab, tmp_path: Path) -> Networks:
    networks = lab.open(NetworkOptions(run_directory=tmp_path))
    networks.create(NetworkRequest(name="red"))
    return networks


@pytest.fixture
def pair(lab: Lab, networks: Networks) -> tuple[Box, Box]:
    """Two containers of the network red."""
    return lab.start(networks, "web", "red"), lab.start(networks, "client", "red")


class Upstream:
    """A name server outside that knows every name as 192.0.2.1, and remembers what it was asked."""

    def __init__(self, place: int, code: int = 0, *, address: str = OUTSIDE4) -> None:
        self.asked: list[str] = []
        self._code = code
        self._datagrams = netns.inside(place, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._datagrams.bind((address, 53))
        self._listener = netns.inside(place, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((address, 53))
        self._listener.listen(4)
        for serve in (self._serve_datagrams, self._serve_streams):
            threading.Thread(target=serve, daemon=True).start()

    def _answer(self, data: bytes) -> bytes:
        labels, offset = [], 12
        while data[offset]:
            labels.append(data[offset + 1 : offset + 1 + data[offset]].decode())
            offset += data[offset] + 1
        self.asked.append(".".join(labels))
        record = b"\xc0\x0c" + struct.pack(">HHIH", A, 1, 60, 4) + ip_address("192.0.2.1").packed
        records = b"" if self._code else record
        return data[:2] + struct.pack(">HHHHH", 0x8180 | self._code, 1, bool(records), 0, 0) + data[12 : offset + 5] + records

    def _serve_datagrams(self) -> None:
        while True:
            try:
                data, peer = self._datagrams.recvfrom(4096)
            except OSError:
                return
            if not peer:
                return
            self._datagrams.sendto(self._answer(data), peer)

    def _serve_streams(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                answer = self._answer(connection.recv(4096)[2:])
                connection.sendall(struct.pack(">H", len(answer)) + answer)

    def close(self) -> None:
        for each in (self._datagrams, self._listener):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()


@pytest.fixture
def upstream(lab: Lab) -> Iterator[Upstream]:
    server = Upstream(lab.outside)
    yield server
    server.close()


def wish(name: str, *, aliases: tuple[str, ...] = (), links: tuple[str, ...] = ()) -> EndpointWish:
    return EndpointWish(container_name=name, aliases=aliases, links=links, upstreams=(OUTSIDE4,))


def eventually(happened: Callable[[], bool], seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        select.select([], [], [], 0.01)
    return True


def names_process(lab: Lab) -> int:
    """The process that listens at names-2.sock, by the credentials of its socket; not us, who made it for one that is about to."""
    found: list[int] = []

    def taken() -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(lab._directory / "names-2.sock"))
            found[:] = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[:1]
        return found != [os.getpid()]

    assert eventually(taken)
    return found[0]


def children(process: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


# ── names ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_container_finds_its_neighbour_by_name(pair: tuple[Box, Box]) -> None:
    web, client = pair
    assert ask(client.place, "web") == (0, [web.endpoint.ipv4])


def test_a_name_is_found_in_any_case_by_tcp_and_with_the_networks_name(pair: tuple[Box, Box]) -> None:
    web, client = pair
    expected = (0, [web.endpoint.ipv4])
    assert [ask(client.place, "WeB"), ask(client.place, "web", by="tcp"), ask(client.place, "web.red")] == [expected] * 3


def test_a_container_is_found_by_its_short_id_and_itself(pair: tuple[Box, Box]) -> None:
    web, client = pair
    assert ask(client.place, web.id[:12]) == (0, [web.endpoint.ipv4])
    assert ask(web.place, "web") == (0, [web.endpoint.ipv4])


def test_an_address_has_the_name_of_its_container(pair: tuple[Box, Box]) -> None:
    web, client = pair
    reverse = ".".join(reversed(web.endpoint.ipv4.split("."))) + ".in-addr.arpa"
    assert ask(client.place, reverse, PTR) == (0, ["web.red"])


def test_a_known_name_without_such_an_address_is_no_error(pair: tuple[Box, Box]) -> None:
    assert ask(pair[1].place, "web", AAAA) == (0, [])
    assert ask(pair[1].place, "web", MX) == (0, [])


def test_an_ipv6_network_gives_both_kinds_of_addresses(lab: Lab, networks: Networks) -> None:
    networks.create(NetworkRequest(name="six", enable_ipv6=True))
    box = lab.start(networks, "web", "six")
    assert ask(box.place, "web", AAAA) == (0, [box.endpoint.ipv6])
    assert ask(box.place, "web", A) == (0, [box.endpoint.ipv4])


def test_containers_of_one_alias_take_turns(lab: Lab, networks: Networks) -> None:
    first = lab.start(networks, "one", "red", wish=wish("one", aliases=("app",)))
    second = lab.start(networks, "two", "red", wish=wish("two", aliases=("app",)))
    answers = [ask(first.place, "app")[1] for _ in range(4)]
    assert all(set(answer) == {first.endpoint.ipv4, second.endpoint.ipv4} for answer in answers)
    assert len({answer[0] for answer in answers}) == 2


def test_names_of_other_networks_are_not_told(lab: Lab, networks: Networks, upstream: Upstream) -> None:
    networks.create(NetworkRequest(name="blue"))
    lab.start(networks, "secret", "blue")
    client = lab.start(networks, "client", "red", wish=wish("client"))
    assert ask(client.place, "secret") == (0, ["192.0.2.1"]), "the outside server answered, which knows everything"


def test_a_link_is_an_alias_for_one_container_only(lab: Lab, networks: Networks, upstream: Upstream) -> None:
    web = lab.start(networks, "web", "red")
    linked = lab.start(networks, "linked", "red", wish=wish("linked", links=("web:db",)))
    other = lab.start(networks, "other", "red", wish=wish("other"))
    assert ask(linked.place, "db") == (0, [web.endpoint.ipv4])
    assert ask(other.place, "db") == (0, ["192.0.2.1"])


def test_the_host_has_a_name(pair: tuple[Box, Box]) -> None:
    assert ask(pair[0].place, "host.docker.internal") == (0, ["172.18.0.1"])


def test_a_container_that_joins_or_leaves_is_known_at_once(lab: Lab, networks: Networks, upstream: Upstream) -> None:
    client = lab.start(networks, "client", "red", wish=wish("client"))
    late = lab.start(networks, "late")
    joined = networks.allocate(networks.get("red"), late.id, wish("late"))
    networks.plug(joined, late.place, pidfd=lab.init)
    assert ask(client.place, "late") == (0, [joined.ipv4])
    assert ask(late.place, "client") == (0, [client.endpoint.ipv4])
    networks.unplug(joined, now=True, netns_fd=late.place)
    networks.release(late.id, joined.id)
    assert ask(client.place, "late") == (0, ["192.0.2.1"])


def test_a_renamed_container_has_its_new_name(networks: Networks, pair: tuple[Box, Box]) -> None:
    web, client = pair
    networks.rename(web.id, "api")
    assert ask(client.place, "api") == (0, [web.endpoint.ipv4])


def test_an_application_may_have_port_53_of_every_address(pair: tuple[Box, Box]) -> None:
    web, _ = pair
    with netns.inside(web.place, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as own:
        own.bind(("0.0.0.0", 53))
        assert ask(web.place, "client")[0] == 0


def test_a_resolver_that_others_wrote_agrees(pair: tuple[Box, Box]) -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("no busybox on this machine")
    command = [busybox, "nslookup", "web", RESOLVER]
    done = netns.inside(pair[1].place, lambda: subprocess.run(command, capture_output=True, text=True, timeout=20, check=False))
    assert f"Address: {pair[0].endpoint.ipv4}" in done.stdout.replace("Address 1:", "Address:")


# ── other questions ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_other_names_are_asked_of_the_containers_servers(lab: Lab, networks: Networks, upstream: Upstream) -> None:
    box = lab.start(networks, "web", "red", wish=wish("web"))
    assert ask(box.place, "example.org") == (0, ["192.0.2.1"])
    assert ask(box.place, "example.net", by="tcp") == (0, ["192.0.2.1"])
    assert upstream.asked == ["example.org", "example.net"]


def test_when_a_server_fails_the_next_is_asked(lab: Lab, networks: Networks, upstream: Upstream) -> None:
    asking = EndpointWish(container_name="web", upstreams=("198.51.100.250", OUTSIDE4))  # the first is nobody
    box = lab.start(networks, "web", "red", wish=asking)
    assert ask(box.place, "example.org", patience=10) == (0, ["192.0.2.1"])


def test_a_container_of_internal_networks_asks_nobody(lab: Lab, networks: Networks, upstream: Upstream) -> None:
    networks.create(NetworkRequest(name="inside", internal=True))
    box = lab.start(networks, "web", "inside", wish=wish("web"))
    other = lab.start(networks, "other", "inside", wish=wish("other"))
    assert ask(box.place, "secret-data.example.org") == (2, [])
    assert ask(box.place, "secret-data.example.org", by="tcp") == (2, [])
    assert ask(box.place, "other") == (0, [other.endpoint.ipv4])
    assert upstream.asked == []


def test_what_cannot_be_read_is_a_format_error(pair: tuple[Box, Box]) -> None:
    broken = [
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + tail for tail in (b"", b"\xc0\x0c\x00\x01", b"\x3fabc", b"\xff" * 40)
    ]
    with netns.inside(pair[0].place, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asker:
        asker.settimeout(5)
        for data in broken:
            asker.sendto(data, (RESOLVER, 53))
            assert asker.recv(100)[3] & 0x0F == 1
    assert ask(pair[1].place, "web")[0] == 0


def test_a_containers_own_servers_are_asked_from_its_own_namespace(lab: Lab, networks: Networks) -> None:
    """As Docker does: its loopback is meant, and what only it can reach."""
    asking = EndpointWish(container_name="web", upstreams=("127.0.0.5",))
    box = lab.start(networks, "web", "red", wish=asking)
    server = Upstream(box.place, address="127.0.0.5")
    try:
        assert ask(box.place, "example.org") == (0, ["192.0.2.1"])
        assert ask(box.place, "example.net", by="tcp") == (0, ["192.0.2.1"])
    finally:
        server.close()
    assert server.asked == ["example.org", "example.net"]


def test_a_server_that_is_ourselves_is_not_asked(lab: Lab, networks: Networks) -> None:
    box = lab.start(networks, "web", "red", wish=EndpointWish(container_name="web", upstreams=(RESOLVER,)))
    assert ask(box.place, "example.org") == (2, [])


def test_several_questions_may_come_by_one_stream_at_once(pair: tuple[Box, Box]) -> None:
    web, client = pair
    with netns.inside(client.place, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as asker:
        asker.settimeout(15)
        asker.connect((RESOLVER, 53))
        asker.sendall(b"".join(struct.pack(">H", len(each)) + each for each in (question("web", A), question("client", A))))
        stream = asker.makefile("rb")
        answers = [read_answer(stream.read(struct.unpack(">H", stream.read(2))[0])) for _ in range(2)]
        assert answers == [(0, [web.endpoint.ipv4]), (0, [client.endpoint.ipv4])]
        asker.sendall(b"\0\2ab")
        assert stream.read() == b"", "what is no question at all ends the conversation"


def test_many_questions_of_which_some_are_new_are_all_answered(pair: tuple[Box, Box]) -> None:
    """They are read and answered in batches."""
    web, client = pair
    with netns.inside(client.place, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asker:
        asker.settimeout(15)
        asker.connect((RESOLVER, 53))
        for names in (["web"] * 40, ["web", "client", "web.red", b"web".decode().upper()] * 10):
            for number, name in enumerate(names):
                asker.send(question(name, A, number))
            got = {}
            for _ in names:
                answer = asker.recv(512)
                got[int.from_bytes(answer[:2], "big")] = read_answer(answer)[1]
            assert got == {n: [(client if name == "client" else web).endpoint.ipv4] for n, name in enumerate(names)}


# ── its process ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_container_that_asks_without_end_keeps_no_other_from_asking(lab: Lab, networks: Networks, upstream: Upstream) -> None:
    """Its server says nothing, so that each question waits to be given up: their number has a bound for each container."""
    client = lab.start(networks, "client", "red", wish=wish("client"))
    floods = lab.start(networks, "floods", "red", wish=EndpointWish(container_name="floods", upstreams=("127.0.0.9",)))
    mute = netns.inside(floods.place, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    mute.bind(("127.0.0.9", 53))
    with mute, netns.inside(floods.place, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asker:
        asker.connect((RESOLVER, 53))
        asker.settimeout(15)
        refused = 0
        for number in range(6000):
            asker.send(question(f"n{number}.example.org", A, number))
            if number % 100 == 99:  # as fast as they are taken
                while select.select([asker], [], [], 0.001)[0]:
                    refused += read_answer(asker.recv(512))[0] == 2
        assert refused or read_answer(asker.recv(512))[0] == 2, "its own bound is met"
        assert ask(client.place, "example.org", patience=5) == (0, ["192.0.2.1"])


def test_questions_with_something_behind_them_do_not_fill_the_memory(lab: Lab, pair: tuple[Box, Box]) -> None:
    """A known name, and another tail each time: what is answered is not remembered with all of it."""
    _, client = pair

    def memory() -> int:
        rows = Path(f"/proc/{names_process(lab)}/smaps_rollup").read_text().splitlines()
        return next(int(row.split()[1]) for row in rows if row.startswith("Anonymous:"))

    with netns.inside(client.place, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asker:
        asker.settimeout(15)
        asker.connect((RESOLVER, 53))
        before = memory()
        for number in range(4000):
            asker.send(question("web", A, number) + struct.pack(">I", number) * 900)
            asker.recv(512)
        assert memory() < before + 4000


def test_without_a_user_defined_network_there_is_no_process(lab: Lab, tmp_path: Path) -> None:
    networks = lab.open(NetworkOptions(run_directory=tmp_path))
    lab.start(networks, "plain")
    assert not (tmp_path / "names-2.sock").exists()


def test_the_resolver_is_for_user_defined_networks_only(networks: Networks) -> None:
    assert networks.resolver([networks.get("red")]) == RESOLVER
    assert networks.resolver([networks.get("bridge")]) == ""


def test_names_are_answered_while_the_daemon_is_away_and_after(
    lab: Lab, networks: Networks, pair: tuple[Box, Box], tmp_path: Path
) -> None:
    web, client = pair
    lab.shut(networks, keep=True)
    assert ask(client.place, "web") == (0, [web.endpoint.ipv4])
    networks = lab.open(NetworkOptions(run_directory=tmp_path))
    third = lab.start(networks, "third", "red")
    assert ask(client.place, "third") == (0, [third.endpoint.ipv4])
    assert ask(third.place, "web") == (0, [web.endpoint.ipv4])


def test_a_name_server_that_is_killed_costs_no_look_up(lab: Lab, pair: tuple[Box, Box]) -> None:
    web, client = pair
    for _ in range(3):  # each spare makes a spare of its own
        killed = names_process(lab)
        os.kill(killed, signal.SIGKILL)
        assert ask(client.place, "web") == (0, [web.endpoint.ipv4])
        assert eventually(lambda killed=killed: names_process(lab) != killed)  # type: ignore[misc]


def test_a_name_server_that_is_killed_while_the_daemon_is_away_costs_no_look_up(
    lab: Lab, networks: Networks, pair: tuple[Box, Box], tmp_path: Path
) -> None:
    web, client = pair
    lab.shut(networks, keep=True)
    killed = names_process(lab)
    os.kill(killed, signal.SIGKILL)
    assert ask(client.place, "web") == (0, [web.endpoint.ipv4])
    assert ask(client.place, "web", by="tcp") == (0, [web.endpoint.ipv4])
    networks = lab.open(NetworkOptions(run_directory=tmp_path))
    third = lab.start(networks, "third", "red")
    assert ask(client.place, "third") == (0, [third.endpoint.ipv4])
    assert names_process(lab) != killed


def test_a_spare_that_is_killed_is_replaced_and_knows_everything(lab: Lab, networks: Networks, pair: tuple[Box, Box]) -> None:
    web, client = pair
    primary = names_process(lab)
    spare = children(primary)[0]
    os.kill(spare, signal.SIGKILL)
    assert eventually(lambda: bool(children(primary)) and children(primary) != [spare])
    third = lab.start(networks, "third", "red")
    os.kill(primary, signal.SIGKILL)
    assert ask(client.place, "web") == (0, [web.endpoint.ipv4])
    assert ask(third.place, "client") == (0, [client.endpoint.ipv4])


def test_when_both_are_lost_the_daemon_opens_the_sockets_again(
    lab: Lab, networks: Networks, pair: tuple[Box, Box], tmp_path: Path
) -> None:
    web, client = pair
    lab.shut(networks, keep=True)
    primary = names_process(lab)
    for process in (*children(primary), primary):
        os.kill(process, signal.SIGKILL)
    places = {box.id: box.place for box in pair}
    networks = lab.open(NetworkOptions(run_directory=tmp_path))
    networks.reconcile({box.id for box in pair}, lambda container_id: (os.dup(places[container_id]), os.dup(lab.init)))
    assert ask(client.place, "web") == (0, [web.endpoint.ipv4])
    assert ask(web.place, "client", by="tcp") == (0, [client.endpoint.ipv4])


def test_the_socket_is_for_root_only(lab: Lab, pair: tuple[Box, Box], tmp_path: Path) -> None:
    assert (tmp_path / "names-2.sock").stat().st_mode & 0o777 == 0o600


def test_the_name_server_does_not_keep_a_containers_namespace(lab: Lab, networks: Networks, pair: tuple[Box, Box]) -> None:
    web, _ = pair
    networks.unplug(web.endpoint)
    networks.release(web.id)
    web.end()
    assert eventually(lambda: lab.kernel.find_link(web.endpoint.host_interface) is None)


def test_with_a_pidfd_a_container_that_ends_is_left_though_no_daemon_is_there(lab: Lab, networks: Networks) -> None:
    process = subprocess.Popen(["sleep", "600"])
    pidfd = os.pidfd_open(process.pid)
    place = netns.new()
    endpoint = networks.allocate(networks.get("red"), "short-lived", wish("short-lived"))
    networks.plug(endpoint, place, pidfd=pidfd)
    os.close(pidfd)
    lab.shut(networks, keep=True)
    os.close(place)
    process.kill()
    process.wait()
    assert eventually(lambda: lab.kernel.find_link(endpoint.host_interface) is None)
    assert eventually(lambda: not (lab._directory / "names-2.sock").exists()), "with nobody to answer it ended"


@pytest.fixture
def init() -> Iterator[subprocess.Popen[bytes]]:
    """A container's first process."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def test_a_container_opened_again_after_both_were_lost_is_left_at_its_end(
    lab: Lab, networks: Networks, init: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    box = lab.start(networks, "web", "red")
    lab.shut(networks, keep=True)
    primary = names_process(lab)
    for process in (*children(primary), primary):
        os.kill(process, signal.SIGKILL)
    networks = lab.open(NetworkOptions(run_directory=tmp_path))
    networks.reconcile({box.id}, lambda _: (os.dup(box.place), os.pidfd_open(init.pid)))
    assert ask(box.place, "web") == (0, [box.endpoint.ipv4])
    lab.shut(networks, keep=True)
    init.kill()
    assert eventually(lambda: not (tmp_path / "names-2.sock").exists()), "with nobody to answer it ended"


def cpu_ticks(process: int) -> int:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_after_the_end_of_one_container_the_process_is_idle_beside_another(
    lab: Lab, networks: Networks, pair: tuple[Box, Box], init: subprocess.Popen[bytes]
) -> None:
    """The pidfd of an ended init stays readable: whoever goes on watching it spins."""
    endpoint = networks.allocate(networks.get("red"), "short-lived", wish("short-lived"))
    place = netns.new()
    networks.plug(endpoint, place, pidfd=(pidfd := os.pidfd_open(init.pid)))
    os.close(pidfd)
    os.close(place)
    init.kill()
    init.wait()
    primary = names_process(lab)
    assert eventually(lambda: ask(pair[0].place, "short-lived.red", patience=15)[1] == [])
    before = cpu_ticks(primary)
    select.select([], [], [], 0.5)
    assert cpu_ticks(primary) - before <= 5, "of the fifty that it would take"


def test_a_container_that_starts_again_before_its_end_was_heard_goes_on_being_served(
    lab: Lab, networks: Networks, pair: tuple[Box, Box], init: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    place = netns.new()
    networks.loopback(place)
    with socket.socket(socket.AF_UNIX) as talk, _Opened(place) as old, _Opened(place) as new:
        talk.connect(str(tmp_path / "names-2.sock"))
        again = ContainerNames("phoenix", (EndpointNames(networks.get("red").id, "red", ("phoenix",), ipv4="10.9.9.9"),))

        def order(message: Put | Serve, fds: list[int]) -> None:
            send(talk, message, fds)

        first = os.pidfd_open(init.pid)
        order(Put(again), [])
        receive_answer(talk)
        order(Serve("phoenix"), [*old, first])
        receive_answer(talk)
        primary = names_process(lab)
        os.kill(primary, signal.SIGSTOP)
        order(Put(again), [])  # waits before the end does
        init.kill()
        init.wait()
        order(Serve("phoenix"), [*new, lab.init])
        os.kill(primary, signal.SIGCONT)
        assert [receive_answer(talk), receive_answer(talk)] == [Done(), Done()]
        assert ask(place, "phoenix") == (0, ["10.9.9.9"])
        os.close(first)
    os.close(place)


def test_a_spare_that_does_not_answer_is_replaced(lab: Lab, networks: Networks, pair: tuple[Box, Box]) -> None:
    web, client = pair
    primary = names_process(lab)
    [spare] = children(primary)
    os.kill(spare, signal.SIGSTOP)
    networks.unplug(client.endpoint)
    networks.release(client.id)
    assert ask(web.place, "web") == (0, [web.endpoint.ipv4])
    assert eventually(lambda: children(primary) not in ([], [spare]))
    os.kill(primary, signal.SIGKILL)
    assert ask(web.place, "web") == (0, [web.endpoint.ipv4])
    assert ask(web.place, "client.red")[1] == []


def test_a_process_that_ends_leaves_the_path_of_another(tmp_path: Path) -> None:
    path = tmp_path / "names.sock"
    first = place_of_names.listen(str(path))
    inode = place_of_names.take(first)
    second = place_of_names.listen(str(path))
    place_of_names.leave(first, inode)
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(path))
    place_of_names.leave(second, place_of_names.take(second))
    assert not path.exists()


def test_the_process_ends_with_the_instance(lab: Lab, networks: Networks, pair: tuple[Box, Box]) -> None:
    pidfd = os.pidfd_open(names_process(lab))
    lab.shut(networks, keep=False)
    assert select.select([pidfd], [], [], 15)[0]
    os.close(pidfd)


def test_a_thousand_questions_are_answered_quickly(pair: tuple[Box, Box]) -> None:
    web, client = pair
    with netns.inside(client.place, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asker:
        asker.settimeout(5)
        asker.connect((RESOLVER, 53))
        started = time.perf_counter()
        for number in range(1000):
            asker.send(question("web", A, number))
            assert read_answer(asker.recv(512)) == (0, [web.endpoint.ipv4])
        assert time.perf_counter() - started < 15, "on a shared machine; alone it takes a tenth of a second"


def test_when_both_die_under_a_daemon_it_starts_another_and_opens_the_sockets_again(
    lab: Lab, networks: Networks, pair: tuple[Box, Box]
) -> None:
    web, client = pair
    places = {box.id: box.place for box in pair}
    networks.reconcile({box.id for box in pair}, lambda container_id: (os.dup(places[container_id]), os.dup(lab.init)))
    primary = names_process(lab)
    for process in (*children(primary), primary):
        os.kill(process, signal.SIGKILL)

    def answered() -> bool:
        try:
            return ask(client.place, "web", patience=0.2) == (0, [web.endpoint.ipv4])
        except OSError:
            return False

    assert eventually(answered)


def test_a_look_meets_a_process_that_has_died_and_speaks_to_its_spare(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carrack.networks.names.NameService._watch", lambda *_: None)  # nobody tells us of its death first
    networks = lab.open(NetworkOptions(run_directory=tmp_path))
    networks.create(NetworkRequest(name="red"))
    web = lab.start(networks, "web", "red")
    service = networks._naming._service
    assert service is not None
    primary = names_process(lab)
    with_end = os.pidfd_open(primary)
    os.kill(primary, signal.SIGKILL)
    assert select.select([with_end], [], [], 10)[0]
    os.close(with_end)
    service.refresh()
    assert ask(web.place, "web") == (0, [web.endpoint.ipv4])
    assert names_process(lab) != primary


def test_a_look_now_and_then_finds_what_no_report_told(lab: Lab, networks: Networks, pair: tuple[Box, Box]) -> None:
    """A bridge that was set down, and a name that the process lost."""
    web, client = pair
    places = {box.id: box.place for box in pair}
    networks.reconcile({box.id for box in pair}, lambda container_id: (os.dup(places[container_id]), os.dup(lab.init)))
    bridge = lab.kernel.get_link(networks.get("red").bridge)
    lab.kernel.set_link(bridge.index, up=False)
    service = networks._naming._service
    assert service is not None
    service._try(Drop(web.id))
    assert ask(client.place, "web.red")[1] == []
    networks._upkeep.look()
    assert lab.kernel.get_link(bridge.name).up
    assert ask(client.place, "web.red") == (0, [web.endpoint.ipv4])
    assert ask(web.place, "client") == (0, [client.endpoint.ipv4])
