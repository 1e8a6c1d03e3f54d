"""Where the filesystem store keeps what: the layout of distribution's registry:2, so that either can take over the other's folder.

    <root>/docker/registry/v2/
        blobs/<algorithm>/<xx>/<hex>/data                                the bytes, once
        repositories/<name>/_layers/<algorithm>/<hex>/link               this repository holds that blob
        repositories/<name>/_manifests/revisions/<algorithm>/<hex>/link  ... that manifest
        repositories/<name>/_manifests/tags/<tag>/current/link           where the tag points
        repositories/<name>/_uploads/<id>/{data,startedat}               an unfinished upload
    ours (registry:2 passes over names that begin with an underscore):
        repositories/<name>/_referrers/<algorithm>/<hex>/<algorithm>/<hex>/link   subject, then the manifest that refers to it
        _carrack/{staging,locks,corrupt}

A link's content is the digest it names; its modification time is its lease, as the access time is that of `data`. Pure: paths only.
"""

from __future__ import annotations

from dataclasses import dataclass

from carrack.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below one root. Names and digests have passed their grammar before they come here."""

    root: str

    @property
    def top(self) -> str:
        return f"{self.root}/docker/registry/v2"

    @property
    def all_repositories(self) -> str:
        return f"{self.top}/repositories"

    @property
    def all_blobs(self) -> str:
        return f"{self.top}/blobs"

    @property
    def staging(self) -> str:
        return f"{self.top}/_carrack/staging"

    @property
    def locks(self) -> str:
        return f"{self.top}/_carrack/locks"

    @property
    def corrupt(self) -> str:
        return f"{self.top}/_carrack/corrupt"

    def repository(self, name: str) -> str:
        return f"{self.top}/repositories/{name}"

    def data(self, digest: Digest) -> str:
        return f"{self.top}/blobs/{digest.algorithm}/{digest.encoded[:2]}/{digest.encoded}/data"

    def layers(self, name: str) -> str:
        return f"{self.repository(name)}/_layers"

    def layer(self, name: str, digest: Digest) -> str:
        return f"{self.layers(name)}/{digest.algorithm}/{digest.encoded}/link"

    def revisions(self, name: str) -> str:
        return f"{self.repository(name)}/_manifests/revisions"

    def revision(self, name: str, digest: Digest) -> str:
        return f"{self.revisions(name)}/{digest.algorithm}/{digest.encoded}/link"

    def tags(self, name: str) -> str:
        return f"{self.repository(name)}/_manifests/tags"

    def tag(self, name: str, tag: str) -> str:
        return f"{self.tags(name)}/{tag}/current/link"

    def uploads(self, name: str) -> str:
        return f"{self.repository(name)}/_uploads"

    def upload(self, name: str, upload_id: str) -> str:
        return f"{self.uploads(name)}/{upload_id}"

    def subject(self, name: str, subject: Digest) -> str:
        return f"{self.repository(name)}/_referrers/{subject.algorithm}/{subject.encoded}"

    def referrer(self, name: str, subject: Digest, digest: Digest) -> str:
        return f"{self.subject(name, subject)}/{digest.algorithm}/{digest.encoded}/link"

    def indexed_mark(self, name: str) -> str:
        """Stands when the referrers of an adopted repository have been looked up once."""
        return f"{self.repository(name)}/_referrers/indexed"
