"""The rules of --check, each with the sentence BuildKit has for it."""

# ruff: noqa: E501 (the sentences are long)

from __future__ import annotations

import pytest

from carrack.build.dockerfile.arguments import platform_arguments
from carrack.build.dockerfile.failure import DockerfileError
from carrack.build.dockerfile.lint import lint
from carrack.build.dockerfile.stages import BuildInputs, read_dockerfile
from carrack.oci.platform import Platform

HERE = platform_arguments(Platform("linux", "amd64"), Platform("linux", "amd64"))


def found(text: str) -> list[str]:
    return [str(warning) for warning in lint(read_dockerfile(text, BuildInputs(automatic=HERE)))]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("FROM a AS B", "StageNameCasing: Stage name 'B' should be lowercase (line 1)"),
        ("FROM a as b", "FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)"),
        ("FROM a\nRUN a \\\n\n b", "NoEmptyContinuation: Empty continuation line (line 4)"),
        ("FROM a\nUSER a\nrun x", "ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase) (line 3)"),
        ("FROM a AS b\nFROM a AS b", 'DuplicateStageName: Duplicate stage name "b", stage names should be unique (line 2)'),
        ("FROM a AS context", 'ReservedStageName: Stage name should not use the same name as reserved stage "context" (line 1)'),
        ("FROM a\nCMD x", "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 2)"),
        ("FROM a\nMAINTAINER x", "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)"),
        ("ARG tag=1\nFROM a:1${tga}", "UndefinedArgInFrom: FROM argument 'tga' is not declared (did you mean tag?) (line 2)"),
        ("FROM a\nWORKDIR x", 'WorkdirRelativePath: Relative workdir "x" can have unexpected results if the base image changes (line 2)'),
        ("FROM a\nENV a b", 'LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format (line 2)'),
        ("FROM --platform=$TARGETPLATFORM a", "RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior (line 1)"),
        ("FROM a\nARG API_TOKEN", 'SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG "API_TOKEN") (line 2)'),
        ("FROM --platform=linux/amd64 a AS b", 'FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "linux/amd64" (line 1)'),
        ("FROM a\nEXPOSE 80/TCP", "ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase (line 2)"),
        ("FROM a\nEXPOSE 80:80", "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '80:80' (line 2)"),
    ],
)  # fmt: skip
def test_each_rule_says_its_sentence(text: str, warning: str) -> None:
    assert found(text) == [warning]


def test_a_repeated_instruction_is_reported_where_it_is_in_vain() -> None:
    (warning,) = lint(read_dockerfile('FROM a\nCMD ["x"]\nCMD ["y"]', BuildInputs()))
    assert (warning.rule, warning.position.start) == ("MultipleInstructionsDisallowed", 2)
    assert warning.url == "https://docs.docker.com/go/dockerfile/rule/multiple-instructions-disallowed/"


def test_directives_and_comments_choose_the_rules() -> None:
    assert found("# check=skip=JSONArgsRecommended\nFROM a\nCMD x") == []
    assert found("FROM a\n# check=skip=all\nCMD x") == []


def test_experimental_rules_are_off_until_asked_for() -> None:
    text = "# bee\nARG foo=1\nFROM a"
    assert found(text) == []
    assert [each.split(":")[0] for each in found("# check=experimental=all\n" + text)] == ["InvalidDefinitionDescription"]


def test_a_malformed_check_directive_is_refused_at_its_line() -> None:
    with pytest.raises(DockerfileError, match="invalid check option") as caught:
        found("# syntax=x\n# check=skp=all\nFROM a")
    assert caught.value.line == 2


def test_a_tidy_file_has_no_warning() -> None:
    assert found('ARG TAG=1\nFROM a:$TAG AS b\nWORKDIR /x\nENV a=b PUBLIC_KEY=c\nEXPOSE 80/tcp\nCMD ["x"]') == []


def test_a_chosen_shell_makes_the_shell_form_fine() -> None:
    assert found('FROM a AS b\nSHELL ["bash", "-c"]\nFROM b\nCMD x') == []
