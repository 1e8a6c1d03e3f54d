"""The media type of a layer's blob, which its first bytes tell; bzip2 and xz, for which the standards have none, become gzip."""

from __future__ import annotations

import os

from isal import isal_zlib

from carrack.archive.compression import CHUNK_BYTES, Compression, Decompressed, detect
from carrack.content import ContentStore, Lease
from carrack.oci.descriptor import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Descriptor
from carrack.oci.digest import Digest

_MEDIA_TYPES = {Compression.NONE: OCI_LAYER, Compression.GZIP: OCI_LAYER_GZIP, Compression.ZSTD: OCI_LAYER_ZSTD}
_GZIP_LEVEL = 2
_GZIP_FORMAT = 31


def layer_blob(content: ContentStore, lease: Lease, digest: Digest) -> Descriptor:
    """Describe a layer as it is, or as it is once it has a compression that layers may have. Raises NotFound, DataCorrupt."""
    fd = content.open(digest)
    try:
        compression = detect(os.pread(fd, 16, 0))
        media_type = _MEDIA_TYPES.get(compression)
        if media_type is None:
            return recompress(content, lease, fd)
        return Descriptor(media_type, str(digest), content.size(digest))
    finally:
        os.close(fd)


def recompress(content: ContentStore, lease: Lease, fd: int) -> Descriptor:
    """Make a gzip layer of whatever stands behind a descriptor, without ever holding more than a piece of it."""
    plain = Decompressed(lambda: os.read(fd, CHUNK_BYTES))
    packer = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, _GZIP_FORMAT)
    with content.writer(lease) as writer:
        while piece := plain.read():
            writer.write(packer.compress(piece))
        writer.write(packer.flush())
        size = writer.offset
        return Descriptor(OCI_LAYER_GZIP, str(writer.commit()), size)
