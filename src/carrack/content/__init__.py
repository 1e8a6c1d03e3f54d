"""Blobs by digest: written once, verified while they stream in, kept as long as something refers to them."""

from carrack.content.filesystem import FilesystemContent
from carrack.content.leases import Lease
from carrack.content.memory import MemoryContent
from carrack.content.store import Collected, ContentStore, Writer

__all__ = ["Collected", "ContentStore", "FilesystemContent", "Lease", "MemoryContent", "Writer"]
