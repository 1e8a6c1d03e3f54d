"""The attributes by which BuildKit's clients say what the Dockerfile front end shall build, read strictly: values only.

What this daemon cannot do is refused by its name, never passed over; what only another front end could do as well.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from carrack.api.buildkit.wire.buildkit_pb2 import CacheOptions, Definition, Input, Op, OpMetadata, SourceOp
from carrack.build.plan import Surroundings
from carrack.build.request import ALL_STAGES, CacheReference
from carrack.errors import InvalidParameter
from carrack.oci.digest import Digest
from carrack.oci.platform import Platform
from carrack.oci.reference import Reference

RESULT = "carrack-build://"
"""The source that stands for the result of another build of the same client: with its reference behind."""
UPLOAD = "http://buildkit-session/"
"""The address of an archive that the client has, and sends when asked."""
CALLS = {
    "frontend.lint": "check",
    "frontend.outline": "outline",
    "frontend.targets": "targets",
    "frontend.subrequests.describe": "subrequests.describe",
}
_FRONT_ENDS = ("docker/dockerfile", "docker/dockerfile-upstream")
_NETWORKS = {"": "default", "sandbox": "default", "default": "default", "host": "host", "none": "none"}
_LIMITS = {"memory": "memory", "memswap": "memswap", "cpushares": "cpushares", "cpuperiod": "cpuperiod", "cpuquota": "cpuquota"}
_CPUSETS = ("cpusetcpus", "cpusetmems")
_OPS_LIMIT = 10_000

KNOWN = frozenset(
    (
        "add-hosts", "cache-from", "cache-imports", "cgroup-parent", "cmdline", "context", "contextkey", "contextsubdir",
        "dockerfilekey", "filename", "force-network-mode", "frontend.caps", "hostname", "image-resolve-mode", "multi-platform",
        "no-cache", "platform", "requestid", "shm-size", "source", "source-date-epoch", "target", "ulimit", *_LIMITS, *_CPUSETS,
    )
)  # fmt: skip
PREFIXES = (
    "attest:", "build-arg:", "context:", "input-metadata:", "input:", "label:", "local-sessionid:", "sharedkey:localdir:", "vcs:",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder of the client, by the name it is known by there."""

    name: str
    session: str = ""
    """The session that has it; "": the build's own."""
    shared_key: str = ""


@dataclass(frozen=True, slots=True)
class Remote:
    """What is fetched, or an upload of the client, by its address."""

    url: str


@dataclass(frozen=True, slots=True)
class NamedImage:
    """An image of a registry or of this daemon."""

    reference: str


@dataclass(frozen=True, slots=True)
class OtherBuild:
    """The result of another build, by its reference."""

    reference: str


@dataclass(frozen=True, slots=True)
class ClientImage:
    """An image in a layout of the client's: the layout's name there, and the image's digest."""

    store: str
    digest: Digest


Source = LocalFolder | Remote | NamedImage | OtherBuild | ClientImage


@dataclass(frozen=True, slots=True)
class Order:
    """What the attributes say."""

    filename: str
    dockerfile: LocalFolder | None
    """The folder that has the Dockerfile; None: it is in the context."""
    context: LocalFolder | Remote
    named: Mapping[str, Source]
    target: str
    build_arguments: Mapping[str, str]
    labels: Mapping[str, str]
    platforms: tuple[Platform, ...]
    no_cache: frozenset[str]
    pull: bool
    surroundings: Surroundings
    cache_from: tuple[CacheReference, ...]
    attestations: Mapping[str, Mapping[str, str]]
    call: str = ""


class _Import(msgspec.Struct, rename="pascal"):
    type: str
    attrs: dict[str, str] | None = None


def read(frontend: str, attributes: Mapping[str, str], inputs: Mapping[str, Definition]) -> Order:
    """What a client wants. Raises InvalidParameter."""
    _check_front_end(frontend, attributes)
    for name in sorted(attributes):
        if name not in KNOWN and not name.startswith(PREFIXES):
            raise InvalidParameter(f"this builder does not know the attribute {name!r} of the Dockerfile front end")
    call = attributes.get("requestid", "")
    if call and call not in CALLS:
        raise UnsupportedCall(call)
    context = _context(attributes, inputs)
    filename = attributes.get("filename", "") or "Dockerfile"
    folder: LocalFolder | None = None
    if isinstance(context, LocalFolder) or "dockerfilekey" in attributes:
        folder = _folder(attributes.get("dockerfilekey", "") or "dockerfile", attributes)
    arguments = _below("build-arg:", attributes)
    if epoch := attributes.get("source-date-epoch"):
        arguments.setdefault("SOURCE_DATE_EPOCH", epoch)
    platforms = attributes.get("platform", "")
    no_cache = attributes.get("no-cache")
    stages = frozenset({ALL_STAGES} if no_cache == "" else (each for each in (no_cache or "").split(",") if each))
    return Order(
        filename=filename,
        dockerfile=folder,
        context=context,
        named=_named(attributes, inputs),
        target=attributes.get("target", ""),
        build_arguments=arguments,
        labels=_below("label:", attributes),
        platforms=tuple(dict.fromkeys(Platform.parse(each) for each in platforms.split(","))) if platforms else (),
        no_cache=stages,
        pull=attributes.get("image-resolve-mode") == "pull",
        surroundings=_surroundings(attributes),
        cache_from=_cache_imports(attributes),
        attestations={kind: _fields(text) for kind, text in _below("attest:", attributes).items()},
        call=CALLS.get(call, ""),
    )


