"""Stages, their graph and the scope of variables."""

from __future__ import annotations

import pytest

from carrack.build.dockerfile.arguments import Scope, platform_arguments
from carrack.build.dockerfile.failure import DockerfileError
from carrack.build.dockerfile.instruction import Arg, Copy, Env
from carrack.build.dockerfile.instructions_of import instructions_of
from carrack.build.dockerfile.stages import BuildInputs, Dockerfile, Kind, Origin, read_dockerfile
from carrack.build.dockerfile.syntax import parse
from carrack.errors import InvalidParameter
from carrack.oci.platform import Platform


def read(text: str, contexts: tuple[str, ...] = (), **arguments: str) -> Dockerfile:
    automatic = platform_arguments(Platform("linux", "amd64"), Platform("linux", "arm64"))
    return read_dockerfile(text, BuildInputs(arguments, automatic, frozenset(contexts)))


THREE = "FROM a AS one\nFROM b AS two\nFROM one\nCOPY --from=two x y\nCOPY --from=nginx:1 x y\nRUN --mount=from=0,target=/m z\n"


def test_a_stage_needs_its_base_and_what_it_copies_from() -> None:
    origins = read(THREE).origins(read(THREE).target())
    assert origins == (Origin(Kind.STAGE, "one", 0), Origin(Kind.STAGE, "two", 1), Origin(Kind.IMAGE, "nginx:1"))


def test_unused_stages_are_skipped() -> None:
    file = read("FROM a AS one\nFROM b AS unused\nFROM one")
    assert [stage.number for stage in file.needed(file.target())] == [0, 2]


def test_the_target_is_found_by_name_by_number_and_is_the_last_by_default() -> None:
    file = read(THREE)
    assert [file.target(name).number for name in ("TWO", "0", "")] == [1, 0, 2]


def test_a_target_that_is_not_there_comes_with_a_suggestion() -> None:
    with pytest.raises(InvalidParameter, match=r'target stage "tow" could not be found \(did you mean two\?\)'):
        read(THREE).target("tow")


def test_a_stage_cannot_copy_from_one_that_follows() -> None:
    file = read("FROM a AS one\nCOPY --from=two x y\nFROM b AS two")
    with pytest.raises(DockerfileError, match="needs to be defined before current stage") as caught:
        file.needed(file.target("one"))
    assert (caught.value.line, caught.value.column) == (2, 13)


def test_a_stage_cannot_copy_from_itself() -> None:
    file = read("FROM a AS one\nCOPY --from=one x y")
    with pytest.raises(DockerfileError, match="circular dependency detected on stage: one"):
        file.needed(file.target())


def test_a_named_context_takes_the_place_of_image_and_stage() -> None:
    file = read("FROM a AS one\nFROM base\nCOPY --from=one x y", ("base", "one"))
    assert file.origins(file.target()) == (Origin(Kind.CONTEXT, "base"), Origin(Kind.CONTEXT, "one"))


def test_scratch_is_nothing() -> None:
    assert read("FROM scratch").target().base == Origin(Kind.SCRATCH)


def test_triggers_of_a_base_stage_join_the_graph() -> None:
    file = read("FROM a AS files\nFROM b AS base\nONBUILD COPY --from=files x y\nFROM base")
    assert isinstance(file.target().triggers[0], Copy)
    assert [stage.number for stage in file.needed(file.target())] == [0, 1, 2]


def test_global_arguments_reach_from_lines_and_given_ones_win() -> None:
    text = "ARG tag=1\nARG image=alpine:$tag\nFROM --platform=$BUILDPLATFORM $image"
    assert read(text).target().base.name == "alpine:1"
    assert read(text, tag="2").target().base.name == "alpine:2"
    assert read(text).target().platform == Platform("linux", "amd64")


def test_an_argument_of_a_stage_is_unknown_to_from() -> None:
    with pytest.raises(DockerfileError, match="base name"):
        read("FROM a\nARG x=b\nFROM $x")


def test_only_arg_may_stand_before_the_first_from() -> None:
    with pytest.raises(DockerfileError, match="no build stage in current context"):
        read("RUN x\nFROM a")


def scope(text: str, given: dict[str, str], outer: dict[str, str]) -> Scope:
    result = Scope.of_image({"PATH": "/bin"})
    for each in instructions_of(parse(text)):
        if isinstance(each, Arg):
            result = result.with_arg(each, given, outer)
        elif isinstance(each, Env):
            result = result.with_env(each)
    return result


def test_a_stage_sees_a_global_argument_once_it_declares_it() -> None:
    outer = {"v": "global"}
    assert "v" not in scope("ARG other", {}, outer).values
    assert scope("ARG v", {}, outer).values["v"] == "global"
    assert scope("ARG v=local", {}, outer).values["v"] == "local"
    assert scope("ARG v=local", {"v": "given"}, outer).values["v"] == "given"


def test_an_argument_is_no_part_of_the_images_environment() -> None:
    found = scope("ARG a=1\nENV b=2", {}, {})
    assert found.environment == {"PATH": "/bin", "b": "2"}
    assert found.values == {"PATH": "/bin", "a": "1", "b": "2"}
