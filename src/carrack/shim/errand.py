"""What a child of the zygote does first: open its order and become what that asks for."""

from __future__ import annotations

import _socket
import os
from collections.abc import Callable

from carrack.errors import SystemFailure
from carrack.kernel import process as kernel_process
from carrack.shim import messages, open_files, wire
from carrack.shim.messages import WorkerJob
from carrack.shim.shim import Shim
from carrack.shim.shim_order import Errand, ShimOrder, errands
from carrack.shim.worker import work


def serve_order(sock: _socket.socket, payload: bytes, fds: list[int], set_title: Callable[[str], None]) -> int:
    """Be a shim or a worker until done; returns the exit status. `sock` is the connection that the order came by."""
    kernel_process.close_all_but((0, 1, 2, sock.fileno(), *fds))
    open_files.raise_limit()
    payload, fds = wire.unpack(payload, fds)
    order: Errand | messages.Message
    order_fd = -1
    if wire.is_sealed(payload, fds):
        order_fd = fds.pop(0)
        order = wire.decode_sealed(order_fd, errands)
    else:
        order = wire.decode(payload)
    if isinstance(order, ShimOrder):
        sock.close()
        set_title(f"carrack-shim {order.container_id}")
        return _be_shim(order, order_fd, fds)
    if order_fd >= 0:
        os.close(order_fd)
    if isinstance(order, WorkerJob):
        set_title(f"carrack-worker {type(order).__name__}")
        work(sock, order, fds)
        return 0
    raise SystemFailure(f"not an order to a zygote, or not sealed: {type(order).__name__}")


def _be_shim(order: ShimOrder, order_fd: int, fds: list[int]) -> int:
    if order.version > messages.VERSION:
        reason = f"the zygote speaks protocol version {messages.VERSION}, the order {order.version}"
        wire.send(_socket.socket(fileno=fds[0]), messages.StartFailed(reason, kind="Unavailable"))
        return 1
    Shim(order, order_fd, fds).run()
    return 0
