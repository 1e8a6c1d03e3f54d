"""One order for several names: each is tried, and what failed is said at the end, as Docker's command does it."""

from __future__ import annotations

from carrack.cli.failure import CommandFailure
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def for_every(names: Sequence[str], act: Callable[[str], None]) -> None:
    """Act on each name, whatever became of those before. Raises CommandFailure with a line for each that failed."""
    failures: list[str] = []
    for name in names:
        try:
            act(name)
        except CarrackError as error:
            failures.append(str(error))
    if failures:
        raise CommandFailure("\n".join(failures))
