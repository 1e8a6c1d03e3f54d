"""Host ports for tests to publish on: outside the kernel's ephemeral range, and apart from those of other test processes."""

import socket
from collections.abc import Callable, Iterator
from itertools import count

from tests.rig.slots import slot

FreePort = Callable[[], int]
_FIRST, _LAST = 10_000, 30_000


def free_ports() -> Iterator[int]:
    """Ports that nothing on this host is bound to at the moment of asking; each is given out once."""
    for step in count(slot() * 160):
        port = _FIRST + step % (_LAST - _FIRST)
        if _is_free(port):
            yield port


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                return False
    return True
