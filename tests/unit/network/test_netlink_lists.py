"""A list that changes while the kernel tells it is asked for again (NLM_F_DUMP_INTR of netlink(7))."""

import socket
import struct
import threading

from carrack.kernel.netlink import GET_LINK, Netlink

DUMP, INTERRUPTED, DONE = 0x300, 0x10, 3
HEADER = struct.Struct("=IHHII")


def message(kind: int, flags: int, sequence: int, payload: bytes = b"") -> bytes:
    return HEADER.pack(HEADER.size + len(payload), kind, flags, sequence, 0) + payload


def test_a_list_that_was_interrupted_is_asked_for_again() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, Netlink() as netlink:
        netlink._socket.close()
        netlink._socket = ours

        def kernel() -> None:
            first = HEADER.unpack_from(theirs.recv(4096))[3]
            theirs.send(message(16, INTERRUPTED, first, b"half") + message(DONE, 0, first, b"\0" * 4))
            second = HEADER.unpack_from(theirs.recv(4096))[3]
            theirs.send(message(16, 0, second, b"one_") + message(16, 0, second, b"two_"))
            theirs.send(message(DONE, 0, second, b"\0" * 4))

        thread = threading.Thread(target=kernel)
        thread.start()
        assert netlink.request(GET_LINK, DUMP, b"") == [b"one_", b"two_"]
        thread.join()
