"""Builds where overlayfs cannot write (``--storage-driver vfs``): the same results, and layers that are differences, not copies."""

from __future__ import annotations

import pytest

from tests.conftest import MakeEngine
from tests.rig.builds import build, printed
from tests.rig.engine import CommandLine, docker_program

pytestmark = pytest.mark.peer_lacks("its vfs layers are its own affair")

DOCKERFILE = """FROM busybox
RUN echo one > /one; rm /etc/passwd; chmod 700 /root; ln -s /one /link
COPY --chown=7:8 f /dir/
WORKDIR /made/here
COPY --link f /linked/
RUN cat /dir/f /one /linked/f; test -e /etc/passwd || echo gone; stat -c %a:%u /root /dir/f; pwd; rm -r /dir
RUN ls -d /dir 2>/dev/null || echo removed
"""


@pytest.mark.observes("POST /build")
def test_layers_of_the_native_driver_are_differences(make_engine: MakeEngine) -> None:
    engine = make_engine("--storage-driver", "vfs")
    built = build(engine, DOCKERFILE, {"f": "file\n"})
    said = ["file", "one", "file", "gone", "700:0", "644:7", "/made/here", "removed"]
    assert [line for line in printed(built) if line in said] == said
    sizes = [line["Size"] for line in engine.api("GET", f"/images/{built.image}/history").json]
    assert sizes[:-1] == [0, 0, 5, 0, 5, 4]
    assert build(engine, DOCKERFILE, {"f": "file\n"}).image == built.image
    assert engine.api("GET", "/info").json["Driver"] == "vfs"


@pytest.mark.observes("POST /commit", "GET /containers/{id}/json")
def test_a_commit_of_a_full_copy_is_a_difference(make_engine: MakeEngine) -> None:
    engine = make_engine("--storage-driver", "vfs")
    cli = CommandLine(engine, [docker_program()])
    cli.ok("run", "--name", "work", "busybox", "sh", "-c", "echo kept > /kept; rm /etc/passwd; mkdir /dir; echo in > /dir/f")
    assert cli.ok("inspect", "-f", "{{.Driver}} {{.GraphDriver.Name}} {{.GraphDriver.Data}}", "work") == "vfs vfs map[]"
    cli.ok("commit", "work", "kept:1")
    sizes = [line["Size"] for line in engine.api("GET", "/images/kept:1/history").json]
    assert sizes[0] == len("kept\n") + len("in\n")
    script = "cat /kept /dir/f; test -e /etc/passwd || echo gone; ls /bin/busybox"
    assert cli.ok("run", "--rm", "kept:1", "sh", "-c", script).split() == ["kept", "in", "gone", "/bin/busybox"]
