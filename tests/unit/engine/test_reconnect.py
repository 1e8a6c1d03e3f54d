"""Who is found on a shim's socket: one that answers, one that we cannot talk with, or nobody. Only the last has ended."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from carrack.engine.shims import SupervisorGone, reconnect
from carrack.errors import Unavailable
from carrack.shim import wire
from carrack.shim.messages import VERSION, Message, Started, Status


@contextmanager
def supervisor(path: Path, answer: Message | bytes | None) -> Iterator[None]:
    """A shim that hears one question, and gives this answer and stays, or leaves without one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                wire.receive(connection)
                if answer is None:
                    return
                if isinstance(answer, bytes):
                    connection.send(answer)
                else:
                    wire.send(connection, answer)
                connection.recv(1)  # until the daemon leaves

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def meet(path: Path) -> Status:
    async def ask() -> Status:
        shim, status, _ = await reconnect(str(path), lambda message: None, lambda: None)
        shim.close()
        return status

    return asyncio.run(ask())


def test_one_that_answers_tells_how_its_container_is(tmp_path: Path) -> None:
    with supervisor(tmp_path / "shim", Status("a", 7)):
        assert meet(tmp_path / "shim").pid == 7


def nobody(path: Path) -> None:
    """There is no socket."""


def dead(path: Path) -> None:
    """A socket that its owner's death left behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize("before", [nobody, dead])
def test_where_nobody_listens_it_has_ended(tmp_path: Path, before: Callable[[Path], None]) -> None:
    before(tmp_path / "shim")
    with pytest.raises(SupervisorGone):
        meet(tmp_path / "shim")


def test_one_that_leaves_without_a_word_has_ended(tmp_path: Path) -> None:
    with supervisor(tmp_path / "shim", None), pytest.raises(SupervisorGone):
        meet(tmp_path / "shim")


@pytest.mark.parametrize("answer", [Status("a", 7, version=VERSION + 1), Started(1), b'{"type":"of tomorrow"}'])
def test_one_that_we_do_not_understand_has_not_ended(tmp_path: Path, answer: Message | bytes) -> None:
    with supervisor(tmp_path / "shim", answer), pytest.raises(Unavailable) as refused:
        meet(tmp_path / "shim")
    assert not isinstance(refused.value, SupervisorGone)