class UnsupportedCall(InvalidParameter):
    """A method of the front end that there is not."""

    def __init__(self, name: str) -> None:
        super().__init__(f"unsupported request {name}")
        self.name = name


def caches_to(options: CacheOptions) -> tuple[CacheReference, ...]:
    """Where a build's cache shall go. Raises InvalidParameter."""
    wanted = [CacheReference(each.Type, dict(each.Attrs)) for each in options.Exports]
    if options.ExportRefDeprecated:
        attributes = {**options.ExportAttrsDeprecated, "ref": options.ExportRefDeprecated}
        wanted.append(CacheReference("registry", attributes))
    for each in wanted:
        if each.type not in ("registry", "inline", "local"):
            raise InvalidParameter(f"unknown cache type {each.type!r}: this builder has registry, local and inline")
    return tuple(wanted)


def source_of(definition: Definition) -> Source:
    """The source that a definition (LLB) consists of. Raises InvalidParameter for any other."""
    if len(definition.ops) > _OPS_LIMIT:
        raise InvalidParameter("a definition has too many operations")
    ops = {_digest(raw): Op.FromString(raw) for raw in definition.ops}
    last = Op.FromString(definition.ops[-1]) if definition.ops else Op()
    if len(last.inputs) == 1 and not last.HasField("source"):
        op = ops.get(last.inputs[0].digest)
        if op is not None and op.HasField("source") and not op.inputs:
            return _source(op.source.identifier)
    raise InvalidParameter(
        "this builder builds Dockerfiles: a definition (LLB) may be one source, such as a Git repository, and no more"
    )


def result_definition(reference: str) -> Definition:
    """The definition that stands for the result of a build: `source_of` gives its `OtherBuild`."""
    source = Op(source=SourceOp(identifier=f"{RESULT}{reference}")).SerializeToString()
    end = Op(inputs=[Input(digest=_digest(source))]).SerializeToString()
    return Definition(ops=[source, end], metadata={_digest(source): OpMetadata(), _digest(end): OpMetadata()})


