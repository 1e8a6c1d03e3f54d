"""Conversion: what becomes of stages and instructions, read from the graph without building anything."""

from __future__ import annotations

import pytest

from carrack.build.convert import Circumstances, convert
from carrack.build.dockerfile.arguments import platform_arguments
from carrack.build.dockerfile.failure import DockerfileError
from carrack.build.dockerfile.stages import BuildInputs, read_dockerfile
from carrack.build.graph import ContextOp, CopyOp, DirectoryOp, ImageOp, RemoteOp, RunOp, StackOp, Vertex, walk
from carrack.build.plan import BaseImage, Plan, Surroundings
from carrack.oci.digest import Digest
from carrack.oci.image_config import ExecutionConfig, ImageConfig
from carrack.oci.platform import Platform

PLATFORM = Platform("linux", "amd64")
BASE = BaseImage(
    "base",
    Digest.of(b"id"),
    ImageConfig("amd64", "linux", config=ExecutionConfig(env=["PATH=/bin", "OLD=1"], cmd=["sh"], working_dir="/home")),
    Digest.of(b"layers"),
    (),
    str(Digest.of(b"manifest")),
)


def plan(text: str, target: str = "", allowed: frozenset[str] = frozenset(), **arguments: str) -> Plan:
    inputs = BuildInputs(arguments, platform_arguments(PLATFORM, PLATFORM, target))
    file = read_dockerfile(text, inputs)
    circumstances = Circumstances(
        build_arguments=arguments,
        platform=PLATFORM,
        image_of=lambda name, platform: BASE,
        is_git=lambda url: url.endswith(".git"),
        surroundings=Surroundings(allowed=allowed),
    )
    return convert(file, file.target(target), circumstances)


def top(text: str, **arguments: str) -> Vertex:
    vertex = plan(text, "", frozenset(), **arguments).target.vertex
    assert vertex is not None
    return vertex


def run_of(text: str, **arguments: str) -> RunOp:
    op = top(text, **arguments).op
    assert isinstance(op, RunOp)
    return op


def test_instructions_that_touch_no_file_make_no_vertex() -> None:
    vertex = top("FROM base\nENV A=1\nLABEL b=2\nCMD x\nEXPOSE 80\n")
    assert isinstance(vertex.op, ImageOp)


def test_a_run_sees_the_environment_and_the_declared_arguments() -> None:
    op = run_of("FROM base\nARG A=1\nARG B\nENV C=$A\nRUN go\n", B="given", NOT_DECLARED="x")
    assert set(op.environment) == {"PATH=/bin", "OLD=1", "A=1", "B=given", "C=1"}
    assert (op.arguments, op.working_dir) == (("/bin/sh", "-c", "go"), "/home")


def test_proxies_are_apart() -> None:
    op = run_of("FROM base\nRUN go\n", HTTP_PROXY="http://p")
    assert op.proxies == ("HTTP_PROXY=http://p",)
    assert not any("HTTP_PROXY" in entry for entry in op.environment)


def test_a_copy_reads_the_context_and_stands_on_what_is_below() -> None:
    vertex = top("FROM base\nWORKDIR sub\nCOPY a b/ dir/\n")
    assert isinstance(vertex.op, CopyOp)
    assert vertex.op.destination == "/home/sub/dir/"
    assert [type(each.vertex.op) for each in vertex.inputs] == [ContextOp, ContextOp, DirectoryOp]
    assert vertex.base is vertex.inputs[2]


def test_a_stage_that_nothing_needs_is_in_no_graph() -> None:
    vertex = top("FROM base AS unused\nRUN never\nFROM base\nRUN used\n")
    assert [each.op.arguments[-1] for each in walk(vertex) if isinstance(each.op, RunOp)] == ["used"]


def test_equal_stages_are_one() -> None:
    vertex = top("FROM base AS a\nRUN same\nFROM base AS b\nRUN same\nFROM base\nCOPY --from=a /x /\nCOPY --from=b /y /\n")
    assert sum(isinstance(each.op, RunOp) for each in walk(vertex)) == 1


def test_addresses_are_sources_of_their_own() -> None:
    vertex = top("FROM base\nADD https://example.org/f.tgz https://example.org/r.git /d/\n")
    assert [type(each.vertex.op) for each in vertex.inputs[:2]] == [RemoteOp, RemoteOp]


def test_mounts_have_their_targets_ids_and_inputs() -> None:
    op = run_of(
        "FROM base\nRUN --mount=type=cache,target=c --mount=type=secret,id=s --mount=type=secret,id=e,env=E --mount=type=ssh"
        " --mount=target=ctx go\n"
    )
    found = [(each.mount.type, each.mount.id, each.mount.target, each.input) for each in op.mounts]
    assert found == [
        ("cache", "c", "/home/c", -1),
        ("secret", "s", "/run/secrets/s", -1),
        ("secret", "e", "", -1),
        ("ssh", "default", "/run/buildkit/ssh_agent.3", -1),
        ("bind", "", "/home/ctx", 0),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FROM base\nRUN --security=insecure x\n", "security.insecure is not allowed"),
        ("FROM base\nRUN --network=host x\n", "network.host is not allowed"),
        ("FROM base\nCOPY a b c\n", "must be a directory and end with a /"),
        ("FROM base\nADD --checksum=sha256:00 a /\n", "checksum can't be specified"),
        ("FROM base\nSTOPSIGNAL nothing\n", "invalid signal"),
    ],
)
def test_a_fault_names_its_line(text: str, said: str) -> None:
    with pytest.raises(DockerfileError, match=said) as raised:
        plan(text)
    assert raised.value.line == 2


def test_rights_that_were_asked_for_are_given() -> None:
    vertex = plan("FROM base\nRUN --security=insecure x\n", allowed=frozenset({"security.insecure"})).target.vertex
    assert vertex is not None
    assert isinstance(vertex.op, RunOp)
    assert vertex.op.security == "insecure"


def test_the_history_is_buildkits() -> None:
    made = plan('FROM base\nARG A=1\nENV B=2\nWORKDIR /w\nCOPY a .\nRUN go\nCMD ["x"]\n')
    assert [step.created_by for step in made.target.history] == [
        "ARG A=1",
        "ENV B=2",
        "WORKDIR /w # buildkit",
        "COPY a . # buildkit",
        "RUN |1 A=1 /bin/sh -c go # buildkit",
        'CMD ["x"]',
    ]


def test_an_undefined_variable_is_a_warning_with_the_nearest_name() -> None:
    made = plan("FROM base\nENV MESSAGE=1\nLABEL a=$MESAGE\n")
    assert [(rule, line) for rule, _, line in made.warnings] == [("UndefinedVar", 3)]
    assert "did you mean MESSAGE" in made.warnings[0][1]


def test_arguments_that_nothing_declares_are_named() -> None:
    assert plan("FROM base\nARG USED\n", "", frozenset(), USED="1", LEFT="2").unused_arguments == ("LEFT",)


def test_a_linked_copy_does_not_depend_on_what_is_below() -> None:
    over, other = top("FROM base\nCOPY --link a /b\n"), top("FROM base\nRUN x\nCOPY --link a /b\n")
    assert isinstance(over.op, StackOp)
    assert over.inputs[1].vertex == other.inputs[1].vertex
    assert over.base is not None
    assert isinstance(over.base.vertex.op, ImageOp)
    assert isinstance(top("FROM scratch\nCOPY --link a /b\n").op, CopyOp)
