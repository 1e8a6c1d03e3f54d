"""One build's workshop: sources, contents, the cache, and the operations, over the ports that the house gives. Blocking.

An operation fills a staging directory; `_committed` makes it a layer, names that by its tar's digest, and records it. What changed
nothing adds no layer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from carrack.build.cache import SOURCE_GIT, SOURCE_HTTP, BuildCache, Record
from carrack.build.cache_import import Imported, Imports
from carrack.build.cache_key import Key, named_key
from carrack.build.cache_mounts import CacheMounts
from carrack.build.graph import ContextOp, CopyOp, DirectoryOp, ImageOp, RemoteOp, RunOp, Selection, StackOp, Vertex, plain
from carrack.build.plan import Surroundings
from carrack.build.ports import (
    ChecksumOrder,
    CopyOrder,
    CopySource,
    FileTrees,
    GitSource,
    LocalContext,
    Packed,
    PackOptions,
    RemoteSources,
    Tree,
)
from carrack.build.progress import Tell, VertexLog
from carrack.build.run import RunRoom, run_step, take_difference
from carrack.build.solver import Result
from carrack.build.stacks import Stacks, tree_of
from carrack.distribution.cancellation import Cancellation
from carrack.errors import NotFound, SystemFailure
from carrack.oci.descriptor import Descriptor
from carrack.oci.digest import Digest
from carrack.snapshots import Snapshotter


@dataclass(frozen=True, slots=True)
class Equipment:
    """What all builds of a daemon work with."""

    snapshots: Snapshotter
    cache: BuildCache
    files: FileTrees
    stacks: Stacks
    remotes: RemoteSources
    rooms: RunRoom
    mounts: CacheMounts
    unpack: Callable[[Descriptor, Imported, Path, Cancellation], None]
    """Fetches a blob of a cache and unpacks it into a directory."""


@dataclass(slots=True)
class BuildWorkshop:
    """See `solver.Workshop`. `contexts` are the local ones by name, "" the main one."""

    equipment: Equipment
    contexts: Mapping[str, LocalContext]
    secrets: Mapping[str, bytes] = field(default_factory=dict)
    agents: Mapping[str, str] = field(default_factory=dict)
    """Sockets of ssh agents, by id."""
    surroundings: Surroundings = field(default_factory=Surroundings)
    epoch_seconds: int | None = None
    no_cache: bool = False
    imports: Imports | None = None
    """Caches that came from elsewhere."""
    only: frozenset[Digest] | None = None
    """The stacks that may come from this daemon's own cache; None: any."""
    sources: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    """What was fetched: address and digests."""
    pack_for_image: Callable[[Path, Cancellation], Packed] | None = None
    """Packs a layer into the blob that the image will hold."""
    of_image: frozenset[str] = frozenset()
    """The vertices whose layers the image will hold."""
    held: list[str] = field(default_factory=list)
    """The records that this build holds until its end."""

    # ── sources ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def is_source(self, vertex: Vertex) -> bool:
        return isinstance(vertex.op, (ImageOp, ContextOp, RemoteOp))

    def source(self, vertex: Vertex, tell: Tell, cancel: Cancellation) -> tuple[Result, bool]:
        match vertex.op:
            case ImageOp(chain_id=chain_id):
                return Result(chain_id=chain_id), True
            case ContextOp(name=name, ignore=ignore):
                context = self.contexts.get(name)
                if context is None:
                    raise NotFound(f"the context {name or 'of the build'} was not sent")
                return Result(tree=context.tree(ignore), content=context.key), True
            case RemoteOp():
                return self._fetched(vertex, vertex.op, tell, cancel)
        raise SystemFailure(f"no source: {type(vertex.op).__name__}")

    def _fetched(self, vertex: Vertex, op: RemoteOp, tell: Tell, cancel: Cancellation) -> tuple[Result, bool]:
        equipment = self.equipment
        pinned = equipment.remotes.pin(op.source, self.secrets, cancel)
        self.sources.append((pinned.shown, pinned.digest))
        key = named_key("source", pinned.key)
        record = equipment.cache.find(key.digest) if not self.no_cache else None
        if record is None:
            directory = equipment.cache.new_directory()
            try:
                equipment.remotes.fetch(
                    pinned,
                    equipment.cache.root / directory,
                    self.secrets,
                    lambda line: tell(VertexLog(vertex.digest, 2, f"{line}\n".encode(), time.time_ns())),
                    cancel,
                )
                tree = tree_of(equipment.cache.root / directory)
                record = equipment.cache.put(
                    key,
                    kind=SOURCE_GIT if isinstance(op.source, GitSource) else SOURCE_HTTP,
                    directory=directory,
                    description=pinned.shown,
                    size_bytes=equipment.files.usage(tree),
                    note=dict(pinned.digest),
                )
            except BaseException:
                equipment.cache.abandon(directory)
                raise
            found = False
        else:
            found = True
        self._hold(record)
        return Result(tree=tree_of(equipment.cache.root / record.directory), content=key.digest, key=record.key), found

    # ── contents and the cache ───────────────────────────────────────────────────────────────────────────────────────

    def content_of(self, vertex: Vertex, result: Result, selection: Selection | None, cancel: Cancellation) -> str:
        if selection is None:
            # a program may do more than what its layer shows, so RUN counts which steps came before; COPY is a function of files
            history = f"{result.key} " if isinstance(vertex.op, RunOp) and result.key else ""
            return f"{history}{result.chain_id or 'scratch'}"
        named = msgspec.json.encode(plain(selection)).decode()
        if result.chain_id is not None:
            known = self.equipment.cache.sum_of(result.chain_id, named)
            if known is None and self.imports is not None:
                known = self.imports.sum_of(result.chain_id, named)
            if known is not None:
                return known
        order = ChecksumOrder(
            tree=self._tree(result, cancel),
            pattern=selection.pattern,
            wildcards=selection.wildcards,
            parents=selection.parents,
            excludes=selection.excludes,
            follow_links=selection.follow_links,
            cache_key=result.content or str(result.chain_id or ""),
        )
        found = self.equipment.files.checksum(order, cancel)
        if result.chain_id is not None:
            self.equipment.cache.remember_sum(result.chain_id, named, found)
        return found

    def find(self, vertex: Vertex, key: Key) -> Result | None:
        record = self.equipment.cache.find(key.digest)
        if record is None or not self._may_use(record):
            travelled = self.imports.find(key) if self.imports is not None else None
            return Result(chain_id=travelled.chain_id, key=travelled.key, created=travelled.created) if travelled else None
        self._hold(record)
        return Result(chain_id=record.chain_id, key=record.key, created=record.created)

    def _may_use(self, record: Record) -> bool:
        return self.only is None or record.chain_id in self.only

    def why(self, vertex: Vertex, key: Key) -> str:
        return self.equipment.cache.explain(key, vertex.shown.place)

    # ── work ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def work(self, vertex: Vertex, key: Key, inputs: Sequence[Result], tell: Tell, cancel: Cancellation) -> Result:
        base = _base(vertex, inputs)
        parent = base.chain_id if base is not None else None
        self.need(parent, cancel)
        if isinstance(vertex.op, StackOp):
            return self._stacked(vertex, key, inputs, cancel)
        staging: Path | None
        match vertex.op:
            case RunOp():
                staging = self._run(vertex, vertex.op, inputs, parent, tell, cancel)
            case CopyOp():
                staging = self._copy(vertex.op, inputs, parent, cancel)
            case DirectoryOp():
                staging = self._directory(vertex.op, parent, cancel)
            case _:
                raise SystemFailure(f"no operation: {type(vertex.op).__name__}")
        chain, size_bytes = self._committed(vertex, parent, staging, cancel) if staging is not None else (parent, 0)
        if self.only is not None and self.equipment.cache.find(key.digest) is not None:
            key = named_key("beside", key.digest)  # what stands there was not ours to use, and is still others'
        record = self.equipment.cache.put(
            key,
            chain_id=chain,
            place=vertex.shown.place,
            description=vertex.shown.name,
            size_bytes=size_bytes,
            parents=tuple(dict.fromkeys(result.key for result in inputs if result.key)),
        )
        self._hold(record)
        return Result(chain_id=chain, key=record.key, created=record.created)

    def _stacked(self, vertex: Vertex, key: Key, inputs: Sequence[Result], cancel: Cancellation) -> Result:
        """A layer over another base: a record and nothing else, however large it is."""
        base, linked = inputs
        self.need(linked.chain_id, cancel)
        chain = base.chain_id
        if linked.chain_id is not None:
            chain = self.equipment.snapshots.restack(base.chain_id, linked.chain_id).chain_id
        parents = tuple(dict.fromkeys(result.key for result in inputs if result.key))
        record = self.equipment.cache.put(
            key,
            chain_id=chain,
            place=vertex.shown.place,
            description=f"stacked: {vertex.shown.classic}"[:200],
            parents=parents,
            created=linked.created,
        )
        self._hold(record)
        return Result(chain_id=chain, key=record.key, created=record.created)

    def _committed(self, vertex: Vertex, parent: Digest | None, staging: Path, cancel: Cancellation) -> tuple[Digest | None, int]:
        """A staging directory as a layer over `parent`; when it holds nothing, the parent itself."""
        snapshots = self.equipment.snapshots
        try:
            if not os.listdir(staging):  # nothing to pack, and no worker needed to say so
                snapshots.abandon(staging)
                return parent, 0
            packed = self._packed(vertex, staging, cancel)
            if not packed.entries:
                snapshots.abandon(staging)
                return parent, 0
            layer = snapshots.commit_layer(parent, Digest.parse(packed.diff_id), staging, packed.size_bytes)
        except BaseException:
            snapshots.abandon(staging)
            raise
        return layer.chain_id, layer.size_bytes

    def _packed(self, vertex: Vertex, staging: Path, cancel: Cancellation) -> Packed:
        """The name of a layer; one that goes into the image is written in the same breath."""
        if self.pack_for_image is not None and vertex.digest in self.of_image:
            return self.pack_for_image(staging, cancel)
        null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        try:
            return self.equipment.files.pack_upper(staging, null, PackOptions("uncompressed"), cancel)
        finally:
            os.close(null)

    def _run(
        self, vertex: Vertex, op: RunOp, inputs: Sequence[Result], parent: Digest | None, tell: Tell, cancel: Cancellation
    ) -> Path:
        trees = [self._tree(result, cancel) for result in inputs]
        return run_step(self, vertex, op, trees, parent, tell, cancel)

    def _copy(self, op: CopyOp, inputs: Sequence[Result], parent: Digest | None, cancel: Cancellation) -> Path:
        equipment = self.equipment
        sources = tuple(
            CopySource(
                tree=self._tree(inputs[part.input], cancel),
                pattern=part.pattern,
                wildcards=part.wildcards,
                unpack=part.unpack,
                keep_owner=part.keep_owner,
            )
            for part in op.sources
        )
        order = CopyOrder(
            sources=sources,
            files=op.files,
            destination=op.destination,
            base=() if op.link or equipment.stacks.copies else equipment.stacks.of(parent),
            owner=op.owner,
            mode=op.mode,
            link=op.link,
            parents=op.parents,
            excludes=op.excludes,
            epoch_seconds=self.epoch_seconds,
        )
        if equipment.stacks.copies and not op.link and parent is not None:
            return self._copy_over(order, parent, cancel)
        staging = equipment.snapshots.stage()
        try:
            equipment.files.copy(order, staging, cancel)
        except BaseException:
            equipment.snapshots.abandon(staging)
            raise
        return staging

    def _copy_over(self, order: CopyOrder, parent: Digest, cancel: Cancellation) -> Path:
        """A copy into a full copy of the stack, where overlayfs has nowhere to write."""
        equipment = self.equipment
        key = os.urandom(32).hex()
        equipment.snapshots.prepare(key, parent)
        try:
            equipment.files.copy(order, equipment.snapshots.changes(key), cancel)
            return take_difference(equipment.snapshots, equipment.stacks, key, parent, cancel)
        finally:
            equipment.stacks.forget(key)

    def _directory(self, op: DirectoryOp, parent: Digest | None, cancel: Cancellation) -> Path | None:
        snapshots = self.equipment.snapshots
        key = os.urandom(32).hex()
        mounts = snapshots.prepare(key, parent)
        try:
            moment = -1 if self.epoch_seconds is None else self.epoch_seconds
            made = self.equipment.stacks.make_directory(mounts, op.path, op.owner, moment, cancel)
            if not made:
                return None
            return take_difference(snapshots, self.equipment.stacks, key, parent, cancel)
        finally:
            self.equipment.stacks.forget(key)

    def need(self, chain_id: Digest | None, cancel: Cancellation) -> None:
        """Have a stack here that so far only a cache from elsewhere knows."""
        if self.imports is not None:
            key = self.imports.need(chain_id, cancel)
            record = self.equipment.cache.find(key) if key else None
            if record is not None:
                self._hold(record)

    def _tree(self, result: Result, cancel: Cancellation) -> Tree:
        if result.tree is None:
            self.need(result.chain_id, cancel)
        return self.equipment.stacks.of(result.chain_id) if result.tree is None else result.tree

    def fill_mount(self, id: str, beginning: str, path: Path, cancel: Cancellation) -> bool:
        """Fill a new cache mount with what a cache from elsewhere has of it. False when none has."""
        found = self.imports.mount(id, beginning) if self.imports is not None else None
        if found is None:
            return False
        self.equipment.unpack(*found, path, cancel)
        return True

    def _hold(self, record: Record) -> None:
        self.equipment.cache.hold((record.key,))
        self.held.append(record.key)

    def release(self) -> None:
        """The build's end: its records may be pruned again."""
        self.equipment.cache.free(self.held)
        self.held.clear()


def _base(vertex: Vertex, inputs: Sequence[Result]) -> Result | None:
    return next((result for each, result in zip(vertex.inputs, inputs, strict=True) if each.selection is None), None)
