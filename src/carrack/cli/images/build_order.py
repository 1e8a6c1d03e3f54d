"""What `carrack build` asks of a session: flags, folders and files read into one order."""

from __future__ import annotations

import os
from binascii import b2a_base64

from carrack.cli.failure import CommandFailure
from carrack.cli.files import os_error_text, read_file
from carrack.cli.images.archive import read_pieces
from carrack.cli.images.build_folder import BuildFolder, ignore_file_of
from carrack.cli.images.build_options import Output as BuildOutput
from carrack.cli.images.build_options import (
    is_folder,
    read_agents,
    read_attestations,
    read_caches,
    read_named_contexts,
    read_outputs,
    read_secrets,
    split_layout,
)
from carrack.cli.images.build_outputs import DELETE, may_delete
from carrack.cli.images.context import BuildContext, context_folder, dockerfile_of, fetch_dockerfile, is_remote, open_context
from carrack.client.codec import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.images.ssh_agent import Agent
    from carrack.cli.session import Session

_LAYOUT = "oci-layout://"


class BuildOrder:
    """What is to be built: everything that the query cannot say."""

    def __init__(self) -> None:
        self.folders: dict[str, BuildFolder] = {}
        """By context, "" for the main one."""
        self.archive: BuildContext | None = None
        """The main context, when it comes whole."""
        self.dockerfile: bytes | None = None
        self.dockerfile_name = ""
        """What the daemon shows the file by, or finds it by in the context."""
        self.secrets: dict[str, bytes] = {}
        self.agents: dict[str, Agent] = {}
        self.outputs: list[BuildOutput] = []
        self.further: dict[str, Any] = {}
        """The session's other fields as they are."""

    def encoded(self) -> bytes:
        """The body of the session's request."""
        manifests = {name: folder.manifest for name, folder in self.folders.items()}
        document = {
            "Contexts": [{"Name": name, "Key": self.folders[name].key, "Bytes": len(manifests[name])} for name in manifests],
            "Secrets": {name: _base64(value) for name, value in self.secrets.items()},
            "Agents": list(self.agents),
            "Outputs": [
                {"Type": each.type, "Attributes": each.attributes, "ToClient": bool(each.destination)} for each in self.outputs
            ],
            **self.further,
        }
        if self.dockerfile is not None:
            document["Dockerfile"] = _base64(self.dockerfile)
        return b"".join((encode(document).encode(), b"\n", *manifests.values()))


def read_order(session: Session, parsed: Parsed, method: str) -> BuildOrder:
    """Everything that the flags and the argument name, read. `method` is that of the front end. Raises CommandFailure."""
    order = BuildOrder()
    order.secrets = read_secrets(parsed.items("secret"))
    order.agents = read_agents(parsed.items("ssh"))
    order.outputs = read_outputs(parsed)
    _check_outputs(parsed, order.outputs)
    order.further = {
        "CacheFrom": _caches_from(order, parsed.items("cache-from")),
        "CacheTo": _caches_to(order, parsed.items("cache-to")),
        "Attestations": read_attestations(parsed),
        "Annotations": dict(text.partition("=")[::2] for text in parsed.items("annotation")),
        "NoCacheStages": [each for text in parsed.items("no-cache-filter") for each in text.split(",") if each],
        "Allowed": [right for right in parsed.items("allow") if right != DELETE],
        "Call": "" if method == "build" else method,
    }
    _take_main_context(session, order, parsed.arguments[0], parsed.text("file"))
    order.further["Named"] = _take_named_contexts(order, parsed.items("build-context"))
    return order


def _take_main_context(session: Session, order: BuildOrder, argument: str, name: str) -> None:
    if name.startswith(("http://", "https://")):
        order.dockerfile, name = fetch_dockerfile(name), ""
    if argument == "-":
        order.archive = open_context(argument, name, session.input.fd)
        order.dockerfile_name = order.archive.dockerfile
        order.further["Archive"] = True
    elif is_remote(argument):
        order.dockerfile_name = name
        order.further["Remote"] = argument
    else:
        order.dockerfile_name = _main_folder(session, order, argument, name)


