"""`carrackd`: read the configuration, become a daemon's process, run until told to end. One sentence for whatever goes wrong."""

from __future__ import annotations

import gc
import os
import sys

from carrack import __version__
from carrack.errors import CarrackError

USAGE = """Usage:  carrackd [OPTIONS]

The engine behind Docker's API: runs containers, keeps images, networks and volumes.

Options:
"""


def main() -> int:
    """The console script. Exit status 1 for a configuration or a host that cannot be, 2 for wrong flags."""
    arguments = sys.argv[1:]
    if any(word in ("-h", "--help") for word in arguments):
        return _help()
    if any(word in ("-v", "--version") for word in arguments):
        print(f"carrackd version {__version__}")  # noqa: T201  # what was asked for
        return 0
    gc.disable()  # until everything is loaded: what is imported stays, and to look through it takes a seventh of the time
    _import_msgspec()
    from carrack.daemon.config import load

    try:
        config = load(arguments)
    except CarrackError as error:
        return _fail(error.message)
    if config.validate:
        print("configuration OK")  # noqa: T201  # what was asked for
        return 0
    if os.geteuid() != 0:
        return _fail("carrackd needs root: start it with sudo, or as a service")
    if _kernel() < (5, 12):
        return _fail(f"carrackd needs Linux 5.12 or later, this is {os.uname().release}: boot a newer kernel")
    from carrack.daemon.run import run

    try:
        run(config, arguments)
    except CarrackError as error:
        return _fail(error.message)
    except OSError as error:  # the process's root
        if config.debug:
            raise
        return _fail(f"cannot go on: {f'{error.filename}: ' if error.filename else ''}{error.strerror} (--debug shows where)")
    except KeyboardInterrupt:
        return 130
    return 0


def _import_msgspec() -> None:
    """Without typing_extensions, which it takes when it finds it and does as well without: 1 MiB and 2 ms less."""
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]
    try:
        import msgspec  # noqa: F401
    finally:
        del sys.modules["typing_extensions"]


def _kernel() -> tuple[int, ...]:
    """Major and minor; a release that does not begin with numbers is not judged."""
    words = os.uname().release.split(".")[:2]
    return tuple(int(word) for word in words) if all(word.isdecimal() for word in words) else (99,)


def _fail(message: str) -> int:
    from carrack.daemon.log_lines import complain

    complain(message)
    return 1


def _help() -> int:
    from carrack.daemon.config import OPTIONS

    lines = [USAGE]
    for option in (each for each in OPTIONS if each.kind != "document"):
        short = f"-{option.short}, " if option.short else "    "
        kind = "" if option.kind == "flag" else {"text": "string", "number": "int"}.get(option.kind, "list")
        lines.append(f"  {short}--{option.flag + (' ' + kind if kind else ''):<32}{option.help}\n")
    lines.append("  -v, --version                         Print version information and quit\n")
    sys.stdout.write("".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
