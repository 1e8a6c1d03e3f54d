"""Image names: distribution's reference grammar, and Docker's rules for short ones (``nginx`` = docker.io/library/nginx:latest)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from carrack.errors import InvalidParameter
from carrack.oci.digest import Digest

DOCKER_HUB = "docker.io"
_ALPHANUMERIC = r"[a-z0-9]+"
_SEPARATOR = r"(?:[._]|__|[-]+)"
_PATH_COMPONENT = rf"{_ALPHANUMERIC}(?:{_SEPARATOR}{_ALPHANUMERIC})*"
_PATH = re.compile(rf"{_PATH_COMPONENT}(?:/{_PATH_COMPONENT})*")
_DOMAIN_COMPONENT = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_DOMAIN_COMPONENT}(?:\.{_DOMAIN_COMPONENT})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_HEX64 = re.compile(r"[a-f0-9]{64}")
_NAME_LIMIT = 255


@dataclass(frozen=True, slots=True)
class Reference:
    """A repository, perhaps with a tag, perhaps with a digest. Immutable; always in its full (normal) form."""

    domain: str
    path: str
    tag: str = ""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a name as a person types it. Raises InvalidParameter with Docker's ``invalid reference format`` text."""
        if _HEX64.fullmatch(text):
            raise InvalidParameter(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
        rest, digest = text, None
        if "@" in rest:
            rest, _, digest_text = rest.partition("@")
            try:
                digest = Digest.parse(digest_text)
            except InvalidParameter:
                raise InvalidParameter("invalid reference format") from None
        name, tag = rest, ""
        colon = rest.rfind(":")
        if colon > rest.rfind("/"):
            name, tag = rest[:colon], rest[colon + 1 :]
            if _TAG.fullmatch(tag) is None:
                raise InvalidParameter("invalid reference format")
        domain, path = _split_domain(name)
        if _PATH.fullmatch(path) is None:
            if path.lower() != path and _PATH.fullmatch(path.lower()):
                raise InvalidParameter(
                    f"invalid reference format: repository name ({path if domain == DOCKER_HUB else name}) must be lowercase"
                )
            raise InvalidParameter("invalid reference format")
        if _DOMAIN.fullmatch(domain) is None:
            raise InvalidParameter("invalid reference format")
        if len(domain) + 1 + len(path) > _NAME_LIMIT:
            raise InvalidParameter(f"repository name must not be more than {_NAME_LIMIT} characters")
        return cls(domain, path, tag, digest)

    @property
    def repository(self) -> str:
        """The full repository name, domain included: ``docker.io/library/nginx``."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_repository(self) -> str:
        """The repository as Docker shows it: ``nginx``, ``me/app``, ``registry.example/x``."""
        if self.domain != DOCKER_HUB:
            return self.repository
        short = self.path.removeprefix("library/")
        return self.path if "/" in short else short

    @property
    def familiar(self) -> str:
        """The whole reference as Docker shows it."""
        return self.familiar_repository + self._suffix()

    def with_default_tag(self) -> Reference:
        """The same, with ``latest`` where neither tag nor digest was given."""
        return self if self.tag or self.digest else replace(self, tag="latest")

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.repository + self._suffix()


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_domain = bool(slash) and ("." in first or ":" in first or first == "localhost" or first.lower() != first)
    if not is_domain:
        domain, path = DOCKER_HUB, name
    elif first == "index.docker.io":
        domain, path = DOCKER_HUB, rest
    else:
        domain, path = first, rest
    if domain == DOCKER_HUB and "/" not in path:
        path = f"library/{path}"
    return domain, path