def _take_named_contexts(order: BuildOrder, texts: list[str]) -> dict[str, str]:
    """Folders and layouts join the order; the rest is for the daemon to find, as it is."""
    further: dict[str, str] = {}
    for context, where in read_named_contexts(texts).items():
        if where.startswith(_LAYOUT):
            folder, wanted = split_layout(where.removeprefix(_LAYOUT))
            if not os.path.isfile(os.path.join(folder, "index.json")):
                raise CommandFailure(f"failed to get build context {context}: {folder} is no OCI image layout")
            order.folders[f"layout:{context}"] = BuildFolder(folder)
            further[context] = f"{_LAYOUT}{wanted}"
        elif is_folder(where):
            folder = os.path.realpath(where)
            if not os.path.isdir(folder):
                raise CommandFailure(f"failed to get build context {context}: {where} is no directory")
            order.folders[context] = BuildFolder(folder, ignore_file_of(folder, ""))
        else:
            further[context] = where
    return further


def _check_outputs(parsed: Parsed, outputs: list[BuildOutput]) -> None:
    """What cannot be meant of outputs."""
    for output in outputs:
        if output.type in ("local", "tar") and parsed.text("iidfile"):
            raise CommandFailure("local and tar exporters are incompatible with image ID file")
        mode = output.attributes.get("mode", "copy")
        if output.type == "local" and mode not in ("copy", "delete"):
            raise CommandFailure(f"invalid mode {mode!r} of the local output: want copy or delete")
        if output.type == "local" and mode == "delete" and not may_delete(output.destination, parsed.items("allow")):
            raise CommandFailure(
                f"mode=delete would clear {output.destination}, which is not below the current directory: give --allow={DELETE}"
            )


def _caches_from(order: BuildOrder, texts: list[str]) -> list[dict[str, Any]]:
    """The caches to use; one in a folder of ours travels like a context."""
    found = read_caches(texts)
    for number, cache in enumerate(found):
        fields = cache["Attributes"]
        if cache["Type"] not in ("local", "oci"):
            continue
        folder = os.path.realpath(fields.get("src", ""))
        if not fields.get("src") or not os.path.isfile(os.path.join(folder, "index.json")):
            raise CommandFailure(f"--cache-from {cache['Type']}: src={fields.get('src', '')} is no image layout")
        fields["context"] = f"cache:{number}"
        order.folders[fields["context"]] = BuildFolder(folder)
    return found


def _caches_to(order: BuildOrder, texts: list[str]) -> list[dict[str, Any]]:
    """Where the cache is to go; into a folder of ours it comes like an output."""
    kept = []
    for cache in read_caches(texts):
        if cache["Type"] not in ("local", "oci"):
            kept.append(cache)
            continue
        destination = cache["Attributes"].pop("dest", "")
        if not destination:
            raise CommandFailure(f"--cache-to {cache['Type']}: dest=FOLDER is required")
        order.outputs = order.outputs or [BuildOutput("image", {}, "")]
        order.outputs.append(BuildOutput("cache", cache["Attributes"], destination))
    return kept


def _main_folder(session: Session, order: BuildOrder, argument: str, name: str) -> str:
    """Take the folder and its Dockerfile into the order; the name that the daemon shows the file by."""
    folder = context_folder(argument)
    if order.dockerfile is not None:
        order.folders[""] = BuildFolder(folder, ignore_file_of(folder, ""))
        return ""
    if name == "-":
        order.dockerfile = b"".join(read_pieces(session.input.fd))
        order.folders[""] = BuildFolder(folder, ignore_file_of(folder, ""))
        return ""
    path, name = dockerfile_of(folder, name)
    try:
        order.dockerfile = read_file(path)
    except OSError as error:
        raise CommandFailure(f"unable to open Dockerfile: {os_error_text(error)}") from None
    order.folders[""] = BuildFolder(folder, ignore_file_of(folder, path))
    return os.path.basename(path) if name.startswith(".." + os.sep) else name


def _base64(content: bytes) -> str:
    return b2a_base64(content, newline=False).decode()
