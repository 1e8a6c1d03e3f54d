"""The rules of `--check`: BuildKit's names, addresses and sentences, and the directive that chooses among them.

`# check=skip=A,B;error=true;experimental=all` at the top of a file, or `# check=skip=A` right above an instruction.
Source: Docker's manual, "Build checks".
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from carrack.build.dockerfile.failure import Fault, Position
from carrack.build.dockerfile.quantity import truth

_URL = "https://docs.docker.com/go/dockerfile/rule/"
_SUMMARIES = {
    "StageNameCasing": "Stage names should be lowercase",
    "FromAsCasing": "The 'as' keyword should match the case of the 'from' keyword",
    "NoEmptyContinuation": "Empty continuation lines will become errors in a future release",
    "ConsistentInstructionCasing": "All commands within the Dockerfile should use the same casing (either upper or lower)",
    "DuplicateStageName": "Stage names should be unique",
    "ReservedStageName": "Reserved words should not be used as stage names",
    "JSONArgsRecommended": "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    "MaintainerDeprecated": "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    "UndefinedArgInFrom": "FROM command must use declared ARGs",
    "WorkdirRelativePath": "Relative workdir without an absolute workdir declared within the build"
    " can have unexpected results if the base image changes",
    "UndefinedVar": "Variables should be defined before their use",
    "MultipleInstructionsDisallowed": "Multiple instructions of the same type should not be used in the same stage",
    "LegacyKeyValueFormat": "Legacy key/value format with whitespace separator should not be used",
    "RedundantTargetPlatform": "Setting platform to predefined $TARGETPLATFORM in FROM is redundant"
    " as this is the default behavior",
    "SecretsUsedInArgOrEnv": "Sensitive data should not be used in the ARG or ENV commands",
    "FromPlatformFlagConstDisallowed": "FROM --platform flag should not use a constant value",
    "CopyIgnoredFile": "Attempting to Copy file that is excluded by .dockerignore",
    "InvalidDefinitionDescription": "Comment for build stage or argument should follow the format:"
    " `# <arg/stage name> <description>`."
    " If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
    "ExposeProtoCasing": "Protocol in EXPOSE instruction should be lowercase",
    "ExposeInvalidFormat": "IP address and host-port mapping should not be used in EXPOSE instruction."
    " This will become an error in a future release",
}
_EXPERIMENTAL = frozenset({"InvalidDefinitionDescription"})


def lint_document(file: str, warnings: Sequence[LintWarning], content: bytes) -> dict[str, object]:
    """The findings as BuildKit's document."""
    found = [
        {
            "ruleName": warning.rule,
            "description": warning.summary,
            "url": warning.url,
            "detail": warning.message,
            "location": {"ranges": [{"start": {"line": warning.position.start}, "end": {"line": warning.position.end}}]},
        }
        for warning in warnings
    ]
    source = {"filename": file, "language": "Dockerfile", "data": b64encode(content).decode()}
    return {"warnings": found or None, "sources": [source]}


@dataclass(frozen=True, slots=True)
class LintWarning:
    """One finding: the rule's name, what it says of this place, and the place."""

    rule: str
    message: str
    position: Position

    @property
    def summary(self) -> str:
        """What the rule demands in general."""
        return _SUMMARIES[self.rule]

    @property
    def url(self) -> str:
        """The page of Docker's manual on the rule."""
        dashed = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", self.rule)
        return f"{_URL}{dashed.lower()}/"

    def __str__(self) -> str:
        return f"{self.rule}: {self.message} (line {self.position.start})"


@dataclass(frozen=True, slots=True)
class LintChoice:
    """What a `check` directive says; `error` makes every finding a failure of the build."""

    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error: bool = False

    def wants(self, rule: str) -> bool:
        """Whether the rule is on."""
        if rule in _EXPERIMENTAL:
            return bool(self.experimental & {"all", rule})
        return not self.skip & {"all", rule}

    def merged(self, other: LintChoice) -> LintChoice:
        """With what a comment above an instruction adds."""
        return LintChoice(self.skip | other.skip, self.experimental | other.experimental, self.error)


def read_choice(text: str) -> LintChoice:
    """The value of a `check` directive. Raises Fault."""
    choice: dict[str, frozenset[str]] = {}
    error = False
    for part in text.split(" ", maxsplit=1)[0].split(";") if text.strip() else ():
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals or key not in ("skip", "experimental", "error"):
            raise Fault(f'invalid check option "{part if not equals else key}"', part)
        if key == "error":
            error = truth("check option error", value.strip())
        else:
            choice[key] = frozenset(rule.strip() for rule in value.split(","))
    return LintChoice(choice.get("skip", frozenset()), choice.get("experimental", frozenset()), error)


def choice_above(comments: tuple[str, ...]) -> LintChoice:
    """The choice that a comment `check=…` above an instruction makes; one that is malformed makes none."""
    for comment in comments:
        match = re.fullmatch(r"check\s*=\s*(.+)", comment, re.IGNORECASE)
        if match is not None:
            try:
                return read_choice(match[1])
            except Fault:
                return LintChoice()
    return LintChoice()
