"""Whatever the bytes: the front end ends, soon, with a value or with an error of its own."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from carrack.build.dockerfile.expansion import Expansion
from carrack.build.dockerfile.failure import DockerfileError, Fault
from carrack.build.dockerfile.ignore import read_ignore_file
from carrack.build.dockerfile.lint import lint
from carrack.build.dockerfile.stages import BuildInputs, read_dockerfile
from carrack.build.dockerfile.substitution import substituted

SEED = """# syntax=docker/dockerfile:1
# escape=\\
ARG TAG=3 NAME="a b"
FROM --platform=$BUILDPLATFORM alpine:${TAG:-3} AS build
ENV A=1 B='x y' C="$A"
LABEL a.b=c
RUN --mount=type=cache,target=/c --mount=type=secret,id=s,env=T <<EOF cat >/x && \\
  # comment
  true
hello $A
EOF
COPY --from=build --chown=1:1 --link <<-"A" <<B b* ${C//x/y}/
\tone
\tA
two
B
ADD ["a b", "/c"]
HEALTHCHECK --interval=1m30s --retries=3 CMD ["x", "\\u0041"]
ONBUILD RUN <<Z
z
Z
EXPOSE 80-90/tcp $A
VOLUME ["/v"]
STOPSIGNAL SIGTERM
USER a:b
FROM build
SHELL ["sh", "-c"]
CMD a | b
"""
PIECES = [
    "\\\n",
    "\n",
    "<<",
    "<<-",
    "EOF",
    "${",
    "}",
    "$",
    "'",
    '"',
    "[",
    "]",
    "--",
    "=",
    ",",
    "#",
    "`",
    "\t",
    "\0",
    "é",
    "FROM ",
    "ONBUILD ",
    "*",
    "x",
]


@st.composite
def mutated(draw: st.DrawFn) -> str:
    text = SEED
    for _ in range(draw(st.integers(1, 8))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 40)))
        text = text[:start] + "".join(draw(st.lists(st.sampled_from(PIECES), max_size=6))) + text[end:]
    return text


def read(content: bytes | str) -> None:
    try:
        file = read_dockerfile(content, BuildInputs())
        file.needed(file.target())
        lint(file)
        for stage in file.stages:
            for instruction in stage.instructions:
                substituted(instruction, {"A": "1"}.get, file.syntax.escape)
    except (DockerfileError, Fault):
        return


@settings(max_examples=250, deadline=1000)
@given(mutated())
def test_a_mutated_dockerfile_is_read_or_refused(text: str) -> None:
    read(text)


@settings(max_examples=150, deadline=1000)
@given(st.binary(max_size=200))
# the class of CVE-2024-23650
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    read(content)


@settings(max_examples=200, deadline=1000)
@given(st.lists(st.sampled_from([*PIECES, "A", ":", "-", "+", "?", "%", "/", "{", "\\"]), max_size=30).map("".join))
def test_any_word_is_expanded_or_refused(word: str) -> None:
    try:
        Expansion({"A": "aXbX", "x": ""}.get).expand(word)
    except Fault:
        return


@settings(max_examples=200, deadline=1000)
@given(st.text("*?[]^-\\/ab!.# \n", max_size=40), st.text("ab/.*", min_size=1, max_size=30))
def test_any_ignore_file_is_read_or_refused(rules: str, path: str) -> None:
    try:
        read_ignore_file(rules).excludes(path)
    except DockerfileError:
        return


def test_a_file_of_many_instructions_is_read_in_time() -> None:
    begun = time.monotonic()
    read("FROM a\n" + "ENV a=$a b='c d' e=\"f\"\n" * 4000)
    assert time.monotonic() - begun < 5


def test_a_long_chain_of_onbuild_is_refused_instead_of_exhausting_the_stack() -> None:
    read("FROM a\n" + "ONBUILD " * 8000 + "RUN x")
