"""Several stages: names, numbers, targets, what is skipped, where arguments reach, platforms."""

from __future__ import annotations

import pytest

from tests.rig.builds import build, config_of, printed, try_build
from tests.rig.engine import CommandLine, Engine

TWO = """FROM busybox AS one
RUN mkdir /out && echo first > /out/a
FROM busybox
COPY --from=one /out /got
RUN cat /got/a
"""


@pytest.mark.observes("POST /build")
def test_files_are_taken_from_a_stage_by_name_or_number(engine: Engine) -> None:
    assert printed(build(engine, TWO)) == ["first"]
    assert printed(build(engine, TWO.replace("--from=one", "--from=0").replace("cat /got", "cat  /got"))) == ["first"]


def test_a_stage_may_rest_on_an_earlier_one(engine: Engine) -> None:
    built = build(engine, "FROM busybox AS base\nENV A=1\nRUN echo b > /b\nFROM base\nRUN cat /b; echo $A\n")
    assert printed(built) == ["b", "1"]


def test_files_are_taken_from_an_image(engine: Engine) -> None:
    built = build(engine, "FROM scratch\nCOPY --from=busybox /bin/busybox /bin/sh\nCOPY --from=busybox /etc/passwd /p\n")
    assert engine.api("GET", f"/images/{built.image}/json").json["RootFS"]["Layers"]


@pytest.mark.observes("docker build --target")
def test_the_target_ends_the_build_and_the_rest_is_skipped(cli: CommandLine, engine: Engine) -> None:
    dockerfile = 'FROM busybox AS a\nCMD ["a"]\nFROM busybox AS b\nRUN exit 7\n'
    assert config_of(engine, build(engine, dockerfile, target="a"))["Cmd"] == ["a"]
    refused = try_build(engine, dockerfile, target="c")
    assert refused.status in (400, 404)
    assert "failed to reach build target c" in refused.error or 'target stage "c" could not be found' in refused.error


@pytest.mark.peer_lacks("the classic builder builds every stage")
def test_a_stage_that_nothing_needs_is_not_built(engine: Engine) -> None:
    built = build(engine, "FROM busybox AS unused\nRUN exit 9\nFROM busybox\nRUN echo fine\n")
    assert printed(built) == ["fine"]


def test_an_argument_before_from_reaches_from_alone(engine: Engine) -> None:
    dockerfile = 'ARG TAG=latest\nFROM busybox:$TAG\nRUN echo "[$TAG]"\nARG TAG\nRUN echo "[$TAG]"\n'
    assert printed(build(engine, dockerfile)) == ["[]", "[latest]"]


def test_arguments_have_defaults_are_overridden_and_last_to_the_end_of_their_stage(engine: Engine) -> None:
    dockerfile = "FROM busybox AS a\nARG X=default\nRUN echo a=$X > /x\nFROM busybox\nCOPY --from=a /x /x\nRUN cat /x; echo b=$X\n"
    assert printed(build(engine, dockerfile)) == ["a=default", "b="]
    assert printed(build(engine, dockerfile, buildargs={"X": "given"})) == ["a=given", "b="]


def test_env_beats_arg(engine: Engine) -> None:
    built = build(engine, "FROM busybox\nARG V=arg\nENV V=env\nRUN echo $V\n", buildargs={"V": "given"})
    assert printed(built) == ["env"]


def test_arguments_stand_in_no_environment_of_the_image(engine: Engine) -> None:
    built = build(engine, "FROM busybox\nARG V\nRUN echo $V\n", buildargs={"V": "v"})
    assert all(not entry.startswith("V=") for entry in config_of(engine, built)["Env"])


def test_proxy_arguments_reach_run_undeclared_and_change_nothing(engine: Engine) -> None:
    dockerfile = "FROM busybox\nRUN echo proxy $HTTP_PROXY\n"
    first = build(engine, dockerfile, buildargs={"HTTP_PROXY": "http://user:pass@proxy"})
    assert printed(first) == ["proxy http://user:pass@proxy"]
    history = engine.api("GET", f"/images/{first.image}/history").body
    assert b"user:pass" not in history
    assert build(engine, dockerfile, buildargs={"HTTP_PROXY": "http://other"}).image == first.image


def test_an_argument_that_nothing_uses_is_told(engine: Engine) -> None:
    built = build(engine, "FROM busybox\nRUN true\n", buildargs={"NOBODY": "1"})
    assert "One or more build-args [NOBODY] were not consumed" in built.text


@pytest.mark.peer_lacks("platform arguments are BuildKit's")
def test_platform_arguments_are_known_when_declared(engine: Engine) -> None:
    dockerfile = """FROM --platform=$BUILDPLATFORM busybox
ARG TARGETPLATFORM TARGETARCH BUILDOS
RUN echo $TARGETPLATFORM $TARGETARCH $BUILDOS
"""
    words = printed(build(engine, dockerfile))[0].split()
    assert words == [f"linux/{words[1]}", words[1], "linux"]


@pytest.mark.peer_lacks("checked by BuildKit's front end")
@pytest.mark.parametrize(
    ("dockerfile", "said"),
    [
        ("FROM busybox AS a\nCOPY --from=b /x /x\nFROM busybox AS b\nFROM a\n", "needs to be defined before"),
        ("FROM busybox AS a\nCOPY --from=a /x /x\n", "circular dependency"),
        ("FROM busybox\nCOPY --from=9 /x /x\n", "invalid stage index"),
    ],
)
def test_a_stage_that_cannot_be_meant_is_refused(engine: Engine, dockerfile: str, said: str) -> None:
    assert said in try_build(engine, dockerfile).error


def test_from_scratch_with_one_file(engine: Engine) -> None:
    built = build(engine, 'FROM scratch\nCOPY f /f\nCMD ["/f"]\n', {"f": "content"})
    document = engine.api("GET", f"/images/{built.image}/json").json
    assert len(document["RootFS"]["Layers"]) == 1
    assert document["Config"]["Cmd"] == ["/f"]
