"""ARG and ENV: what a variable is worth at each place of a Dockerfile.

An ARG before the first FROM lives in FROM lines only, until a stage declares it again without a default. In a stage the last of ARG
and ENV wins, as BuildKit serves it. Platform arguments are always known to FROM and come into a stage by being declared; proxy
arguments reach RUN undeclared. Source: Dockerfile reference, "ARG", "Scope", "Automatic platform ARGs in the global scope".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from carrack.build.dockerfile.expansion import Expansion
from carrack.build.dockerfile.instruction import Arg, Env
from carrack.oci.platform import Platform

PROXY_ARGUMENTS = frozenset(
    name for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY") for name in (upper, upper.lower())
)
"""Given with --build-arg, these reach every RUN undeclared and stand in no history."""

_NOT_VARIABLES = frozenset({"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"})


def platform_arguments(build: Platform, target: Platform, stage: str = "") -> dict[str, str]:
    """The arguments that exist without being declared; `stage` is the target stage's name."""
    values = {"TARGETSTAGE": stage or "default"}
    for prefix, platform in (("BUILD", build), ("TARGET", target)):
        values |= {
            f"{prefix}PLATFORM": str(platform),
            f"{prefix}OS": platform.os,
            f"{prefix}OSVERSION": platform.os_version,
            f"{prefix}ARCH": platform.architecture,
            f"{prefix}VARIANT": platform.variant,
        }
    return values


def global_arguments(
    declared: Iterable[Arg], automatic: Mapping[str, str], given: Mapping[str, str], escape: str = "\\"
) -> dict[str, str]:
    """What FROM lines see: automatic arguments, each ARG before the first FROM, `given` above all. Raises Fault."""
    values = {name: given.get(name, value) for name, value in automatic.items()}
    for arg in declared:
        for argument in arg.arguments:
            if argument.name in given:
                values[argument.name] = given[argument.name]
            elif argument.default is not None:
                values[argument.name] = Expansion(values.get, escape).word(argument.default)
    return values


@dataclass(frozen=True, slots=True)
class Scope:
    """The variables at one place of a stage."""

    values: Mapping[str, str] = field(default_factory=dict)
    """What `$name` gives and what RUN has in its environment."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the image keeps: ENV only."""
    declared: frozenset[str] = frozenset()
    """The names that ARG declared, with a value or without."""

    @classmethod
    def of_image(cls, environment: Mapping[str, str]) -> Scope:
        """A stage's beginning: the base image's environment."""
        return cls(dict(environment), dict(environment))

    def with_env(self, env: Env) -> Scope:
        """After an ENV whose variables are filled in."""
        pairs = {pair.name: pair.value for pair in env.pairs}
        return Scope({**self.values, **pairs}, {**self.environment, **pairs}, self.declared)

    def with_arg(self, arg: Arg, given: Mapping[str, str], outer: Mapping[str, str], escape: str = "\\") -> Scope:
        """After an ARG: --build-arg, else its default, else the global argument of that name, else unset. Raises Fault."""
        values = dict(self.values)
        for argument in arg.arguments:
            value = given.get(argument.name)
            if value is None and argument.default is not None:
                value = Expansion(values.get, escape).word(argument.default)
            elif value is None:
                value = outer.get(argument.name)
            if value is not None and argument.name not in _NOT_VARIABLES:
                values[argument.name] = value
        return Scope(values, self.environment, self.declared | {argument.name for argument in arg.arguments})
