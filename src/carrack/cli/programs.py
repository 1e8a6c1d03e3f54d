"""Commands that are programs of their own: this process becomes them."""

from __future__ import annotations

import os
import sys

from carrack.cli.command import Command
from carrack.cli.failure import CommandFailure
from carrack.cli.flags import Parsed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from carrack.cli.session import Session


def interpreter() -> str:
    """The Python that has Carrack's dependencies: of the .venv beside the sources, of the environment the sources are installed in
    (``lib/python3.N/site-packages`` of it), else the one that runs this."""
    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    beside = os.path.join(os.path.dirname(source), ".venv", "bin", "python")
    around = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(source))), "bin", "python3")
    for python in (beside, around):
        if os.access(python, os.X_OK):
            return python
    return sys.executable


def become(module: str, arguments: list[str]) -> NoReturn:
    """Replaces this process by `python -m module arguments`. Raises CommandFailure when that cannot be started."""
    python = interpreter()
    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join([source, *environment.get("PYTHONPATH", "").split(os.pathsep)]).rstrip(os.pathsep)
    try:
        os.execve(python, [python, "-m", module, *arguments], environment)
    except OSError as error:
        raise CommandFailure(f"cannot run {python}: {(error.strerror or '').lower()}") from None


def need(module: str, library: str) -> None:
    """Makes sure that a library can be imported: else this process starts again on the Python that has it. Raises CommandFailure.

    To be called before anything was done or read.
    """
    from importlib import import_module

    try:
        import_module(module)
    except ImportError:
        if os.environ.get(_GUARD):
            raise CommandFailure(f"this command needs {library}, which is not installed") from None
        os.environ[_GUARD] = "1"
        become("carrack.cli", sys.argv[1:])


_GUARD = "CARRACK_WITH_LIBRARIES"


def _become(module: str, *words: str) -> Callable[[Session, Parsed], None]:
    def run(session: Session, parsed: Parsed) -> None:
        session.out.flush()
        become(module, [*words, *parsed.arguments])

    return run


def _screen(session: Session, parsed: Parsed) -> None:
    """Becomes the full screen, on the daemon that the global flags name."""
    words: list[str] = []
    for name in session.given.given_flags:
        value = session.given.value(name)
        shown = [str(value).lower()] if isinstance(value, bool) else value if isinstance(value, list) else [str(value)]
        words += [f"--{name}={text}" for text in shown]
    session.out.flush()
    become("carrack.ui", words)


class _Everything(Command):
    """A command whose flags belong to the program it becomes."""

    def parse(self, arguments: Sequence[str], shown: str) -> Parsed:
        parsed = Parsed({})
        parsed.arguments = list(arguments)
        return parsed


def _registry(verb: str, summary: str) -> Command:
    return _Everything(f"registry {verb}", "[OPTIONS]", f"{summary} (its own options: --help)", _become("carrack.registry", verb))


def _setup(verb: str, summary: str) -> Command:
    return _Everything(f"system {verb}", "[OPTIONS]", f"{summary} (its own options: --help)", _become("carrack.setup", verb))


COMMANDS = (
    _Everything(
        "system fsck",
        "[OPTIONS]",
        "Find and remove what no record of a data-root names (its own options: --help)",
        _become("carrack.daemon.fsck"),
    ),
    _Everything(
        "doctor",
        "[OPTIONS]",
        "Examine whether containers can run here (its own options: --help)",
        _become("carrack.doctor"),
    ),
    Command("ui", "", "Show containers, their logs and what they use in a full screen", _screen, at_most=0),
    _registry("gc", "Remove what nothing in a registry names"),
    _registry("scrub", "Verify every byte of a registry"),
    _registry("serve", "Run a registry in this process"),
    _setup("certs", "Make certificates for TCP with mutual TLS"),
    _setup("install", "Install Carrack on this machine, or upgrade it"),
    _setup("migrate-from-docker", "Bring images, volumes and containers over from a dockerd"),
    _setup("uninstall", "Take Carrack off this machine"),
)
