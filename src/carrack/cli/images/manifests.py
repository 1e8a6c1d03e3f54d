"""The `manifest` commands: several images under one name. The list is put together in files, then pushed.

The files are those of Docker's command (`~/.docker/manifests`), so that either goes on where the other began. What concerns a
registry is done by a program of its own, `python -m carrack.distribution`.
"""

from __future__ import annotations

import os

from carrack.cli.command import Command
from carrack.cli.failure import CommandFailure
from carrack.cli.images.names import Name
from carrack.cli.images.transfer import read_name
from carrack.client import codec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

    Document = dict[str, Any]

_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_INDEXES = (_LIST, "application/vnd.oci.image.index.v1+json")
_MACHINES = {
    "linux": "386 amd64 arm arm64 loong64 ppc64 ppc64le mips mips64 mips64le mipsle riscv64 s390x".split(),
    "windows": ["386", "amd64", "arm", "arm64"],
    "darwin": ["386", "amd64", "arm", "arm64"],
    "freebsd": ["386", "amd64", "arm"],
    "netbsd": ["386", "amd64", "arm"],
    "openbsd": ["386", "amd64", "arm"],
    "dragonfly": ["amd64"],
    "solaris": ["amd64"],
    "plan9": ["386", "amd64"],
    "aix": ["ppc64"],
}


def _named(text: str) -> Name:
    return read_name(text).with_default_tag()


def _full(name: Name) -> str:
    return f"{name.full_name}{f':{name.tag}' if name.tag else ''}{f'@{name.digest}' if name.digest else ''}"


def _file_name(name: Name) -> str:
    return _full(name).replace(":", "-").replace("/", "_")


class Lists:
    """The lists being put together: a folder each, in it a file per image."""

    def __init__(self, session: Session) -> None:
        self._root = os.path.join(session.config.directory, "manifests")

    def _folder(self, name: Name) -> str:
        return os.path.join(self._root, _file_name(name))

    def read(self, name: Name) -> list[Document] | None:
        """The images of a list, in order of their names; None when there is no such list."""
        from carrack.cli.files import read_file

        folder = self._folder(name)
        if not os.path.isdir(folder):
            return None
        return [codec.decode(read_file(os.path.join(folder, entry))) for entry in sorted(os.listdir(folder))]

    def find(self, name: Name, image: Name) -> Document | None:
        """One image of a list."""
        from carrack.cli.files import read_file

        try:
            found: Document = codec.decode(read_file(os.path.join(self._folder(name), _file_name(image))))
        except FileNotFoundError:
            return None
        return found

    def save(self, name: Name, image: Name, document: Document) -> None:
        """Writes one image of a list."""
        from carrack.cli.files import write_atomically

        os.makedirs(self._folder(name), mode=0o755, exist_ok=True)
        write_atomically(os.path.join(self._folder(name), _file_name(image)), codec.encode(document).encode())

    def remove(self, name: Name) -> bool:
        """Forgets a list; false when there was none."""
        import shutil

        if not os.path.isdir(self._folder(name)):
            return False
        shutil.rmtree(self._folder(name))
        return True


def _registry(session: Session, name: Name, *, insecure: bool, **order: Any) -> Document:
    """Has the registry program do an order; its answer. Lines before the last say what has been pushed. Raises CommandFailure."""
    import subprocess

    from carrack.cli.logins import header_for
    from carrack.cli.programs import interpreter

    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    request = {**order, "name": _full(name), "insecure": insecure, "login": header_for(session.config, name.server)}
    program = [interpreter(), "-m", "carrack.distribution"]
    done = subprocess.run(
        program, input=codec.encode(request).encode(), capture_output=True, check=False, env={**os.environ, "PYTHONPATH": source}
    )
    lines = done.stdout.decode().splitlines()
    answer: Document = codec.decode(lines[-1].encode()) if lines else {"failure": done.stderr.decode("utf-8", "replace").strip()}
    repository = name.full_name if name.domain != "docker.io" else name.familiar_name
    for line in lines[:-1]:
        digest = codec.decode(line.encode())["pushed"]
        session.out.line(f"Pushed ref {repository}@{digest} with digest: {digest}")
    if "failure" in answer:
        session.out.flush()
        if answer.get("kind") == "NotFound" and order.get("order") == "fetch":
            raise CommandFailure(f"no such manifest: {_shown(name)}")
        raise CommandFailure(str(answer["failure"]))
    return answer


def _shown(name: Name) -> str:
    return _full(name) if name.domain != "docker.io" else f"docker.io/{_full(name).removeprefix('docker.io/')}"