def _digest(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


# ── one attribute each ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _check_front_end(frontend: str, attributes: Mapping[str, str]) -> None:
    """The Dockerfile front end is ours, whatever release of Docker's a client names; others are programs that are not run here."""
    if frontend == "dockerfile.v0":
        return
    source = attributes.get("source", "")
    if frontend != "gateway.v0":
        raise InvalidParameter(f"this builder has no front end {frontend!r}: it builds Dockerfiles")
    name = Reference.parse(source)
    if name.domain != "docker.io" or name.path not in _FRONT_ENDS:
        raise InvalidParameter(f"this builder runs no front ends from images, such as {source}: its own builds Dockerfiles")


def _context(attributes: Mapping[str, str], inputs: Mapping[str, Definition]) -> LocalFolder | Remote:
    if "context" in inputs:
        source = source_of(inputs["context"])
        if isinstance(source, Remote) and (url := attributes.get("input:context")):
            source = Remote(url)  # as its user wrote it, with what a definition says in attributes of its own
    else:
        text = attributes.get("context", "")
        source = _source(text) if "://" in text or text.startswith("git@") else Remote(text) if text else LocalFolder("context")
    if attributes.get("contextsubdir"):
        raise InvalidParameter("the attribute contextsubdir is not supported: name the directory in the address (#ref:directory)")
    if isinstance(source, LocalFolder):
        return _folder(attributes.get("contextkey", "") or source.name, attributes)
    if not isinstance(source, Remote):
        raise InvalidParameter("a build context must be a folder, a Git repository or an archive")
    return source


def _named(attributes: Mapping[str, str], inputs: Mapping[str, Definition]) -> dict[str, Source]:
    named: dict[str, Source] = {}
    for name, text in _below("context:", attributes).items():
        name = name.partition("::")[0]  # for one platform only: the same source stands for all
        if text.startswith("input:"):
            definition = inputs.get(text.removeprefix("input:"))
            if definition is None:
                raise InvalidParameter(f"invalid context {name}: there is no input {text.removeprefix('input:')}")
            named[name] = source_of(definition)
            continue
        source = _source(text)
        named[name] = _folder(source.name, attributes, name) if isinstance(source, LocalFolder) else source
    return named


def _source(identifier: str) -> Source:
    """What an address means. Raises InvalidParameter."""
    scheme, _, rest = identifier.partition(":")
    match scheme:
        case "local":
            return LocalFolder(rest.removeprefix("//"))
        case "docker-image":
            return NamedImage(rest.removeprefix("//"))
        case "carrack-build":
            return OtherBuild(rest.removeprefix("//"))
        case "oci-layout":
            name, at, digest = rest.removeprefix("//").partition("@")
            if not at:
                raise InvalidParameter(f"a context of type oci-layout needs a digest: {identifier}")
            return ClientImage(f"oci:{name.partition(':')[0]}", Digest.parse(digest))
        case "target":
            raise InvalidParameter(f"the target {rest} is not part of this build")
    return Remote(identifier)


def _folder(name: str, attributes: Mapping[str, str], context: str = "") -> LocalFolder:
    shared_key = attributes.get(f"sharedkey:localdir:{context or name}", "")
    return LocalFolder(name, attributes.get(f"local-sessionid:{name}", ""), shared_key)


def _surroundings(attributes: Mapping[str, str]) -> Surroundings:
    network = attributes.get("force-network-mode", "")
    if network not in _NETWORKS:
        raise InvalidParameter(f"invalid netmode {network}")
    limits: dict[str, object] = {ours: _number(attributes, name) for name, ours in _LIMITS.items() if attributes.get(name)}
    limits |= {name: attributes[name] for name in _CPUSETS if attributes.get(name)}
    if attributes.get("ulimit"):
        limits["ulimits"] = [_ulimit(text) for text in _row(attributes["ulimit"])]
    hosts = []
    for text in _row(attributes.get("add-hosts", "")):
        name, equals, address = text.partition("=")
        if not equals:
            raise InvalidParameter(f"invalid key-value pair {text}")
        hosts.append(f"{name}:{address}")
    return Surroundings(
        network=_NETWORKS[network],
        hostname=attributes.get("build-arg:BUILDKIT_SANDBOX_HOSTNAME") or attributes.get("hostname") or "buildkitsandbox",
        extra_hosts=tuple(hosts),
        shm_bytes=_number(attributes, "shm-size"),
        limits=limits,
        cgroup_parent=attributes.get("cgroup-parent", ""),
    )


def _ulimit(text: str) -> dict[str, object]:
    name, equals, bounds = text.partition("=")
    soft, _, hard = bounds.partition(":")
    if not equals or not all(each.lstrip("-").isdigit() for each in (soft, hard or soft)):
        raise InvalidParameter(f"invalid ulimit argument: {text}")
    return {"Name": name, "Soft": int(soft), "Hard": int(hard or soft)}


def _cache_imports(attributes: Mapping[str, str]) -> tuple[CacheReference, ...]:
    found: list[CacheReference] = []
    if text := attributes.get("cache-imports"):
        try:
            entries = msgspec.json.decode(text, type=list[_Import])
        except msgspec.DecodeError as error:
            raise InvalidParameter(f"failed to unmarshal cache-imports: {error}") from error
        found += [CacheReference(each.type, each.attrs or {}) for each in entries]
    found += [CacheReference("registry", {"ref": each}) for each in attributes.get("cache-from", "").split(",") if each]
    for each in found:
        if each.type not in ("registry", "local"):
            raise InvalidParameter(f"unknown cache type {each.type!r}: this builder has registry, local and inline")
    return tuple(found)


def _below(prefix: str, attributes: Mapping[str, str]) -> dict[str, str]:
    """Those of a prefix, in the order of their names: the protocol's maps have none, and an image's labels must always have one."""
    return {name.removeprefix(prefix): value for name, value in sorted(attributes.items()) if name.startswith(prefix)}


def _fields(text: str) -> dict[str, str]:
    """``mode=max,key=value``."""
    return {name: value for name, _, value in (field.partition("=") for field in _row(text))}


def _row(text: str) -> Iterable[str]:
    """The fields of a line of comma-separated values."""
    try:
        return next(csv.reader([text], strict=True), []) if text else []
    except csv.Error as error:
        raise InvalidParameter(f"malformed list {text!r}: {error}") from error


def _number(attributes: Mapping[str, str], name: str) -> int:
    text = attributes.get(name, "") or "0"
    if not text.lstrip("-").isdigit():
        raise InvalidParameter(f"{name} is no number: {text!r}")
    return int(text)
