"""Outputs that are files: the final stage's tree as a tar, and images as archives.

``local`` and ``tar`` are the tree that the final stage shows, in the order of names; who asked for a directory unpacks the tar
there. ``docker`` and ``oci`` are the archive that `docker save` writes, an OCI image layout and Docker's format in one. With
SOURCE_DATE_EPOCH no time in them is later, and the same build gives the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from carrack.build.annotations import INDEX_DESCRIPTOR
from carrack.build.image_export import ImageExporter, ImageTarget, ImageWish
from carrack.build.ports import FileTrees, PackOptions
from carrack.build.request import Export
from carrack.build.solver import Result
from carrack.build.stacks import Stacks
from carrack.distribution.cancellation import Cancellation
from carrack.errors import InvalidParameter
from carrack.images.image import Image
from carrack.images.images import Images, new_name
from carrack.images.save import save_image

TREES = frozenset(("local", "tar"))
ARCHIVES = frozenset(("docker", "oci"))


class FileExporter:
    """Writes an output to the descriptor that an export names. Blocking."""

    def __init__(self, files: FileTrees, stacks: Stacks, images: Images, exporter: ImageExporter) -> None:
        self._files = files
        self._stacks = stacks
        self._images = images
        self._exporter = exporter

    def tree(
        self,
        export: Export,
        targets: Sequence[ImageTarget],
        results: Mapping[str, Result],
        epoch: int | None,
        cancel: Cancellation,
    ) -> None:
        """The files of the final stage, as a tar: of several platforms each in a directory of its own (``linux_arm64``), unless
        ``platform-split=false`` lays them over each other. Raises SystemFailure, InvalidParameter, Cancelled.
        """
        split = exporting_flag(export, "platform-split", len(targets) > 1)
        for target in targets:
            vertex = target.plan.target.vertex
            chain = results[vertex.digest].chain_id if vertex is not None else None
            prefix = str(target.plan.platform).replace("/", "_") if split else ""
            options = PackOptions("uncompressed", epoch_seconds=epoch, prefix=prefix, ends=target is targets[-1])
            self._files.pack_tree(self._stacks.of(chain), export.target_fd, options, cancel)

    def archive(
        self,
        export: Export,
        targets: Sequence[ImageTarget],
        results: Mapping[str, Result],
        wish: ImageWish,
        cancel: Cancellation,
    ) -> Image:
        """An image as an archive; the image store has it only for as long as that takes, unless it had it before."""
        names = [new_name(name) for name in wish.names]
        known = {image.id for image in self._images.list()}
        image = self._exporter.export(targets, results, replace(wish, names=()), cancel)
        entry = wish.annotations.on(INDEX_DESCRIPTOR)
        try:
            for piece in save_image(self._images.store, image, names, entry):
                cancel.check()
                view = memoryview(piece)
                while view:
                    view = view[os.write(export.target_fd, view) :]
        finally:
            if image.id not in known:
                self._images.remove(str(image.id))
        return image


def title(export: Export) -> str:
    """What people see of an output while it is made."""
    return _TITLES.get(export.type, "exporting to image") if export.target_fd >= 0 else "exporting to image"


_TITLES = {
    "cache": "exporting cache to client directory",
    "docker": "exporting to docker image format",
    "local": "exporting to client directory",
    "oci": "exporting to oci image format",
    "tar": "exporting to client tarball",
}


def check(export: Export) -> None:
    """Raises InvalidParameter for an output that is none."""
    if export.target_fd >= 0 and export.type not in TREES | ARCHIVES:
        raise InvalidParameter(f"output of type {export.type!r} cannot be written to a file")
    if export.target_fd < 0 and export.type in TREES | {"oci"}:
        raise InvalidParameter(f"output of type {export.type!r} needs somebody to take it")


def exporting_flag(export: Export, name: str, default: bool = False) -> bool:
    """An attribute that is true or false. Raises InvalidParameter."""
    text = export.attributes.get(name, "")
    if text not in ("", "true", "false", "1", "0"):
        raise InvalidParameter(f"invalid value {text!r} of the output's {name}: want true or false")
    return text in ("true", "1") if text else default
