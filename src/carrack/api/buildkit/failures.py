"""Failures as BuildKit's clients are told of them: a status, and as details the place in the Dockerfile, which they show."""

from __future__ import annotations

import base64

import msgspec

from carrack.api.build_events import in_words
from carrack.api.buildkit.attributes import UnsupportedCall
from carrack.api.buildkit.grpc import GRPCError, Status
from carrack.api.buildkit.wire import buildkit_pb2 as wire
from carrack.build.builder import BuildFailed
from carrack.build.dockerfile.failure import DockerfileError
from carrack.errors import Cancelled, CarrackError

_TYPES = "github.com/moby/buildkit/"
"""What the names of details begin with; their content is JSON."""


def told(error: CarrackError) -> GRPCError:
    """What a client is told of a failure. A code of its own would be put before the sentence, so most have none."""
    if isinstance(error, UnsupportedCall):
        return GRPCError(Status.UNIMPLEMENTED, error.message, [_detail("errdefs.Subrequest", {"name": error.name})])
    status = Status.CANCELLED if isinstance(error, Cancelled) else Status.UNKNOWN
    return GRPCError(status, in_words(error.message) or type(error).__name__)


def build_failure(error: CarrackError, dockerfile: wire.SourceInfo) -> GRPCError:
    """What a client is told of a build's failure; the Dockerfile's lines go with it where the error knows them."""
    failure = told(error)
    first = last = 0
    message = failure.message
    if isinstance(error, BuildFailed):
        first, last = error.lines
    elif isinstance(error, DockerfileError):
        first, last = error.position.start, error.position.end
        message = f"dockerfile parse error on line {error.line}: {error.reason}"
    if not first or not dockerfile.data:
        return GRPCError(failure.status, message, failure.details)
    source: dict[str, object] = {
        "info": {"filename": dockerfile.filename, "data": base64.b64encode(dockerfile.data).decode(), "language": "Dockerfile"},
        "ranges": [{"start": {"line": first}, "end": {"line": max(first, last)}}],
    }
    return GRPCError(failure.status, message, [_detail("errdefs.Source", source), *(failure.details or ())])


def _detail(name: str, content: dict[str, object]) -> wire.Detail:
    return wire.Detail(type_url=f"{_TYPES}{name}+json", value=msgspec.json.encode(content))
