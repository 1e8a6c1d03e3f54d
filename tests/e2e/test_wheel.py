"""Wheel and source distribution: what pip, pipx and uv install has the same commands as a checkout, and can install the service."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig.commands import run
from tests.rig.engine import ROOT

pytestmark = [pytest.mark.timeout(600), pytest.mark.only_full("builds and installs distributions")]
UV = str(ROOT / ".venv/bin/uv")


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_a_distribution_has_the_same_commands(tmp_path: Path, kind: str) -> None:
    run([UV, "build", "--quiet", f"--{kind}", "--out-dir", str(tmp_path / "dist"), str(ROOT)], timeout_seconds=200).ok()
    (made,) = (path for path in (tmp_path / "dist").iterdir() if path.name.startswith("carrack"))
    run([UV, "venv", "--quiet", str(tmp_path / "env")]).ok()
    run([UV, "pip", "install", "--quiet", "--python", str(tmp_path / "env/bin/python"), str(made)], timeout_seconds=300).ok()
    for program in ("carrack", "carrackd", "carrack-oci"):
        assert "0.1.0" in run([str(tmp_path / "env/bin" / program), "--version"]).ok()
    assert "--as-docker" in run([str(tmp_path / "env/bin/carrack"), "system", "install", "--help"]).ok()
    program = "from carrack.setup.tree import find_source; source = find_source(); print(source.name, len(source.requirements))"
    found = subprocess.run([str(tmp_path / "env/bin/python"), "-c", program], capture_output=True, text=True, check=True, cwd="/")
    name, requirements = found.stdout.split()
    assert name.startswith("0.1.0-")
    assert int(requirements) >= 8


@pytest.mark.parametrize("tool", ["pipx", "uv"])
def test_pipx_and_uv_install_the_commands_for_a_user(tmp_path: Path, tool: str) -> None:
    """In a home of the test's own; what is installed there runs, and says in one sentence what it cannot do as it is."""
    home = tmp_path / "home"
    home.mkdir()
    env = {**os.environ, "HOME": str(home), "XDG_DATA_HOME": f"{home}/.local/share", "PIPX_HOME": f"{home}/pipx"}
    env |= {"PIPX_BIN_DIR": f"{home}/.local/bin", "UV_TOOL_BIN_DIR": f"{home}/.local/bin", "UV_TOOL_DIR": f"{home}/uv"}
    if tool == "pipx":
        run([UV, "venv", "--quiet", str(tmp_path / "env")]).ok()
        run([UV, "pip", "install", "--quiet", "--python", str(tmp_path / "env/bin/python"), "pipx"], timeout_seconds=300).ok()
        install = [str(tmp_path / "env/bin/pipx"), "install", "--python", sys.executable, str(ROOT)]
    else:
        install = [UV, "tool", "install", "--quiet", "--python", sys.executable, str(ROOT)]
    run(install, env=env, timeout_seconds=400).ok()
    programs = home / ".local/bin"
    for program in ("carrack", "carrackd", "carrack-oci"):
        assert "0.1.0" in run([str(programs / program), "--version"], env=env).ok()
    refused = run([str(programs / "carrack"), "-H", f"unix://{tmp_path}/none.sock", "ps"], env=env)
    assert (refused.code, refused.stderr.count("\n")) == (1, 1), refused
    assert "Usage: carrack system install" in run([str(programs / "carrack"), "system", "install", "--help"], env=env).ok().replace(
        "usage", "Usage"
    )
