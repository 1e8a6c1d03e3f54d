"""``--call=outline`` and ``--call=targets``: what a Dockerfile offers, with the descriptions that its comments give."""

from __future__ import annotations

from typing import Any

from carrack.build.dockerfile.arguments import platform_arguments
from carrack.build.dockerfile.outline import outline, targets
from carrack.build.dockerfile.stages import BuildInputs, Dockerfile, read_dockerfile
from carrack.oci.platform import machine

TEXT = """# GO_VERSION sets the Go version
ARG GO_VERSION=1.22
ARG UNUSED=1

# base is where it begins
FROM golang:${GO_VERSION} AS base
ARG TARGETARCH
# FLAGS are for the compiler
ARG FLAGS="-v $TARGETARCH"
RUN --mount=type=secret,id=token,required=true --mount=type=cache,target=/root/.cache build

FROM base AS unneeded
ARG NOT_HERE
RUN x

# not a description
FROM scratch AS release
ARG GO_VERSION
COPY --from=base /out /
RUN --mount=type=ssh git
"""


def read(**given: str) -> Dockerfile:
    return read_dockerfile(TEXT, BuildInputs(given, platform_arguments(machine(), machine())))


def outlined(target: str = "", **given: str) -> dict[str, Any]:
    file = read(**given)
    return outline(file, file.target(target), TEXT.encode(), given)


def test_targets_are_the_stages_with_the_last_as_the_default() -> None:
    found = targets(read(), TEXT.encode())["targets"]
    assert [(each["name"], each.get("default", False)) for each in found] == [
        ("base", False), ("unneeded", False), ("release", True),
    ]  # fmt: skip
    assert found[0]["description"] == "is where it begins"
    assert "description" not in found[2]
    assert (found[0]["base"], found[1]["base"], found[2]["base"]) == ("golang:1.22", "base", "scratch")


def test_an_outline_has_what_the_target_and_its_stages_can_be_given() -> None:
    found = outlined()
    assert [(each["name"], each.get("value"), each.get("description")) for each in found["args"]] == [
        ("GO_VERSION", "1.22", "sets the Go version"),
        ("FLAGS", f"-v {machine().architecture}", "are for the compiler"),
    ]
    assert [(each["name"], each.get("required")) for each in found["secrets"]] == [("token", True)]
    assert [each["name"] for each in found["ssh"]] == ["default"]
    assert [each["ID"] for each in found["cache"]] == ["/root/.cache"]


def test_what_is_given_is_the_value() -> None:
    assert {each["name"]: each.get("value") for each in outlined(FLAGS="-x", GO_VERSION="2")["args"]} == {
        "GO_VERSION": "2",
        "FLAGS": "-x",
    }
    assert outlined("unneeded")["name"] == "unneeded"
