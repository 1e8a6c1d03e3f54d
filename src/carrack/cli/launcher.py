"""Writes the `carrack` command: a file of four lines that starts Python bare.

The console script an installer writes runs the .venv's Python, whose `site` and .pth files cost 11 ms before the first line of
ours. The command line and the client need nothing outside the standard library, so theirs starts the system's Python isolated
(`-I`: no environment variables, no user folder) and without `site` (`-S`), and adds one folder to the path.

Run it as `python -m carrack.cli.launcher .venv/bin/carrack`; scripts/setup does.
"""

from __future__ import annotations

import os
import sys

SYSTEM_PYTHON = "/usr/bin/python3"


def launcher_text(source: str, python: str = SYSTEM_PYTHON) -> str:
    """The file's content for a source folder."""
    return (
        f"#!{python} -IS\nimport sys\n\nsys.path.insert(0, {source!r})\nfrom carrack.cli.__main__ import main\n\nsys.exit(main())\n"
    )


def write_launcher(path: str, *, source: str = "") -> None:
    """Puts the command at `path`, replacing what is there in one step; the system's Python when it is new enough."""
    from carrack.cli.files import write_atomically

    source = source or os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    write_atomically(path, launcher_text(source, _python()).encode(), mode=0o755)
    os.chmod(path, 0o755)


def _python() -> str:
    """The system's Python if it is 3.11 or newer, else the one under this .venv."""
    import subprocess

    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    if os.access(SYSTEM_PYTHON, os.X_OK) and subprocess.run([SYSTEM_PYTHON, "-ISc", check], check=False).returncode == 0:
        return SYSTEM_PYTHON
    return os.path.realpath(sys.executable)


if __name__ == "__main__":
    write_launcher(sys.argv[1])
