"""One message per packet, with descriptors, at any size."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator

import pytest

from carrack.errors import SystemFailure
from carrack.oci.mount import Mount
from carrack.oci.runtime_spec import Process, RuntimeSpec
from carrack.shim import messages as m
from carrack.shim import wire

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        yield one, other


def start_order(*, env: tuple[str, ...] = ()) -> m.StartOrder:
    return m.StartOrder(
        container_id="c" * 64,
        spec=RuntimeSpec(process=Process(("/bin/true",), env=env)),
        rootfs=(Mount("overlay", "overlay", "", ("upperdir=/u",), ("/l",)),),
        cgroup="/carrack/c",
        socket_path="/run/carrack/shims/c.sock",
        state_directory="/var/lib/carrack/containers/c",
        log=m.LogPlan(path="/l"),
        seccomp=b"\x00\xff",
    )


def test_a_message_arrives_as_it_was_sent(pair: Pair) -> None:
    wire.send(pair[0], start_order())
    assert wire.receive(pair[1]) == (start_order(), [])


def test_descriptors_arrive_in_their_order_and_close_on_exec(pair: Pair) -> None:
    opened = [os.open("/dev/null", os.O_RDONLY), os.open("/dev/zero", os.O_RDONLY)]
    wire.send(pair[0], m.Go(), opened)
    _, fds = wire.receive(pair[1])
    try:
        assert [os.fstat(fd).st_rdev for fd in fds] == [os.fstat(fd).st_rdev for fd in opened]
        assert all(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for fd in fds)
    finally:
        wire.close_all([*opened, *fds])


def test_a_message_larger_than_any_packet_arrives(pair: Pair) -> None:
    order = start_order(env=tuple(f"NAME{i}={'x' * 1000}" for i in range(500)))
    wire.send(pair[0], order)
    assert wire.receive(pair[1])[0] == order


def test_a_sealed_message_shows_nothing_of_itself_in_the_packet(pair: Pair) -> None:
    wire.send(pair[0], start_order(env=("PASSWORD=secret",)), sealed=True)
    payload, fds = wire.receive_packet(pair[1])
    wire.close_all(fds)
    assert b"secret" not in payload


def test_the_sender_keeps_no_descriptor_of_a_sealed_message(pair: Pair) -> None:
    before = os.listdir("/proc/self/fd")
    wire.send(pair[0], start_order(), sealed=True)
    wire.receive(pair[1])
    assert os.listdir("/proc/self/fd") == before


def test_an_unsealed_memfd_is_refused(pair: Pair) -> None:
    memfd = os.memfd_create("forged")
    os.write(memfd, wire.encode(m.Go()))
    pair[0].sendmsg([b'{"type":"sealed"}'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, memfd.to_bytes(4, "little"))])
    os.close(memfd)
    with pytest.raises(SystemFailure, match="not sealed"):
        wire.receive(pair[1])


def test_a_packet_over_the_bound_is_refused(pair: Pair) -> None:
    pair[0].send(b"x" * (wire.PACKET_BYTES + 1))
    with pytest.raises(SystemFailure, match="larger"):
        wire.receive(pair[1])


def test_what_is_no_message_is_refused_and_its_descriptors_closed(pair: Pair) -> None:
    before = os.listdir("/proc/self/fd")
    pair[0].sendmsg([b'{"type":"nonsense"}'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, (0).to_bytes(4, "little"))])
    with pytest.raises(SystemFailure, match="not a message"):
        wire.receive(pair[1])
    assert os.listdir("/proc/self/fd") == before


def test_the_end_of_a_conversation_is_told(pair: Pair) -> None:
    pair[0].close()
    with pytest.raises(wire.ConversationEnded):
        wire.receive(pair[1])


def test_a_non_blocking_receiver_is_not_kept_waiting(pair: Pair) -> None:
    pair[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        wire.receive(pair[1])


def test_unknown_fields_of_a_later_version_are_ignored() -> None:
    assert wire.decode(b'{"type":"go","haste":true}') == m.Go()


@pytest.mark.parametrize("count", [249, 250, 251, 600])
@pytest.mark.parametrize("sealed", [False, True])
def test_more_descriptors_than_one_packet_takes_arrive_in_their_order(pair: Pair, count: int, sealed: bool) -> None:
    opened = [os.open("/dev/null", os.O_RDONLY), os.open("/dev/zero", os.O_RDONLY)]
    before = os.listdir("/proc/self/fd")
    wire.send(pair[0], m.Go(), [opened[number % 3 == 0] for number in range(count)], sealed=sealed)
    assert os.listdir("/proc/self/fd") == before
    message, fds = wire.receive(pair[1])
    zero = os.fstat(opened[1]).st_rdev
    found = [os.fstat(fd).st_rdev == zero for fd in fds]
    wire.close_all([*opened, *fds])
    assert message == m.Go()
    assert found == [number % 3 == 0 for number in range(count)]


def test_a_bag_that_is_none_is_refused(pair: Pair) -> None:
    pair[0].sendmsg([b'+{"type":"go"}'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, (0).to_bytes(4, "little"))])
    with pytest.raises(SystemFailure, match="bag"):
        wire.receive(pair[1])


def test_more_descriptors_than_anything_needs_are_refused_before_sending(pair: Pair) -> None:
    with pytest.raises(SystemFailure, match="descriptors"):
        wire.send(pair[0], m.Go(), [0] * (wire.MOST_DESCRIPTORS + 1))
