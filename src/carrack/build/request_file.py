"""The Dockerfile that a request means: its text and its ignore file out of the context, read, and shown around a line."""

from __future__ import annotations

import posixpath

from carrack.build.dockerfile.arguments import platform_arguments
from carrack.build.dockerfile.ignore import ignore_file_names, read_ignore_file
from carrack.build.dockerfile.stages import BuildInputs, Dockerfile, read_dockerfile
from carrack.build.request import BuildRequest
from carrack.errors import InvalidParameter, NotFound
from carrack.oci.platform import Platform, machine

_DOCKERFILE_LIMIT_BYTES = 16 << 20
_IGNORE_LIMIT_BYTES = 4 << 20


def content_of(request: BuildRequest) -> tuple[bytes, tuple[str, ...]]:
    """The Dockerfile's text and the ignore patterns. Blocking. Raises NotFound, InvalidParameter."""
    context = request.contexts.get("")
    content = request.dockerfile_content
    name = posixpath.normpath(request.dockerfile or "Dockerfile")
    if content is None:
        if context is None:
            raise InvalidParameter("this build has neither a Dockerfile nor a context that holds one")
        content = context.read(name, _DOCKERFILE_LIMIT_BYTES)
        if content is None and name == "Dockerfile":
            content = context.read("dockerfile", _DOCKERFILE_LIMIT_BYTES)
    if content is None:
        raise NotFound(f"Cannot locate specified Dockerfile: {request.dockerfile or 'Dockerfile'}")
    if not content.strip():
        raise InvalidParameter(f"the Dockerfile ({name}) cannot be empty")
    ignore = None
    for each in ignore_file_names(name) if context is not None else ():
        if ignore is None and context is not None:
            ignore = context.read(each, _IGNORE_LIMIT_BYTES)
    return content, _patterns(ignore)


def _patterns(ignore: bytes | None) -> tuple[str, ...]:
    if ignore is None:
        return ()
    read_ignore_file(ignore)
    return tuple(ignore.decode("utf-8-sig", errors="replace").splitlines())


def read(request: BuildRequest, content: bytes, platform: Platform) -> Dockerfile:
    """The Dockerfile as it reads for one platform. Raises DockerfileError."""
    inputs = BuildInputs(
        build_arguments=request.build_arguments,
        automatic=platform_arguments(machine(), platform, request.target),
        named_contexts=frozenset(request.named),
    )
    return read_dockerfile(content, inputs, posixpath.basename(request.dockerfile) or "Dockerfile")


def excerpt(file: Dockerfile, first: int, last: int) -> str:
    """The lines around a step, those of the step marked."""
    if not first:
        return ""
    lines = file.syntax.lines
    shown = [f"{file.syntax.file}:{first}", "-" * 20]
    for number in range(max(1, first - 2), min(len(lines), max(first, last) + 2) + 1):
        mark = ">>>" if first <= number <= max(first, last) else "   "
        shown.append(f"{number:4d} | {mark} {lines[number - 1].rstrip()}".rstrip())
    return "\n".join([*shown, "-" * 20])
