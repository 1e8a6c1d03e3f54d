"""Filters in both historical forms; events to those who want them, bounded for those who do not read."""

import asyncio
import re
import time

import pytest

from carrack.engine.events import KEPT, QUEUE_LIMIT, Event, Events, matches
from carrack.engine.filters import Filters
from carrack.errors import InvalidParameter


def test_both_forms_mean_the_same() -> None:
    assert Filters.parse('{"label":["a"]}').get("label") == Filters.parse('{"label":{"a":true,"b":false}}').get("label") == ("a",)


@pytest.mark.parametrize("text", ["[]", '{"a":1}', "{", '{"a":[1]}'])
def test_malformed_filters_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid filter"):
        Filters.parse(text)


def test_an_unknown_filter_is_refused_by_name() -> None:
    with pytest.raises(InvalidParameter, match="invalid filter 'colour'"):
        Filters.parse('{"colour":["red"]}').accept("label")


def test_a_filter_that_is_true_or_false_is_refused_when_it_is_neither_or_both() -> None:
    assert Filters.parse('{"dangling":["1"]}').accept(flags=("dangling",)).flag("dangling")
    with pytest.raises(InvalidParameter, match=re.escape("invalid filter 'dangling=[x]'")):
        Filters.parse('{"dangling":["x"]}').accept(flags=("dangling",))
    with pytest.raises(InvalidParameter, match=re.escape("invalid filter 'dangling=[0 1]'")):
        Filters.parse('{"dangling":["1","0"]}').accept(flags=("dangling",))


def test_every_label_asked_for_must_be_there() -> None:
    filters = Filters({"label": ("a", "b=1")})
    assert filters.matches_labels({"a": "", "b": "1"})
    assert not filters.matches_labels({"a": "", "b": "2"})


def event(**fields: object) -> Event:
    values: dict[str, object] = {
        "type": "container",
        "action": "start",
        "actor_id": "abc",
        "attributes": {"name": "web", "image": "nginx:1"},
    }
    return Event(**(values | {"time_nanoseconds": 1} | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        ("type", "container", True),
        ("type", "image", False),
        ("event", "start", True),
        ("event", "stop", False),
        ("container", "web", True),
        ("container", "ab", True),
        ("container", "zz", False),
        ("image", "nginx", True),
        ("label", "name=web", True),
    ],
)
def test_an_event_is_matched(name: str, value: str, fits: bool) -> None:
    assert matches(event(), Filters({name: (value,)})) is fits


def test_an_exec_event_is_matched_by_its_first_word() -> None:
    assert matches(event(action="exec_create: ls -l"), Filters({"event": ("exec_create",)}))


async def _collect(amount: int) -> tuple[int, list[str]]:
    events = Events(asyncio.get_running_loop())
    slow = events.subscribe(Filters())
    for number in range(amount):
        events.emit("container", f"action{number}", "id", {})
    past = events.subscribe(Filters(), since_nanoseconds=1)
    waiting = len(slow._queue)
    seen = [(await past.__anext__()).action for _ in range(KEPT)]
    await slow.aclose()
    await past.aclose()
    return waiting, seen


def test_a_slow_listener_is_bounded_and_the_past_is_replayed() -> None:
    waiting, seen = asyncio.run(_collect(QUEUE_LIMIT + 100))
    assert waiting == QUEUE_LIMIT
    assert seen[-1] == f"action{QUEUE_LIMIT + 99}"


def test_until_ends_the_stream() -> None:
    async def run() -> list[str]:
        events = Events(asyncio.get_running_loop())
        events.emit("volume", "create", "v", {})
        return [found.action async for found in events.subscribe(Filters(), 1, time.time_ns())]

    assert asyncio.run(run()) == ["create"]
