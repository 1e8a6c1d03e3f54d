"""Which containers a list shows: Docker's filters over records. Pure."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from datetime import datetime

from carrack.engine.container import Container
from carrack.engine.filters import Filters
from carrack.engine.state import Status
from carrack.errors import InvalidParameter, NotFound

KNOWN = (
    "ancestor", "before", "since", "exited", "expose", "health", "id", "isolation", "is-task", "label", "name", "network",
    "publish", "status", "volume", "annotation",
)  # fmt: skip
_DURATION = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def select(
    containers: Iterable[Container], filters: Filters, *, all: bool, limit: int, images: Callable[[str], set[str]] | None = None
) -> list[Container]:
    """Newest first. `all`, a limit, or a filter on states shows those that do not run, too. Raises InvalidParameter, NotFound.

    `images` gives the ids of an image and of everything made from it; none for one that is not there.
    """
    filters.accept(*KNOWN)
    newest_first = sorted(containers, key=lambda container: container.created_at_nanoseconds, reverse=True)
    tests = list(_tests(newest_first, filters))
    if ancestors := filters.get("ancestor"):
        tests.append(_descends(ancestors, images))
    shows_all = all or limit > 0 or "status" in filters
    found: list[Container] = []
    for container in newest_first:
        if not shows_all and not container.state.running:
            continue
        if container.state.status is Status.REMOVING and not shows_all:
            continue
        if all_hold(tests, container):
            found.append(container)
            if limit > 0 and len(found) == limit:
                break
    return found


def all_hold(tests: Iterable[Callable[[Container], bool]], container: Container) -> bool:
    return all(test(container) for test in tests)


def until_nanoseconds(filters: Filters) -> int:
    """The `until` filter of a prune as nanoseconds since 1970; 0: none. Raises InvalidParameter."""
    values = filters.get("until")
    if not values:
        return 0
    if len(values) > 1:
        raise InvalidParameter("more than one until filter specified")
    return parse_time(values[0])


def parse_time(text: str) -> int:
    """A moment as Docker's clients write it: seconds with a fraction, RFC 3339, or a duration back from now, in nanoseconds."""
    if not text or text == "0":
        return 0
    seconds, _, fraction = text.partition(".")
    if seconds.isdecimal() and len(seconds) < 19 and (not fraction or fraction.isdecimal()):
        return int(seconds) * 10**9 + int((fraction + "000000000")[:9])
    if _DURATION.match(text):
        parts = _DURATION.findall(text)
        if "".join(number + unit for number, unit in parts) == text:
            return time.time_ns() - int(sum(float(number) * _SECONDS[unit] for number, unit in parts) * 1e9)
    try:
        return int(datetime.fromisoformat(text).astimezone().timestamp() * 10**9)
    except (ValueError, OverflowError):
        raise InvalidParameter(f"failed to parse value as time or duration: {text!r}") from None


def _tests(containers: list[Container], filters: Filters) -> Iterable[Callable[[Container], bool]]:
    if ids := filters.get("id"):
        yield lambda c: any(c.id.startswith(wanted) for wanted in ids)
    if patterns := filters.get("name"):
        compiled = [_pattern(pattern) for pattern in patterns]
        yield lambda c: any(pattern.search(f"/{c.name}") or pattern.search(c.name) for pattern in compiled)
    if "label" in filters:
        yield lambda c: filters.matches_labels(c.config.labels)
    if annotations := filters.get("annotation"):
        yield lambda c: all(_has_annotation(c, wanted) for wanted in annotations)
    if statuses := filters.get("status"):
        for status in statuses:
            if status not in [known.value for known in Status]:
                raise InvalidParameter(f"invalid filter 'status={status}'")
        yield lambda c: c.state.status.value in statuses
    if codes := filters.get("exited"):
        for code in codes:
            if not code.lstrip("-").isdecimal():
                raise InvalidParameter(f"invalid filter 'exited={code}'")
        yield lambda c: not c.state.running and c.state.finished_at_nanoseconds > 0 and str(c.state.exit_code) in codes
    if healths := filters.get("health"):
        for health in healths:
            if health not in ("none", "starting", "healthy", "unhealthy"):
                raise InvalidParameter(f"unrecognised filter value for health: {health}")
        yield lambda c: (c.state.health.status if c.state.health is not None else "none") in healths
    if networks := filters.get("network"):
        yield lambda c: any(n in networks or s.network_id in networks for n, s in c.networks.items())
    if volumes := filters.get("volume"):
        yield lambda c: any(m.name in volumes or m.destination in volumes or m.source in volumes for m in c.mounts)
    for name in ("before", "since"):
        for ref in filters.get(name):
            moment = _moment(containers, ref)
            yield _made_before(moment) if name == "before" else _made_since(moment)
    for name in ("publish", "expose"):
        if wanted := filters.get(name):
            ports = {port for text in wanted for port in _ports(text, name)}
            yield _publishes(ports) if name == "publish" else _exposes(ports)
    if "is-task" in filters and filters.flag("is-task"):
        yield lambda c: False


def _made_before(moment: int) -> Callable[[Container], bool]:
    return lambda c: c.created_at_nanoseconds < moment


def _made_since(moment: int) -> Callable[[Container], bool]:
    return lambda c: c.created_at_nanoseconds > moment


def _publishes(ports: set[tuple[int, str]]) -> Callable[[Container], bool]:
    return lambda c: any((p.host_port, p.protocol) in ports for p in c.ports)


def _exposes(ports: set[tuple[int, str]]) -> Callable[[Container], bool]:
    return lambda c: any((p.container_port, p.protocol) in ports for p in c.ports)


def _has_annotation(container: Container, wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    have = container.host_config.annotations or {}
    return key in have and (not equals or have[key] == value)


def _descends(ancestors: Iterable[str], images: Callable[[str], set[str]] | None) -> Callable[[Container], bool]:
    """Whether a container was made from one of some images, or from one that was made from them."""
    wanted = {image for ancestor in ancestors for image in (images(ancestor) if images is not None else {ancestor})}
    return lambda c: c.image_id in wanted


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error:
        return re.compile(re.escape(text))


def _moment(containers: list[Container], ref: str) -> int:
    bare = ref.removeprefix("/")
    for container in containers:
        if bare in (container.name, container.id) or (len(bare) >= 4 and container.id.startswith(bare)):
            return container.created_at_nanoseconds
    raise NotFound(f"No such container: {ref}")


def _ports(text: str, name: str) -> Iterable[tuple[int, str]]:
    from carrack.engine.ports import parse_port

    try:
        first, last, protocol = parse_port(text)
    except InvalidParameter:
        raise InvalidParameter(f"invalid filter '{name}={text}'") from None
    return [(port, protocol) for port in range(first, last + 1)]
