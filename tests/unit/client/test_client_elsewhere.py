"""The client alone runs where no daemon can, on macOS for one: nothing in client/ and cli/ imports what only Linux has."""

import ast
import sys
from pathlib import Path

import pytest

import carrack
from tests.rig.commands import run

SOURCES = Path(carrack.__file__).parent
LINUX_ONLY = {"spwd", "ossaudiodev", "ctypes", "uvloop", "httptools", "msgspec", "isal", "cryptography", "aiohttp", "bcrypt"}
"""And the libraries that the client does without: `pip install` of them may fail where there is no wheel."""
ASKED_FOR = {"cli/images/ssh_agent.py": {"cryptography"}}
"""What one file may import where it is needed, having asked whether it is there: `build --ssh` with keys from files."""
LINUX_CALLS = {
    "epoll", "pidfd_open", "setns", "unshare", "sendfile", "memfd_create", "eventfd", "SO_PEERCRED", "MSG_NOSIGNAL", "AF_NETLINK",
    "AF_VSOCK", "signalfd", "inotify", "O_PATH", "O_TMPFILE", "posix_fadvise", "pidfd_send_signal",
}  # fmt: skip
FILES = sorted(path for folder in ("client", "cli") for path in (SOURCES / folder).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCES)))
def test_a_file_of_the_client_needs_no_linux(path: Path) -> None:
    refused = LINUX_ONLY - ASKED_FOR.get(str(path.relative_to(SOURCES)), set())
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not {alias.name.partition(".")[0] for alias in node.names} & refused, path
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in refused, path
        elif isinstance(node, ast.Attribute):
            assert node.attr not in LINUX_CALLS, f"{path}:{node.lineno}: {node.attr}"


def test_the_client_answers_on_a_system_that_is_called_darwin() -> None:
    program = (
        "import sys; sys.platform = 'darwin'\n"
        "for name in ('select.epoll', 'os.pidfd_open', 'os.sendfile', 'os.memfd_create', 'os.eventfd'):\n"
        "    module, _, attribute = name.partition('.')\n"
        "    module = __import__(module)\n"
        "    if hasattr(module, attribute): delattr(module, attribute)\n"
        f"sys.path.insert(0, {str(SOURCES.parent)!r})\n"
        "from carrack.cli.__main__ import run\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    shown = run([sys.executable, "-IS", "-c", program, "run", "--help"])
    assert shown.code == 0, shown
    lost = run([sys.executable, "-IS", "-c", program, "-H", "unix:///nowhere/x.sock", "ps"])
    assert (lost.code, lost.stderr.count("Cannot connect to the Carrack daemon at unix:///nowhere/x.sock")) == (1, 1), lost
