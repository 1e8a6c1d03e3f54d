"""What a child of the zygote does first: open its order and become what that asks for."""

from __future__ import annotations

import _socket

from carrack.errors import SystemFailure
from carrack.kernel import process as kernel_process
from carrack.kernel import title
from carrack.networks.dns.process import be_the_names_process
from carrack.shim import sleeper, wire
from carrack.shim.messages import ServeNames, WorkerJob
from carrack.shim.worker import work


def serve_order(sock: _socket.socket, payload: bytes, fds: list[int], title_area: tuple[int, int]) -> int:
    """Be a shim, a worker or the names process until done; returns the exit status. `sock`: the connection of the order."""
    payload, fds = wire.unpack(payload, fds)
    if wire.is_sealed(payload, fds):
        return sleeper.serve(fds[0], fds[1:], sock, title_area)
    kernel_process.close_all_but((0, 1, 2, sock.fileno(), *fds))
    order = wire.decode(payload)
    if isinstance(order, ServeNames):
        title.set_title(title_area, f"carrack-names {order.socket_path}")
        sock.close()
        be_the_names_process(*fds)
        return 0
    if not isinstance(order, WorkerJob):
        raise SystemFailure(f"not an order to a zygote, or not sealed: {type(order).__name__}")
    title.set_title(title_area, f"carrack-worker {type(order).__name__}")
    work(sock, order, fds)
    return 0
