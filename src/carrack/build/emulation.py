"""Whether this machine runs programs of another platform: by itself, or by an emulator that the kernel knows (binfmt_misc).

The kernel knows an emulator by the first bytes of the programs it is for; so what is asked here is what it would do with a program
of that architecture, whatever the entry is called. Where its table cannot be seen, nothing is claimed: the program is tried.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from carrack.oci.platform import Platform, machine

TABLE = Path("/proc/sys/fs/binfmt_misc")
_RUNS_TOO = {"amd64": ("386",), "arm64": ("arm",)}
"""What processors run besides their own."""
_HEADERS = {
    "386": (1, 1, 3),
    "amd64": (2, 1, 62),
    "arm": (1, 1, 40),
    "arm64": (2, 1, 183),
    "loong64": (2, 1, 258),
    "mips64": (2, 2, 8),
    "mips64le": (2, 1, 8),
    "mipsle": (1, 1, 8),
    "ppc64": (2, 2, 21),
    "ppc64le": (2, 1, 21),
    "riscv64": (2, 1, 243),
    "s390x": (2, 2, 22),
}
"""Architecture to class (1: 32 bits, 2: 64), byte order (1: little), and e_machine of an ELF header (elf(5))."""


@dataclass(frozen=True, slots=True)
class _Entry:
    interpreter: str
    offset: int
    magic: bytes
    mask: bytes

    def takes(self, program: bytes) -> bool:
        part = program[self.offset : self.offset + len(self.magic)]
        return len(part) == len(self.magic) and all(
            (byte ^ wanted) & mask == 0 for byte, wanted, mask in zip(part, self.magic, self.mask, strict=True)
        )


def is_foreign(platform: Platform) -> bool:
    """Whether programs of a platform are none that this machine's processor runs."""
    here = machine()
    return platform.os != here.os or platform.architecture not in (here.architecture, *_RUNS_TOO.get(here.architecture, ()))


def emulator(platform: Platform, table: Path = TABLE) -> str | None:
    """The emulator that the kernel starts for a platform's programs: "" for none, None when its table cannot be seen."""
    if not (table / "register").exists():
        return None
    program = _program(platform.architecture)
    for name in sorted(os.listdir(table)):
        entry = _read(table / name)
        if entry is not None and entry.takes(program):
            return entry.interpreter
    return ""


def missing(platform: Platform) -> str:
    """The message of a RUN that this machine cannot carry out."""
    return (
        f"exec format error: this machine ({machine()}) runs no programs of {platform}. Register an emulator with the kernel "
        f"(docker run --privileged --rm tonistiigi/binfmt --install {platform.architecture}; on Debian qemu-user-static), "
        "or cross-compile in a stage FROM --platform=$BUILDPLATFORM"
    )


def _program(architecture: str) -> bytes:
    """The beginning of a program (ELF, ET_EXEC) of an architecture."""
    bits, order, number = _HEADERS.get(architecture, (2, 1, 0))
    kind, wanted = ((each.to_bytes(2, "little") if order == 1 else each.to_bytes(2, "big")) for each in (2, number))
    return b"\x7fELF" + bytes((bits, order, 1)) + bytes(9) + kind + wanted + bytes(44)


def _read(path: Path) -> _Entry | None:
    """An entry that is enabled and goes by magic."""
    if path.name in ("register", "status"):
        return None
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    if not lines or lines[0] != "enabled":
        return None
    fields = dict(line.partition(" ")[::2] for line in lines)
    try:
        magic = bytes.fromhex(fields["magic"])
        mask = bytes.fromhex(fields["mask"]) if "mask" in fields else b"\xff" * len(magic)
        return _Entry(fields.get("interpreter", ""), int(fields.get("offset", "0")), magic, mask)
    except (KeyError, ValueError):
        return None  # by extension, or in a form of a later kernel
