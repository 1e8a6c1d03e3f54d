"""Images made on the spot, without a registry: layers from a table of entries, and the archive forms that `load` and `import`
take (docker-archive, OCI layout). The root file system is Debian's static busybox with a link per applet.

Written from image-spec (layout, manifest, config) and Docker's image-spec v1.2 `manifest.json`; shares no code with the
program under test, so that one mistake cannot hide in both.
"""

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

BUSYBOX = Path("/bin/busybox")
CREATED = "2024-02-03T04:05:06Z"
_SECONDS = 1_700_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One member of a layer."""

    name: str
    content: bytes = b""
    mode: int = 0o644
    kind: bytes = tarfile.REGTYPE
    link: str = ""
    uid: int = 0
    gid: int = 0
    device: tuple[int, int] = (0, 0)


def folder(name: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Entry:
    """A directory."""
    return Entry(name, mode=mode, kind=tarfile.DIRTYPE, uid=uid, gid=gid)


def symlink(name: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(name, kind=tarfile.SYMTYPE, link=target, mode=0o777)


def hardlink(name: str, target: str, mode: int = 0o755) -> Entry:
    """A hard link to an earlier member; its mode is applied to what it links to."""
    return Entry(name, mode=mode, kind=tarfile.LNKTYPE, link=target)


def tar(entries: Sequence[Entry]) -> bytes:
    """A tar stream of the entries, the same bytes each time."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            member = tarfile.TarInfo(entry.name)
            member.type, member.mode, member.linkname = entry.kind, entry.mode, entry.link
            member.uid, member.gid, member.mtime = entry.uid, entry.gid, _SECONDS
            member.devmajor, member.devminor = entry.device
            member.size = len(entry.content)
            archive.addfile(member, io.BytesIO(entry.content))
    return out.getvalue()


def busybox_entries() -> list[Entry]:
    """A small complete root file system around the static busybox."""
    applets = subprocess.run([str(BUSYBOX), "--list"], capture_output=True, text=True, check=True).stdout.split()
    entries = [folder(name) for name in ("bin", "etc", "root", "var", "var/www", "usr", "usr/bin", "home", "home/app")]
    entries += [folder("tmp", 0o1777), Entry("bin/busybox", BUSYBOX.read_bytes(), 0o755)]
    entries += [hardlink(f"bin/{applet}", "bin/busybox") for applet in applets if applet != "busybox"]
    entries.append(Entry("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n"))
    entries.append(Entry("etc/group", b"root:x:0:\ntty:x:5:\nwheel:x:10:app\napp:x:1000:\nextra:x:2000:app\n"))
    entries.append(Entry("etc/shadow", b"root:*:19000:0:99999:7:::\n", 0o640))
    entries.append(Entry("var/www/index.html", b"it works\n"))
    return entries


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an image is to be made of; ``config`` is the image config's inner ``config`` object."""

    layers: tuple[bytes, ...]
    tags: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[str, ...] = ()
    diff_ids: tuple[str, ...] = ()  # only to lie about them
    architecture: str = "amd64"

    def with_config(self, **config: Any) -> "Recipe":
        """The same image with these config fields."""
        return replace(self, config={**self.config, **config})

    def config_json(self) -> bytes:
        """The image config document."""
        diff_ids = list(self.diff_ids) or [_digest(layer) for layer in self.layers]
        comments = self.history or tuple(f"layer {index}" for index in range(len(self.layers)))
        document = {
            "architecture": self.architecture,
            "os": "linux",
            "created": CREATED,
            "config": dict(self.config),
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created": CREATED, "created_by": comment} for comment in comments],
        }
        return json.dumps(document, sort_keys=True).encode()

    @property
    def image_id(self) -> str:
        """The digest of the config, which is Docker's image id."""
        return _digest(self.config_json())


def docker_archive(*recipes: Recipe) -> bytes:
    """What `docker save` wrote before engine 25: manifest.json, configs and plain layers."""
    files: dict[str, bytes] = {}
    rows = []
    for recipe in recipes:
        config_name = f"{recipe.image_id.partition(':')[2]}.json"
        files[config_name] = recipe.config_json()
        layer_names = []
        for layer in recipe.layers:
            name = f"{_digest(layer).partition(':')[2]}/layer.tar"
            files[name] = layer
            layer_names.append(name)
        rows.append({"Config": config_name, "RepoTags": list(recipe.tags) or None, "Layers": layer_names})
    files["manifest.json"] = json.dumps(rows).encode()
    return tar([Entry(name, content) for name, content in files.items()])


def oci_layout(recipe: Recipe, *, packed: Sequence[bytes] | None = None, layer_type: str = "tar") -> bytes:
    """An OCI image layout in a tar; ``packed`` are the layers as stored when they are compressed."""
    stored = list(packed) if packed is not None else list(recipe.layers)
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, media_type: str) -> dict[str, Any]:
        digest = _digest(content)
        blobs[digest] = content
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(recipe.config_json(), "application/vnd.oci.image.config.v1+json"),
        "layers": [blob(layer, f"application/vnd.oci.image.layer.v1.{layer_type}") for layer in stored],
    }
    top = blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    rows = [{**top, "annotations": {"io.containerd.image.name": tag}} for tag in recipe.tags] or [top]
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": rows}
    entries = [Entry("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), Entry("index.json", json.dumps(index).encode())]
    entries += [folder("blobs"), folder("blobs/sha256")]
    entries += [Entry(f"blobs/{digest.replace(':', '/')}", content) for digest, content in blobs.items()]
    return tar(entries)


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
