"""COPY --link: a layer of its own, kept when only what is below changes, and laid over the new base without being copied."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.rig.builds import build, printed
from tests.rig.engine import Engine

pytestmark = pytest.mark.peer_lacks("COPY --link")

LINKED = """FROM busybox
RUN echo {base} > /base
COPY --link data /linked/data
RUN cat /base /linked/data
"""


def layer_files(engine: Engine, name: str) -> list[os.stat_result]:
    return [path.stat() for path in Path(engine.data_root, "layers").glob(f"*/diff/{name}")]


@pytest.mark.observes("POST /build")
def test_a_linked_copy_is_kept_and_not_copied_when_the_base_changes(engine: Engine) -> None:
    files = {"data": "content\n"}
    first = build(engine, LINKED.format(base=1), files)
    assert printed(first) == ["1", "content"]
    before = layer_files(engine, "linked/data")
    assert len(before) == 1
    second = build(engine, LINKED.format(base=2), files)
    assert printed(second) == ["2", "content"]
    assert [each.st_ino for each in layer_files(engine, "linked/data")] == [each.st_ino for each in before]
    assert build(engine, LINKED.format(base=2), files).image == second.image
    engine.api("DELETE", f"/images/{first.image}?force=1")
    engine.api("POST", "/build/prune?all=1")
    assert printed(build(engine, LINKED.format(base=2), files)) == ["2", "content"]


def test_the_same_linked_copy_twice_and_over_a_link_of_the_base(engine: Engine) -> None:
    dockerfile = """FROM busybox
RUN ln -s /etc /place
COPY --link data /place/data
RUN rm /place/data && ls /place | wc -l
COPY --link data /place/data
RUN cat /place/data; test -L /place || echo directory
"""
    assert printed(build(engine, dockerfile, {"data": "content\n"})) == ["0", "content", "directory"]


def test_a_linked_copy_of_a_stage_survives_export_and_restart(engine: Engine) -> None:
    dockerfile = """FROM busybox AS made
RUN mkdir /out && echo made > /out/a && ln /out/a /out/b
FROM busybox
COPY --link --from=made --chown=7:8 /out /got/
RUN stat -c %u:%g:%h /got/a && cat /got/b
"""
    assert printed(build(engine, dockerfile))[-1] == "made"
    engine.stop()
    engine.start()
    assert build(engine, dockerfile).cached >= 3
