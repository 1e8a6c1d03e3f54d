"""The graph and its keys: equal definitions are one vertex, and a key counts what a step reads."""

from __future__ import annotations

from dataclasses import replace

from carrack.build.cache_key import Part, difference, key_of
from carrack.build.graph import CopyOp, CopyPart, ImageOp, Input, RunOp, Selection, Shown, Vertex, walk
from carrack.oci.digest import Digest

BASE = Vertex(ImageOp("busybox", Digest.of(b"base")))
RUN = RunOp(("true",), ("A=1", "B=2"))


def on(op: RunOp, base: Vertex = BASE, shown: str = "") -> Vertex:
    return Vertex(op, (Input(base),), Shown(shown))


def test_how_a_vertex_is_shown_is_no_part_of_it() -> None:
    assert on(RUN, shown="[1/2]") == on(RUN, shown="[2/2]")


def test_another_input_makes_another_vertex() -> None:
    assert on(RUN) != on(RUN, Vertex(ImageOp("busybox", Digest.of(b"other"))))


def test_inputs_come_before_those_who_use_them_and_each_once() -> None:
    first, second = on(RUN), on(replace(RUN, user="x"))
    op = CopyOp((CopyPart(0, "/a"), CopyPart(1, "/b")), (), "/")
    top = Vertex(op, (Input(first, Selection("/a")), Input(second, Selection("/b")), Input(BASE)))
    order = list(walk(top))
    assert len(order) == 4
    assert order.index(BASE) < order.index(first) < order.index(top)
    assert order[-1] is top


def test_a_key_has_a_part_for_each_variable_and_none_holds_its_value() -> None:
    key = key_of(replace(RUN, environment=("TOKEN=visible",)), [("the step below", "x")])
    assert "variable TOKEN" in {part.label for part in key.parts}
    assert "visible" not in repr(key)


def test_proxies_are_in_no_key() -> None:
    assert key_of(RUN, []).digest == key_of(replace(RUN, proxies=("HTTP_PROXY=x",)), []).digest


def test_a_key_depends_on_the_content_of_inputs() -> None:
    assert key_of(RUN, [("files", "one")]).digest != key_of(RUN, [("files", "two")]).digest


def test_a_difference_names_the_first_part_that_differs() -> None:
    before = [Part("a", "1"), Part("b", "1"), Part("c", "1")]
    assert difference(before, [Part("a", "1"), Part("b", "2"), Part("c", "2")]) == "b changed"
    assert difference(before, [*before, Part("d", "1")]) == "d was not there before"
    assert difference(before, before[:2]) == "c is not there any more"
    assert difference(before, before).startswith("nothing changed")
