"""bpf(2), as far as cgroup version 2's device rules need it: load a program, attach, list and detach it."""

from __future__ import annotations

import ctypes
import os
from ctypes import c_int, c_uint32, c_uint64

from carrack.kernel.libc import Number, c_uint, c_void_p, check, declare

_PROG_LOAD = 5
_PROG_ATTACH = 8
_PROG_DETACH = 9
_PROG_GET_FD_BY_ID = 13
_PROG_QUERY = 16
_PROG_TYPE_CGROUP_DEVICE = 15
_CGROUP_DEVICE = 6
_ALLOW_MULTI = 2
_MOST_PROGRAMS = 64
_INSTRUCTION_BYTES = 8


class _Load(ctypes.Structure):
    _fields_ = [
        ("type", c_uint32),
        ("count", c_uint32),
        ("instructions", c_uint64),
        ("license", c_uint64),
        ("log_level", c_uint32),
        ("log_size", c_uint32),
        ("log", c_uint64),
        ("kernel_version", c_uint32),
        ("flags", c_uint32),
    ]


class _Attach(ctypes.Structure):
    _fields_ = [
        ("target_fd", c_uint32),
        ("program_fd", c_uint32),
        ("type", c_uint32),
        ("flags", c_uint32),
        ("replace_fd", c_uint32),
    ]


class _Query(ctypes.Structure):
    _fields_ = [
        ("target_fd", c_uint32),
        ("type", c_uint32),
        ("query_flags", c_uint32),
        ("attach_flags", c_uint32),
        ("ids", c_uint64),
        ("count", c_uint32),
        ("padding", c_uint32),
    ]


class _ById(ctypes.Structure):
    _fields_ = [("id", c_uint32), ("next_id", c_uint32), ("flags", c_uint32)]


_bpf = declare(Number.bpf, c_int, c_void_p, c_uint)


def _call(command: int, attributes: ctypes.Structure, subject: str) -> int:
    return check(_bpf(command, ctypes.addressof(attributes), ctypes.sizeof(attributes)), subject)


def load_device_program(instructions: bytes) -> int:
    """Load a BPF_PROG_TYPE_CGROUP_DEVICE program; returns its descriptor."""
    code = ctypes.create_string_buffer(instructions, len(instructions))
    license_name = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = _Load(
        type=_PROG_TYPE_CGROUP_DEVICE,
        count=len(instructions) // _INSTRUCTION_BYTES,
        instructions=ctypes.addressof(code),
        license=ctypes.addressof(license_name),
    )
    return _call(_PROG_LOAD, attributes, "load the device program")


def attach_device_program(cgroup_fd: int, program_fd: int) -> None:
    _call(_PROG_ATTACH, _Attach(cgroup_fd, program_fd, _CGROUP_DEVICE, _ALLOW_MULTI, 0), "attach the device program")


def device_programs(cgroup_fd: int) -> list[int]:
    """Identifiers of the device programs attached to this cgroup itself."""
    identifiers = (c_uint32 * _MOST_PROGRAMS)()
    attributes = _Query(cgroup_fd, _CGROUP_DEVICE, 0, 0, ctypes.addressof(identifiers), _MOST_PROGRAMS, 0)
    _call(_PROG_QUERY, attributes, "list the device programs")
    return list(identifiers[: attributes.count])


def detach_device_program(cgroup_fd: int, identifier: int) -> None:
    """Take a device program off a cgroup (bpf(2), BPF_PROG_DETACH). Raises OSError."""
    program_fd = _call(_PROG_GET_FD_BY_ID, _ById(identifier, 0, 0), "open the device program")
    try:
        _call(_PROG_DETACH, _Attach(cgroup_fd, program_fd, _CGROUP_DEVICE, 0, 0), "detach the device program")
    finally:
        os.close(program_fd)
