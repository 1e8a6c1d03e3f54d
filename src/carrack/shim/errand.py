"""What a child of the zygote does first: open its order and become what that asks for."""

from __future__ import annotations

import _socket
from collections.abc import Callable

from carrack.errors import SystemFailure
from carrack.kernel import process as kernel_process
from carrack.shim import messages, wire
from carrack.shim.messages import WorkerJob
from carrack.shim.shim import Shim
from carrack.shim.worker import work


def serve_order(sock: _socket.socket, payload: bytes, fds: list[int], set_title: Callable[[str], None]) -> int:
    """Be a shim or a worker until done; returns the exit status. `sock` is the connection that the order came by."""
    kernel_process.close_all_but((0, 1, 2, sock.fileno(), *fds))
    order, fds = wire.open_packet(payload, fds)
    if isinstance(order, messages.StartOrder):
        sock.close()
        set_title(f"carrack-shim {order.container_id}")
        if order.version > messages.VERSION:
            _refuse(fds, f"the zygote speaks protocol version {messages.VERSION}, the order {order.version}")
            return 1
        Shim(order, fds).run()
        return 0
    if isinstance(order, WorkerJob):
        set_title(f"carrack-worker {type(order).__name__}")
        work(sock, order, fds)
        return 0
    raise SystemFailure(f"not an order to a zygote: {type(order).__name__}")


def _refuse(fds: list[int], reason: str) -> None:
    wire.send(_socket.socket(fileno=fds[0]), messages.StartFailed(reason, kind="Unavailable"))
