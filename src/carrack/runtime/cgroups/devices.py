"""Device rules of cgroup version 2: a BPF program, assembled here as bytes. Pure.

The context (`struct bpf_cgroup_dev_ctx`) is access_type (low 16 bits: 1 block, 2 character; high 16 bits: 1 mknod, 2 read, 4
write), major, minor. The last rule that matches counts, so the program asks them from the last to the first.
"""

from __future__ import annotations

import struct

_LOAD_WORD = 0x61  # dst = *(u32 *)(src + offset)
_AND_IMMEDIATE = 0x54
_SHIFT_RIGHT_IMMEDIATE = 0x74
_MOVE_IMMEDIATE = 0xB4
_MOVE_REGISTER = 0xBC
_JUMP_NOT_EQUAL = 0x56
_JUMP_EQUAL = 0x16
_EXIT = 0x95
_R0, _R1, _R2, _R3, _R4, _R5 = range(6)
_ACCESS = {"m": 1, "r": 2, "w": 4}


def program(rules: tuple[tuple[bool, str], ...]) -> bytes:
    """The rules (allow, ``type major:minor access``) as BPF instructions; what no rule matches is denied."""
    code = [
        _instruction(_LOAD_WORD, _R2, _R1, 0),
        _instruction(_AND_IMMEDIATE, _R2, immediate=0xFFFF),
        _instruction(_LOAD_WORD, _R3, _R1, 0),
        _instruction(_SHIFT_RIGHT_IMMEDIATE, _R3, immediate=16),
        _instruction(_LOAD_WORD, _R4, _R1, 4),
        _instruction(_LOAD_WORD, _R5, _R1, 8),
    ]
    catches_all = False
    for allow, text in reversed(rules):
        block, catches_all = _rule(allow, text)
        code += block
        if catches_all:
            break
    if not catches_all:
        code += [_instruction(_MOVE_IMMEDIATE, _R0, immediate=0), _instruction(_EXIT)]
    return b"".join(code)


def _rule(allow: bool, text: str) -> tuple[list[bytes], bool]:
    kind, numbers, access = text.split(" ")
    major, _, minor = numbers.partition(":")
    mask = sum(_ACCESS[letter] for letter in set(access))
    checks: list[tuple[list[bytes], int, int, int]] = []  # what comes before, the jump, its register, its value
    if kind != "a":
        checks.append(([], _JUMP_NOT_EQUAL, _R2, 1 if kind == "b" else 2))
    if mask != 7:
        kept = ~mask & 7 if allow else mask
        before = [_instruction(_MOVE_REGISTER, _R1, _R3), _instruction(_AND_IMMEDIATE, _R1, immediate=kept)]
        checks.append((before, _JUMP_NOT_EQUAL if allow else _JUMP_EQUAL, _R1, 0))
    if major != "*":
        checks.append(([], _JUMP_NOT_EQUAL, _R4, int(major)))
    if minor != "*":
        checks.append(([], _JUMP_NOT_EQUAL, _R5, int(minor)))
    length = sum(len(before) + 1 for before, *_ in checks) + 2
    block: list[bytes] = []
    for before, jump, register, value in checks:
        block += before
        block.append(_instruction(jump, register, offset=length - len(block) - 1, immediate=value))
    block += [_instruction(_MOVE_IMMEDIATE, _R0, immediate=int(allow)), _instruction(_EXIT)]
    return block, not checks


def _instruction(code: int, destination: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("<BBhI", code, destination | source << 4, offset, immediate & 0xFFFFFFFF)
