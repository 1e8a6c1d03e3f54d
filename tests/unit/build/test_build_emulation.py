"""Emulators as the kernel would choose them: by the first bytes of a program, not by an entry's name."""

from __future__ import annotations

from pathlib import Path

from carrack.build.emulation import emulator, is_foreign
from carrack.oci.platform import Platform, machine

QEMU = """enabled
interpreter /usr/bin/qemu-aarch64
flags: F
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
"""
ARM, RISCV = Platform("linux", "arm64"), Platform("linux", "riscv64")


def table(path: Path, **entries: str) -> Path:
    for name, text in {"register": "", "status": "enabled\n", **entries}.items():
        (path / name).write_text(text)
    return path


def test_an_entry_is_known_by_the_programs_it_takes(tmp_path: Path) -> None:
    found = table(tmp_path, anything=QEMU, other="enabled\ninterpreter /usr/bin/wine\nflags:\nextension .exe\n")
    assert emulator(ARM, found) == "/usr/bin/qemu-aarch64"
    assert emulator(RISCV, found) == ""


def test_an_entry_that_is_switched_off_helps_nobody(tmp_path: Path) -> None:
    assert emulator(ARM, table(tmp_path, q=QEMU.replace("enabled", "disabled"))) == ""


def test_nothing_is_claimed_where_the_table_cannot_be_seen(tmp_path: Path) -> None:
    assert emulator(ARM, tmp_path) is None


def test_what_this_processor_runs_is_not_foreign() -> None:
    assert not is_foreign(machine())
    assert is_foreign(Platform("windows", machine().architecture))
    assert is_foreign(RISCV if machine().architecture != "riscv64" else ARM)