def _image_document(ref: str, image: Document) -> Document:
    """What is kept of an image: its descriptor with its platform, and its manifest, raw and read."""
    from binascii import a2b_base64

    config = codec.decode(a2b_base64(image["config"]) or b"{}")
    platform: Document = {"architecture": config.get("architecture") or "", "os": config.get("os") or ""}
    for key, field in (("os.version", "os.version"), ("os.features", "os.features"), ("variant", "variant")):
        if config.get(field):
            platform[key] = config[field]
    descriptor = {"mediaType": image["media_type"], "digest": image["digest"], "size": image["size"], "platform": platform}
    manifest = codec.decode(a2b_base64(image["raw"]))
    kept: Document = {"schemaVersion": manifest["schemaVersion"], "mediaType": manifest.get("mediaType") or image["media_type"]}
    kept["config"] = manifest["config"]
    kept["layers"] = manifest["layers"]
    kept.update({key: manifest[key] for key in ("subject", "annotations") if key in manifest})
    field = "SchemaV2Manifest" if image["media_type"] == _DOCKER_MANIFEST else "OCIManifest"
    return {"Ref": ref, "Descriptor": descriptor, "Raw": image["raw"], field: kept}


def _fetch(session: Session, name: Name, *, insecure: bool) -> tuple[bool, list[Document]]:
    """(whether the name stands for a list, the images)."""
    from binascii import a2b_base64

    answer = _registry(session, name, insecure=insecure, order="fetch")
    is_list = answer["media_type"] in _INDEXES
    ref = _full(name)
    documents = []
    for image in answer["images"]:
        documents.append(_image_document(f"{ref}@{image['digest']}" if is_list else ref, image))
    if is_list:
        entries = {entry["digest"]: entry for entry in codec.decode(a2b_base64(answer["raw"]))["manifests"]}
        for document in documents:
            platform = entries[document["Descriptor"]["digest"]].get("platform")
            if platform:
                document["Descriptor"]["platform"] = platform
    return is_list, documents


def _create(session: Session, parsed: Parsed) -> None:
    target = _named(parsed.arguments[0])
    lists = Lists(session)
    if lists.read(target) is not None and not parsed.flag("amend"):
        raise CommandFailure("refusing to amend an existing manifest list with no --amend flag")
    insecure = parsed.flag("insecure")
    for text in parsed.arguments[1:]:
        image = _named(text)
        if lists.find(target, image) is not None:
            continue
        is_list, documents = _fetch(session, image, insecure=insecure)
        if is_list or not documents:
            raise CommandFailure(f"{_full(image)} is a manifest list")
        lists.save(target, image, documents[0])
    session.out.line(f"Created manifest list {_full(target)}")


def _annotate(session: Session, parsed: Parsed) -> None:
    target, image = _named(parsed.arguments[0]), _named(parsed.arguments[1])
    lists = Lists(session)
    document = lists.find(target, image)
    if document is None:
        raise CommandFailure(f"manifest for image {parsed.arguments[1]} does not exist in {parsed.arguments[0]}")
    platform = document["Descriptor"].setdefault("platform", {"architecture": "", "os": ""})
    for flag, key in (("os", "os"), ("arch", "architecture"), ("variant", "variant"), ("os-version", "os.version")):
        if parsed.text(flag):
            platform[key] = parsed.text(flag)
    for feature in parsed.items("os-features"):
        if feature not in platform.setdefault("os.features", []):
            platform["os.features"].append(feature)
    if platform["architecture"] not in _MACHINES.get(platform["os"], ()):
        shown = f"{parsed.text('os')}/{parsed.text('arch')}"
        raise CommandFailure(f"manifest entry for image has unsupported os/arch combination: {shown}")
    lists.save(target, image, _ordered(document))


def _list_document(images: list[Document]) -> Document:
    """The manifest list of images."""
    entries = []
    for image in images:
        descriptor = image["Descriptor"]
        entry = {key: descriptor[key] for key in ("mediaType", "size", "digest")}
        platform = descriptor.get("platform") or {}
        order = ("architecture", "os", "os.version", "os.features", "variant")
        entries.append({**entry, "platform": {key: platform[key] for key in order if key in platform}})
    return {"schemaVersion": 2, "mediaType": _LIST, "manifests": entries}


