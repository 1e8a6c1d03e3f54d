"""What a zygote must load to make containers: every module more is memory in each shim."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).parents[3] / "src"
TOO_MUCH = (
    "asyncio concurrent email hashlib http json logging multiprocessing random shutil ssl subprocess tempfile threading urllib"
)


def loaded(module: str) -> set[str]:
    program = f"import sys; sys.path.insert(0, {str(SOURCES)!r}); import {module}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True).stdout.split())


def test_making_containers_needs_no_heavy_module() -> None:
    assert loaded("carrack.runtime.create") & set(TOO_MUCH.split()) == set()


def test_making_containers_does_not_load_the_command() -> None:
    assert not any(name.startswith("carrack.runtime.command") for name in loaded("carrack.runtime.create"))
