"""List filters as the API writes them: a JSON map from name to values, in either of its two historical forms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from carrack.errors import InvalidParameter


class Filters:
    """What a list shall be narrowed to: several values of one name are alternatives, several names must all hold."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self._values = dict(values or {})

    @classmethod
    def parse(cls, text: str) -> Filters:
        """Read ``{"name": ["value"]}`` or the old ``{"name": {"value": true}}``. Raises InvalidParameter."""
        if not text:
            return cls()
        try:
            document = msgspec.json.decode(text, type=dict[str, list[str] | dict[str, bool] | None])
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidParameter(f"invalid filter: {error}") from error
        values: dict[str, tuple[str, ...]] = {}
        for name, entry in document.items():
            if isinstance(entry, dict):
                values[name] = tuple(value for value, wanted in entry.items() if wanted)
            else:
                values[name] = tuple(entry or ())
        return cls(values)

    def accept(self, *known: str, flags: tuple[str, ...] = ()) -> Filters:
        """These filters, if each name is among `known`, or of `flags` and true or false. Raises InvalidParameter as Docker does."""
        for name in self._values:
            if name not in known and name not in flags:
                raise InvalidParameter(f"invalid filter '{name}'")
        for name in flags:
            self.flag(name)
        return self

    def including(self, name: str, value: str) -> Filters:
        """These filters and one value more."""
        return Filters({**self._values, name: (*self.get(name), value)})

    def get(self, name: str) -> tuple[str, ...]:
        """The values asked for under a name, perhaps none."""
        return self._values.get(name, ())

    def flag(self, name: str, default: bool = False) -> bool:
        """A filter that is true or false. Raises InvalidParameter on anything else, or on both."""
        values = set(self.get(name))
        if not values:
            return default
        wanted = {value in ("1", "true", "True", "TRUE", "t", "T") for value in values}
        known = {"0", "false", "False", "FALSE", "f", "F", "1", "true", "True", "TRUE", "t", "T"}
        if len(wanted) != 1 or not values <= known:
            raise InvalidParameter(f"invalid filter '{name}=[{' '.join(sorted(values))}]'")
        return wanted.pop()

    def matches_labels(self, labels: Mapping[str, str] | None, name: str = "label") -> bool:
        """Whether each ``key`` or ``key=value`` asked for is among the labels."""
        have = labels or {}
        for wanted in self.get(name):
            key, equals, value = wanted.partition("=")
            if key not in have or (equals and have[key] != value):
                return False
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __bool__(self) -> bool:
        return bool(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values
