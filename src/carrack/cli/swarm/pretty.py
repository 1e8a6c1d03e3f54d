"""`inspect --pretty`: a page for reading, in Docker's layout to the blank, because people's eyes and scripts know it."""

from __future__ import annotations

from carrack.cli.several import for_every

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from carrack.cli.session import Session


class Page:
    """Lines of a page. `line` prints always, `put` only what is not empty."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def line(self, title: str, value: object = "") -> None:
        """A title and its value."""
        self._lines.append(f"{title}{'' if value is None else value}\n")

    def put(self, title: str, value: object) -> None:
        """The same, if there is a value."""
        if value not in (None, "", 0, False):
            self.line(title, value)

    def labels(self, title: str, labels: dict[str, str] | None, *, mark: str = "- ") -> None:
        """Labels in their order, under `Labels:` or the title given."""
        if labels:
            self.line(f"{title or 'Labels'}:")
            for key in sorted(labels):
                self.line(f" {mark}{key}", f"={labels[key]}" if labels[key] or mark == "" else "")

    def text(self) -> str:
        """The page."""
        return "".join(self._lines)


def moment(text: str | None) -> str:
    """An API timestamp as these pages show it: UTC, in small letters."""
    from carrack.cli.render.units import parse_rfc3339

    if not text:
        return "0001-01-01 00:00:00 +0000 utc"
    if text.startswith("0001-"):
        return f"{text[:19].replace('T', ' ')} +0000 utc"
    import time

    seconds, nanoseconds = parse_rfc3339(text)
    fraction = f".{nanoseconds:09d}".rstrip("0").rstrip(".")
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds)) + fraction + " +0000 utc"


def show_pages(
    session: Session, names: Sequence[str], fetch: Callable[[str], bytes], page: Callable[[dict[str, Any]], str]
) -> None:
    """Prints a page per name. Raises CommandFailure with a line for each that was not found."""
    from carrack.client.codec import decode

    for_every(names, lambda name: session.out.write(page(decode(fetch(name)))))