def _print_images(session: Session, documents: list[Document], *, is_list: bool, verbose: bool) -> None:
    from carrack.cli.render.indent import indent

    if verbose:
        shown: Any = [_ordered(document) for document in documents] if is_list else _ordered(documents[0])
        session.out.line(indent(codec.encode(shown), "\t"))
    elif is_list:
        session.out.line(indent(codec.encode(_list_document(documents)), "   "))
    else:
        document = documents[0]
        session.out.line(indent(codec.encode(document.get("SchemaV2Manifest") or document["OCIManifest"]), "\t"))


def _ordered(document: Document) -> Document:
    platform = document["Descriptor"].get("platform")
    if platform:
        order = ("architecture", "os", "os.version", "os.features", "variant")
        document["Descriptor"]["platform"] = {key: platform[key] for key in order if key in platform}
    return document


def _inspect(session: Session, parsed: Parsed) -> None:
    insecure, verbose = parsed.flag("insecure"), parsed.flag("verbose")
    lists = Lists(session)
    if len(parsed.arguments) == 2:
        target, image = _named(parsed.arguments[0]), _named(parsed.arguments[1])
        kept = lists.find(target, image)
        documents = [kept] if kept is not None else _fetch(session, image, insecure=insecure)[1]
        _print_images(session, documents, is_list=False, verbose=verbose)
        return
    name = _named(parsed.arguments[0])
    there = lists.read(name)
    if there is not None:
        _print_images(session, there, is_list=True, verbose=verbose)
        return
    is_list, documents = _fetch(session, name, insecure=insecure)
    _print_images(session, documents, is_list=is_list, verbose=verbose)


def _push(session: Session, parsed: Parsed) -> None:
    from binascii import a2b_base64, b2a_base64

    target = _named(parsed.arguments[0])
    lists = Lists(session)
    images = lists.read(target)
    if not images:
        raise CommandFailure(f"No such manifest: {_shown(target)}")
    parts = []
    for image in images:
        source = read_name(image["Ref"])
        if source.domain != target.domain:
            raise CommandFailure(
                f"cannot use source images from a different registry than the target image: {source.domain} != {target.domain}"
            )
        manifest = codec.decode(a2b_base64(image["Raw"]))
        parts.append(
            {
                "digest": image["Descriptor"]["digest"],
                "media_type": image["Descriptor"]["mediaType"],
                "raw": image["Raw"],
                "from": source.path,
                "blobs": [manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])],
            }
        )
    from carrack.cli.render.indent import indent

    content = indent(codec.encode(_list_document(images)), "   ").encode()
    answer = _registry(
        session,
        target,
        insecure=parsed.flag("insecure"),
        order="push",
        media_type=_LIST,
        raw=b2a_base64(content, newline=False).decode(),
        parts=parts,
    )
    session.out.line(answer["digest"])
    if parsed.flag("purge"):
        lists.remove(target)


def _remove(session: Session, parsed: Parsed) -> None:
    lists = Lists(session)
    failures = []
    for text in parsed.arguments:
        name = _named(text)
        if not lists.remove(name):
            failures.append(f"No such manifest: {_shown(name)}")
    if failures:
        raise CommandFailure("\n".join(failures))


_INSECURE = "--insecure bool Do without TLS if the registry has none"

COMMANDS = (
    Command(
        "manifest create",
        "MANIFEST_LIST MANIFEST [MANIFEST...]",
        "Begin a list of images of several platforms",
        _create,
        at_least=2,
        flags=f"-a, --amend bool Add to a list that is there\n{_INSECURE}",
    ),
    Command(
        "manifest annotate",
        "[OPTIONS] MANIFEST_LIST MANIFEST",
        "Say more of an image in a list: its platform",
        _annotate,
        at_least=2,
        at_most=2,
        flags="""
            --arch string         Architecture
            --os string           Operating system
            --os-features strings Features the operating system must have
            --os-version string   Version of the operating system
            --variant string      Variant of the architecture
        """,
    ),
    Command(
        "manifest inspect",
        "[OPTIONS] [MANIFEST_LIST] MANIFEST",
        "Print a manifest or a list of them",
        _inspect,
        at_least=1,
        at_most=2,
        flags=f"{_INSECURE}\n-v, --verbose bool Print platforms and layers too",
    ),
    Command(
        "manifest push",
        "[OPTIONS] MANIFEST_LIST",
        "Push a list to a registry",
        _push,
        at_least=1,
        at_most=1,
        flags=f"{_INSECURE}\n-p, --purge bool Forget the list here once it is pushed",
    ),
    Command("manifest rm", "MANIFEST_LIST [MANIFEST_LIST...]", "Forget lists that are being put together", _remove, at_least=1),
)
