"""nftables: commands by libnftables (libnftables(3)), in process; changes of the ruleset by netlink.

A command text is one transaction: all of it happens or none. A context is made once and kept; its socket belongs to the network
namespace in which the context was made, and its errors are read from its buffer, never from a terminal.
"""

from __future__ import annotations

import _thread
import ctypes
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from carrack.errors import SystemFailure
from carrack.kernel.reports import allow_backlog, drain

_SONAME = "libnftables.so.1"
_NETFILTER = 12
_OUTPUT_HANDLE = 1 << 3
_GROUP_NFTABLES = 1 << (7 - 1)  # NFNLGRP_NFTABLES
_SUBSYSTEM = 10
_NEW_RULE, _DELETE_RULE, _NEW_SET_ELEMENT, _NEW_GENERATION = 6, 8, 12, 15
_library: ctypes.CDLL | None = None


def _load() -> ctypes.CDLL:
    """The library, with its calls declared; SystemFailure where it is not installed."""
    global _library
    if _library is None:
        try:
            library = ctypes.CDLL(_SONAME)
        except OSError as error:
            raise SystemFailure(f"{_SONAME} cannot be loaded (Debian: libnftables1): {error}") from error
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = (ctypes.c_uint32,)
        library.nft_ctx_free.restype = None
        library.nft_ctx_free.argtypes = (ctypes.c_void_p,)
        for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
            getattr(library, name).argtypes = (ctypes.c_void_p,)
            getattr(library, name).restype = ctypes.c_int
        for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            getattr(library, name).argtypes = (ctypes.c_void_p,)
            getattr(library, name).restype = ctypes.c_char_p
        library.nft_ctx_output_set_flags.argtypes = (ctypes.c_void_p, ctypes.c_uint)
        library.nft_ctx_output_set_flags.restype = None
        library.nft_run_cmd_from_buffer.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
        library.nft_run_cmd_from_buffer.restype = ctypes.c_int
        _library = library
    return _library


class NftablesError(SystemFailure):
    """The kernel or the library refused a transaction; nothing of it happened."""


class Nftables:
    """A libnftables context of the network namespace in which it was made. Safe to share: transactions take turns."""

    def __init__(self) -> None:
        self._library = _load()
        self._turn = _thread.allocate_lock()  # what threading.Lock is: this module is in processes that have one thread
        context = self._library.nft_ctx_new(0)
        if not context:
            raise SystemFailure("libnftables gives no context")
        self._context: int | None = context
        self._library.nft_ctx_buffer_output(context)
        self._library.nft_ctx_buffer_error(context)

    def run(self, commands: str, *, handles: bool = False) -> str:
        """Apply a command text in nft(8)'s language as one transaction; return what it printed. Raises NftablesError.

        `handles`: what is listed shows its handles, by which it can be deleted.
        """
        with self._turn:
            if self._context is None:
                raise SystemFailure("the nftables context is closed")
            self._library.nft_ctx_output_set_flags(self._context, _OUTPUT_HANDLE if handles else 0)
            status = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
            # Reading a buffer also empties it for the next command.
            output = self._library.nft_ctx_get_output_buffer(self._context) or b""
            complaint = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if status != 0:
            raise NftablesError(f"nftables: {_first_sentence(complaint.decode(errors='replace'))}")
        return bytes(output).decode(errors="replace")

    def close(self) -> None:
        """Free the context. Idempotent."""
        with self._turn:
            if self._context is not None:
                self._library.nft_ctx_free(self._context)
                self._context = None


def _first_sentence(complaint: str) -> str:
    """The library shows the offending line and points at a column; the first line says what is wrong."""
    for line in complaint.splitlines():
        if "Error:" in line:
            return line.split("Error:", 1)[1].strip()
    return complaint.strip() or "refused without a word"


@dataclass(frozen=True, slots=True)
class Transaction:
    """A finished change of the ruleset: the watched tables that it touched, and the token it carried, if any."""

    tables: frozenset[str]
    token: int | None


class RulesetMonitor:
    """Tells which transactions touched some tables (of any family) of the namespace in which it was made.

    A transaction that adds an element to the set `token_set` (type mark) of a watched table is known by that number. Rules that
    come and go in a chain called `free_chain` touch nothing.
    """

    def __init__(self, tables: Sequence[str], token_set: str, free_chain: str = "") -> None:
        self._free_chain = free_chain.encode() + b"\0"
        self._tables = {table.encode() + b"\0": table for table in tables}
        self._token_set = token_set.encode() + b"\0"
        self._touched: set[str] = set()
        self._token: int | None = None
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, _NETFILTER)
        allow_backlog(self._socket)
        self._socket.bind((0, _GROUP_NFTABLES))

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> tuple[list[Transaction], bool]:
        """The finished transactions that touched a watched table, and whether reports were lost. Never blocks."""
        datagrams, lost = drain(self._socket)
        finished: list[Transaction] = []
        for data in datagrams:
            for kind, payload in _nftables_messages(data):
                if kind != _NEW_GENERATION:
                    self._note(kind, payload)
                elif self._touched:
                    finished.append(Transaction(frozenset(self._touched), self._token))
                    self._touched, self._token = set(), None
        if lost:
            self._touched, self._token = set(), None
        return finished, lost

    def _note(self, kind: int, payload: bytes) -> None:
        attributes = dict(_attributes(payload[4:]))
        table = self._tables.get(attributes.get(1, b""))  # the first attribute of every kind of object is its table's name
        if table is None or (kind in (_NEW_RULE, _DELETE_RULE) and attributes.get(2) == self._free_chain):
            return
        self._touched.add(table)
        if kind == _NEW_SET_ELEMENT and attributes.get(2) == self._token_set:
            self._token = _mark_of(attributes.get(3, b""))

    def close(self) -> None:
        self._socket.close()


def _nftables_messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, offset)
        if length < 16:
            return
        if kind >> 8 == _SUBSYSTEM:
            yield kind & 0xFF, data[offset + 16 : offset + length]
        offset += (length + 3) & ~3


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def _mark_of(elements: bytes) -> int | None:
    """The number in elements → element → key → value, each the attribute 1 of the one before."""
    data = elements
    for _ in range(3):
        data = dict(_attributes(data)).get(1, b"")
    return int(struct.unpack("=I", data)[0]) if len(data) == 4 else None


def new_token() -> int:
    """A number for one transaction's mark."""
    return int.from_bytes(os.urandom(4), "little") | 1
