"""Statements on an image, on request: where it came from (SLSA provenance v1) and what packages are in it (SPDX 2.3).

Each is an in-toto statement in a manifest of its own beside the image's, as Docker's tools look for them. With ``mode=min``
provenance names no build argument; with ``mode=max`` it has them all, and the Dockerfile itself. Secrets are in neither.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from carrack.build.packages import Found, scan
from carrack.build.plan import Plan
from carrack.build.ports import FileTrees, Tree
from carrack.build.request import BuildRequest
from carrack.build.trees import packed_tree
from carrack.content import ContentStore, Lease
from carrack.distribution.cancellation import Cancellation
from carrack.errors import InvalidParameter, SystemFailure
from carrack.images.attestations import PREDICATE_TYPE
from carrack.images.oci_layout import ATTESTATION, REFERENCE_DIGEST, REFERENCE_TYPE
from carrack.images.store import write_bytes, write_document
from carrack.oci.descriptor import OCI_CONFIG, OCI_MANIFEST, Descriptor, Manifest, PlatformDocument
from carrack.oci.digest import Digest
from carrack.oci.image_config import ImageConfig
from carrack.oci.platform import Platform, machine
from carrack.oci.reference import Reference

IN_TOTO = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
SPDX = "https://spdx.dev/Document"
_BUILD_TYPE = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
KNOWN = ("provenance", "sbom")


@dataclass(frozen=True, slots=True)
class Attestor:
    """Makes the statements that a build was asked for."""

    content: ContentStore
    files: FileTrees
    request: BuildRequest
    plan: Plan
    tree: Callable[[], Tree]
    """The image's files."""
    dockerfile: bytes
    sources: Sequence[tuple[str, Mapping[str, str]]]
    """What was fetched: address and digests."""
    started_nanoseconds: int
    epoch_seconds: int | None
    cancel: Cancellation

    def __call__(self, manifest: Descriptor, config: ImageConfig, lease: Lease) -> tuple[Sequence[Descriptor], Sequence[Digest]]:
        """The manifest of the statements on an image, and every blob of it. Raises InvalidParameter for an unknown kind."""
        predicates: list[tuple[str, object]] = []
        for kind, attributes in self.request.attestations.items():
            if kind not in KNOWN:
                raise InvalidParameter(f"unknown attestation {kind!r}: want provenance or sbom")
            if attributes.get("disabled") == "true":
                continue
            if kind == "provenance":
                predicates.append((PROVENANCE, self.provenance(attributes)))
            else:
                predicates.append((SPDX, self._packages(config)))
        if not predicates:
            return (), ()
        subject = self._subject(manifest, config.platform)
        layers = []
        for predicate_type, predicate in predicates:
            statement = {"_type": _STATEMENT, "subject": subject, "predicateType": predicate_type, "predicate": predicate}
            blob = write_bytes(self.content, lease, msgspec.json.encode(statement), IN_TOTO)
            layers.append(msgspec.structs.replace(blob, annotations={PREDICATE_TYPE: predicate_type}))
        document: dict[str, object] = {
            "architecture": "unknown",
            "os": "unknown",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        }
        about = write_document(self.content, lease, document, OCI_CONFIG)
        made = write_document(self.content, lease, Manifest(2, about, tuple(layers), OCI_MANIFEST), OCI_MANIFEST)
        described = msgspec.structs.replace(
            made,
            annotations={REFERENCE_DIGEST: manifest.digest, REFERENCE_TYPE: ATTESTATION},
            platform=PlatformDocument("unknown", "unknown"),
        )
        return (described,), (made.name, about.name, *(layer.name for layer in layers))

    def _subject(self, manifest: Descriptor, platform: Platform) -> list[dict[str, object]]:
        digest = {manifest.name.algorithm: manifest.name.encoded}
        names = [_package_url(name, platform) for name in self.request.names] or ["_"]
        return [{"name": name, "digest": digest} for name in names]

    # ── provenance ───────────────────────────────────────────────────────────────────────────────────────────────────

    def provenance(self, attributes: Mapping[str, str]) -> dict[str, object]:
        """Where the image came from, as SLSA's predicate. Raises InvalidParameter for an unknown mode."""
        mode = attributes.get("mode", "min")
        if mode not in ("min", "max"):
            raise InvalidParameter(f"invalid provenance mode {mode!r}: want min or max")
        request = self.request
        arguments: dict[str, str] = {"target": request.target} if request.target else {}
        parameters: dict[str, object] = {
            "configSource": {"path": request.dockerfile},
            "request": {
                "frontend": "dockerfile.v0",
                "args": arguments,
                "locals": [{"name": name or "context"} for name in request.contexts],
            },
        }
        internal: dict[str, object] = {"builderPlatform": str(machine())}
        if mode == "max":
            arguments |= {f"build-arg:{name}": value for name, value in request.build_arguments.items()}
            arguments |= {f"label:{name}": value for name, value in request.labels.items()}
            internal["dockerfile"] = self.dockerfile.decode(errors="replace")
            internal["steps"] = [step.text for step in self.plan.steps]
        dependencies = [
            {"uri": _package_url(image.reference, image.config.platform), "digest": _digest_set(image.digest)}
            for image in self.plan.images
        ]
        dependencies += [{"uri": uri, "digest": dict(digests)} for uri, digests in self.sources]
        return {
            "buildDefinition": {
                "buildType": _BUILD_TYPE,
                "externalParameters": parameters,
                "internalParameters": internal,
                "resolvedDependencies": dependencies,
            },
            "runDetails": {"builder": {"id": attributes.get("builder-id", "")}, "metadata": self._metadata()},
        }

    def _metadata(self) -> dict[str, object]:
        if self.epoch_seconds is not None:  # the same build gives the same bytes
            return {}
        return {"startedOn": _time(self.started_nanoseconds / 1e9), "finishedOn": _time(datetime.now(UTC).timestamp())}

    # ── packages ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _packages(self, config: ImageConfig) -> dict[str, object]:
        scanned = self._scanned()
        found = sorted(scanned.packages.values())
        named = self.request.names[0] if self.request.names else "image"
        created = _time(float(self.epoch_seconds) if self.epoch_seconds is not None else datetime.now(UTC).timestamp())
        packages = [
            {
                "SPDXID": f"SPDXRef-Package-{number}",
                "name": package.name,
                "versionInfo": package.version,
                "downloadLocation": "NOASSERTION",
                "filesAnalyzed": False,
                "licenseConcluded": "NOASSERTION",
                "licenseDeclared": "NOASSERTION",
                "externalRefs": [
                    {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": package.purl}
                ],
            }
            for number, package in enumerate(found)
        ]
        identity = Digest.of(msgspec.json.encode([named, packages, config.rootfs.diff_ids])).encoded
        return {
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": named,
            "documentNamespace": f"https://carrack.invalid/spdx/{identity}",
            "creationInfo": {"creators": ["Tool: carrack"], "created": created},
            **({"comment": "; ".join(scanned.unread[:20])} if scanned.unread else {}),
            "packages": packages,
            "relationships": [
                {"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": each["SPDXID"]}
                for each in packages
            ],
        }

    def _scanned(self) -> Found:
        """The packages in the image's files, which a worker packs for us to look through."""
        tree = self.tree()
        if not tree:
            return Found()
        try:
            with packed_tree(self.files, tree, self.cancel) as stream:
                return scan(stream)
        except (OSError, tarfile.TarError) as error:
            raise SystemFailure(f"cannot look for packages: {error}") from error


def _package_url(name: str, platform: Platform) -> str:
    try:
        reference = Reference.parse(name).with_default_tag()
    except InvalidParameter:
        return name
    version = quote(reference.tag or str(reference.digest), safe="")
    return f"pkg:docker/{reference.familiar_repository}@{version}?platform={quote(str(platform), safe='')}"


def _digest_set(digest: str) -> dict[str, str]:
    algorithm, _, encoded = digest.partition(":")
    return {algorithm: encoded}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
