"""What a command is: its place, its usage line, its flags, and the function that does it.

Each command group's file holds a tuple of these; `catalogue.py` says which file to import for which words.
"""

from __future__ import annotations

from carrack.cli.failure import PROGRAM, CommandFailure, FlagError
from carrack.cli.flags import parse, parse_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from carrack.cli.flags import Flag, Parsed
    from carrack.cli.session import Session

ANY = 1 << 30


class Command:
    """One command. `path` is its full name (`container run`), `usage` what follows the name in its usage line.

    `at_least` and `at_most` bound the arguments; `aliases` is the help's line of other names; `checks` read the text of the flags
    they name instead of the flag type's own reader; `needs` is an API version, or `experimental`, that a daemon must have for it.
    """

    __slots__ = (
        "_flags",
        "aliases",
        "at_least",
        "at_most",
        "checks",
        "interspersed",
        "needs",
        "path",
        "run",
        "summary",
        "table",
        "usage",
    )

    def __init__(
        self,
        path: str,
        usage: str,
        summary: str,
        run: Callable[[Session, Parsed], None],
        *,
        flags: str = "",
        at_least: int = 0,
        at_most: int = ANY,
        aliases: str = "",
        checks: Mapping[str, Callable[[str], Any]] | None = None,
        interspersed: bool = True,
        needs: str = "",
    ) -> None:
        self.path = path
        self.usage = usage
        self.summary = summary
        self.run = run
        self.table = flags
        self.at_least = at_least
        self.at_most = at_most
        self.aliases = aliases
        self.checks = checks
        self.interspersed = interspersed
        self.needs = needs
        self._flags: dict[str, Flag] | None = None

    @property
    def flags(self) -> dict[str, Flag]:
        """The flag table, parsed at its first use."""
        if self._flags is None:
            self._flags = parse_table(self.table)
        return self._flags

    def usage_line(self, shown: str) -> str:
        """`carrack run [OPTIONS] IMAGE …`; `{}` in the usage repeats the command's name (cp has two lines)."""
        return f"{PROGRAM} {shown} {self.usage.replace('{}', f'{PROGRAM} {shown}')}".rstrip()

    def parse(self, arguments: Sequence[str], shown: str) -> Parsed:
        """Reads the command line after the command's name. Raises CommandFailure with Docker's text and exit code."""
        try:
            parsed = parse(arguments, self.flags, interspersed=self.interspersed, checks=self.checks)
        except FlagError as error:
            from carrack.cli.suggestions import for_flag

            line, guess = self.usage_line(shown), for_flag(str(error), self.flags)
            more = f"Run '{PROGRAM} {shown} --help' for more information{guess}"
            raise CommandFailure(f"{error}\n\nUsage:  {line}\n\n{more}", 125) from None
        if not parsed.wants_help:
            self._check_arguments(parsed, shown)
        return parsed

    def _check_arguments(self, parsed: Parsed, shown: str) -> None:
        count = len(parsed.arguments)
        if self.at_least <= count <= self.at_most:
            return
        low, high = self.at_least, self.at_most
        see = "Run"
        if high == 0:
            wanted = "accepts no arguments"
        elif low == high:
            wanted = f"requires {low} {_arguments(low)}"
        elif high == ANY:
            wanted = f"requires at least {low} {_arguments(low)}"
            see = "See"
        elif low == 0:
            wanted = f"requires at most {high} {_arguments(high)}"
        else:
            wanted = f"requires at least {low} and at most {high} {_arguments(high)}"
        name = f"{PROGRAM} {shown}"
        line = self.usage_line(shown)
        raise CommandFailure(f"{PROGRAM}: '{name}' {wanted}\n\nUsage:  {line}\n\n{see} '{name} --help' for more information", 1)


def _arguments(count: int) -> str:
    return "argument" if count == 1 else "arguments"
