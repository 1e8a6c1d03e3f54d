"""A worker for tests: a forked child that locks itself into the target and unpacks there, as the real worker does."""

from __future__ import annotations

import os

import msgspec

from carrack import errors
from carrack.archive import compression
from carrack.archive.layer import UnpackReport, unpack_layer


class ForkUnpacker:
    """Unpacks each layer in a child process chrooted into the target directory. Needs root."""

    def __init__(self) -> None:
        compression.preload()

    def unpack(self, source_fd: int, target_fd: int, limit_bytes: int) -> UnpackReport:
        """See `images.layers.LayerUnpacker`."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            os.write(writing, _work(source_fd, target_fd, limit_bytes))
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as answer:
            content = answer.read()
        os.waitpid(child, 0)
        kind, document = msgspec.json.decode(content, type=tuple[str, dict[str, str | int]])
        if kind:
            raise getattr(errors, kind)(document["message"])
        return msgspec.convert(document, UnpackReport)


def _work(source_fd: int, target_fd: int, limit_bytes: int) -> bytes:
    try:
        os.fchdir(target_fd)
        os.chroot(".")
        report = unpack_layer(source_fd, target_fd, limit_bytes)
    except errors.CarrackError as error:
        return msgspec.json.encode((type(error).__name__, {"message": error.message}))
    except BaseException as error:  # noqa: BLE001
        return msgspec.json.encode(("SystemFailure", {"message": repr(error)}))
    return msgspec.json.encode(("", _fields(report)))


def _fields(report: UnpackReport) -> dict[str, str | int]:
    return {"diff_id": report.diff_id, "size_bytes": report.size_bytes, "entries": report.entries}
