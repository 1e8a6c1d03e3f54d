"""`inspect` of every kind: fetch by reference, print as indented JSON, compact JSON or by a template.

A template sees the daemon's JSON. Where Docker's own types spell a field otherwise (`ID` for `Id`) or leave an empty one out of
the JSON, the other spelling is found and the empty value stands in, so that templates written for Docker work.
"""

from __future__ import annotations

from carrack.cli.failure import CommandFailure
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carrack.cli.console import Output

FORMAT_FLAG = "-f, --format string Print with a template: 'json' or 'TEMPLATE'"
_ABSENT = {
    "Health",
    "Healthcheck",
    "Labels",
    "GraphDriver",
    "SizeRw",
    "SizeRootFs",
    "Error",
    "Mounts",
    "Init",
    "Annotations",
    "Options",
    "Status",
}


def inspect_each(out: Output, references: Sequence[str], template: str, fetch: Callable[[str], bytes]) -> None:
    """Prints what `fetch` finds for each reference, then fails with a line for each it did not find."""
    failures: list[str] = []
    printer = _printer(template)
    found: list[bytes] = []
    lines: list[str] = []
    for reference in references:
        try:
            raw = fetch(reference)
            if printer is None:
                found.append(raw)
            else:
                lines.append(printer(raw))
        except CarrackError as error:
            failures.append(str(error))
    if printer is None:
        _print_documents(out, found, compact_form=template == "json")
    else:
        out.write("".join([f"{line}\n" for line in lines]) or "\n")
    if failures:
        raise CommandFailure("\n".join(failures))


def _print_documents(out: Output, found: list[bytes], *, compact_form: bool) -> None:
    from carrack.cli.render.indent import compact, indent

    if not found:
        out.line("[]")
        return
    text = "[" + ",".join([raw.decode("utf-8", "replace").strip() for raw in found]) + "]"
    out.line(compact(text) if compact_form else indent(text))


def _printer(template: str) -> Callable[[bytes], str] | None:
    if template in ("", "json"):
        return None
    from carrack.cli.render.template import TemplateError, parse_template

    try:
        compiled = parse_template(template)
    except TemplateError as error:
        raise CommandFailure(f"template parsing error: {error}", 64) from None

    def render(raw: bytes) -> str:
        from carrack.client.codec import decode

        try:
            return compiled.render(Document(decode(raw)), strict=True)
        except TemplateError as error:
            raise CommandFailure(f"template parsing error: {error}") from None

    return render


class Document(dict[str, object]):
    """An object of the daemon's JSON that also answers to the names of Docker's own types."""

    def __init__(self, document: dict[str, object]) -> None:
        super().__init__({key: wrap(value) for key, value in document.items()})

    def __contains__(self, key: object) -> bool:
        return dict.__contains__(self, key) or self._other_name(str(key)) is not None or key in _ABSENT

    def __getitem__(self, key: str) -> object:
        if dict.__contains__(self, key):
            return dict.__getitem__(self, key)
        other = self._other_name(key)
        return None if other is None else dict.__getitem__(self, other)

    def _other_name(self, key: str) -> str | None:
        """Go's fields differ from their JSON names in capitals only (`ID`, `NanoCPUs`, `DNS`)."""
        if not key.isupper() and not any(pair.isupper() for pair in (key[:2], key[-3:-1], key[-2:])):
            return None
        lowered = key.lower()
        for name in self:
            if name.lower() == lowered:
                return name
        return None


def wrap(value: object) -> object:
    """A JSON value whose objects answer to Go's names too."""
    if isinstance(value, dict):
        return Document(value)
    if isinstance(value, list):
        return [wrap(item) for item in value]
    return value
