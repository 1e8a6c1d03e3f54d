"""Image names as people write them (`busybox`, `ghcr.io/a/b:1`): checked, completed and shortened without `re`.

The grammar is distribution's reference grammar; texts of errors are those of Docker's reference package.
"""

from __future__ import annotations

DEFAULT_DOMAIN = "docker.io"
HUB_SERVER = "https://index.docker.io/v1/"
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_HEX = frozenset("0123456789abcdef")


class Name:
    """A checked name: registry, path in it, and a tag, a digest, both or neither."""

    __slots__ = ("digest", "domain", "path", "tag")

    def __init__(self, domain: str, path: str, tag: str, digest: str) -> None:
        self.domain = domain
        self.path = path
        self.tag = tag
        self.digest = digest

    @property
    def familiar_name(self) -> str:
        """The name as Docker shows it: without Docker Hub's domain and its `library/`."""
        if self.domain != DEFAULT_DOMAIN:
            return f"{self.domain}/{self.path}"
        return self.path.removeprefix("library/") if self.path.count("/") == 1 else self.path

    @property
    def familiar(self) -> str:
        """The short name with its tag and digest."""
        return self.familiar_name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def full_name(self) -> str:
        """The name with its domain."""
        return f"{self.domain}/{self.path}"

    @property
    def server(self) -> str:
        """The key of the registry in the user's logins."""
        return HUB_SERVER if self.domain == DEFAULT_DOMAIN else self.domain

    @property
    def only_name(self) -> bool:
        """Whether neither a tag nor a digest is given."""
        return not self.tag and not self.digest

    def with_default_tag(self) -> Name:
        """The same name, `latest` if it says nothing."""
        return Name(self.domain, self.path, "latest", "") if self.only_name else self


def is_id(text: str) -> bool:
    """Whether this is a whole image id: 64 hexadecimal digits."""
    return len(text) == 64 and not set(text) - _HEX


def parse_any(text: str) -> Name | None:
    """A name, or None for an id (`sha256:…` or 64 digits). Raises ValueError."""
    if is_id(text) or (text.startswith("sha256:") and is_id(text[7:])):
        return None
    return parse_name(text)


def parse_name(text: str) -> Name:
    """Reads a name and completes its domain. Raises ValueError with Docker's text."""
    if is_id(text):
        raise ValueError(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    first, slash, rest = text.partition("/")
    if not slash or (not set(".:") & set(first) and first != "localhost" and first.lower() == first):
        domain, rest = DEFAULT_DOMAIN, text
    else:
        domain = DEFAULT_DOMAIN if first == "index.docker.io" else first
    if domain == DEFAULT_DOMAIN and "/" not in rest:
        rest = f"library/{rest}"
    bare = rest.partition("@")[0]
    colon = bare.find(":", bare.rfind("/") + 1)
    path = bare if colon == -1 else bare[:colon]
    if path.lower() != path:
        raise ValueError(f"invalid reference format: repository name ({path}) must be lowercase")
    tag = "" if colon == -1 else bare[colon + 1 :]
    digest = rest.partition("@")[2]
    valid = _is_domain(domain) and _is_path(path) and (colon == -1 or _is_tag(tag)) and ("@" not in rest or _is_digest(digest))
    if not valid:
        raise ValueError("invalid reference format")
    if len(path) > 255:
        raise ValueError("repository name must not be more than 255 characters")
    return Name(domain, path, tag, digest)


def _is_domain(text: str) -> bool:
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host = text
    elif not (port.isascii() and port.isdigit()):
        return False
    if host.startswith("[") and host.endswith("]"):
        return not set(host[1:-1]) - frozenset("0123456789abcdefABCDEF:")
    return bool(host) and all(_is_label(label) for label in host.split("."))


def _is_label(label: str) -> bool:
    plain = label.replace("-", "")
    return bool(label) and label[0] != "-" and label[-1] != "-" and plain.isascii() and plain.isalnum()


def _is_path(path: str) -> bool:
    return all(_is_component(component) for component in path.split("/"))


def _is_component(component: str) -> bool:
    if not component or component[0] not in _LOWER or component[-1] not in _LOWER:
        return False
    separator = ""
    for character in component:
        if character in _LOWER:
            if separator and separator not in (".", "_", "__") and separator.strip("-"):
                return False
            separator = ""
        elif character in "._-":
            separator += character
        else:
            return False
    return True


def _is_tag(tag: str) -> bool:
    return 0 < len(tag) <= 128 and tag[0] in _WORD and not set(tag) - _WORD - frozenset(".-")


def _is_digest(digest: str) -> bool:
    algorithm, _, encoded = digest.partition(":")
    lengths = {"sha256": 64, "sha384": 96, "sha512": 128}
    return len(encoded) == lengths.get(algorithm, -1) and not set(encoded) - _HEX
