"""Counters and histograms in Prometheus' text format, a few hundred numbers of constant size whatever is stored or asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0)
_METHODS = frozenset(("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"))


class Metrics:
    """What this process has done since it started."""

    def __init__(self) -> None:
        self._requests: defaultdict[tuple[str, str, int], int] = defaultdict(int)
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._buckets: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(_BUCKETS) + 1))
        self.counters: defaultdict[str, float] = defaultdict(float)
        self.gauges: dict[str, float] = {"carrack_registry_requests_in_flight": 0}

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request answered. A method nobody knows is counted as one of them, so that clients cannot grow the table."""
        self._requests[route, method if method in _METHODS else "other", status] += 1
        self._seconds[route] += seconds
        place = next((index for index, bound in enumerate(_BUCKETS) if seconds <= bound), len(_BUCKETS))
        self._buckets[route][place] += 1

    def render(self) -> bytes:
        """The exposition (version 0.0.4)."""
        return ("\n".join(self._lines()) + "\n").encode()

    def _lines(self) -> Iterable[str]:
        yield "# TYPE carrack_registry_requests_total counter"
        for (route, method, status), count in sorted(self._requests.items()):
            yield _sample("carrack_registry_requests_total", count, {"route": route, "method": method, "status": str(status)})
        yield "# TYPE carrack_registry_request_seconds histogram"
        for route, buckets in sorted(self._buckets.items()):
            total = 0
            for bound, count in zip((*_BUCKETS, float("inf")), buckets, strict=True):
                total += count
                text = "+Inf" if bound == float("inf") else f"{bound:g}"
                yield _sample("carrack_registry_request_seconds_bucket", total, {"route": route, "le": text})
            yield _sample("carrack_registry_request_seconds_sum", self._seconds[route], {"route": route})
            yield _sample("carrack_registry_request_seconds_count", total, {"route": route})
        for kind, table in (("counter", self.counters), ("gauge", self.gauges)):
            for name, value in sorted(table.items()):
                yield f"# TYPE {name} {kind}"
                yield _sample(name, value, {})


def _sample(name: str, value: float, labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{label}="{text}"' for label, text in labels.items())
    return f"{name}{{{inside}}} {value:.15g}" if inside else f"{name} {value:.15g}"
