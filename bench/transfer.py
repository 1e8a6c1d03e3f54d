"""Pull and push of a large image by Carrack and by a real dockerd, in one run, from and to the same kind of registry.

The image has 12 layers, 20 000 files and 500 MB, half of which compresses away; it is made once and put into our registry server.
Each engine reaches it through a server process of its own over the same folder (dockerd lives in a network namespace). In every
round an engine pulls, pushes to an empty registry, and removes the image; engines take turns.

    .venv/bin/python -m bench.transfer > table.md     # as root; progress goes to standard error
"""

import argparse
import hashlib
import io
import json
import os
import random
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from isal import igzip

from bench.engine import Measure, Samples, build, describe, in_turn, milliseconds, progress, table
from tests.contract.registry.live_registry import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, LiveRegistry
from tests.rig.commands import run
from tests.rig.engine import CommandLine, docker_program

LAYERS, FILES, IMAGE_BYTES = 12, 20_000, 500_000_000
_NAME = "bench/large"


def layer(number: int, files: int, size_bytes: int) -> bytes:
    """A tar of files of mixed sizes in nested directories, half noise and half text. The same for the same arguments."""
    chance = random.Random(number)
    archive = io.BytesIO()
    text = b"the quick brown fox jumps over the lazy dog\n" * 3000
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for position in range(files):
            size = int(size_bytes / files * chance.uniform(0.2, 1.8))
            content = chance.randbytes(size // 2) + text[: size - size // 2]
            member = tarfile.TarInfo(f"layer{number}/d{position % 40}/e{position % 7}/file{position}")
            member.size, member.mtime = len(content), 1_700_000_000 + position
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def publish(registry: LiveRegistry, layers: int, files: int, size_bytes: int) -> None:
    """Put the image into the registry."""
    diff_ids, descriptors = [], []
    for number in range(layers):
        progress(f"making layer {number + 1} of {layers}")
        plain = layer(number, files // layers, size_bytes // layers)
        packed = igzip.compress(plain, 1)
        diff_ids.append("sha256:" + hashlib.sha256(plain).hexdigest())
        digest = registry.client.push_blob(_NAME, packed)
        descriptors.append({"mediaType": OCI_LAYER, "digest": digest, "size": len(packed)})
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/none"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    ).encode()
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": registry.client.push_blob(_NAME, config), "size": len(config)},
        "layers": descriptors,
    }
    assert registry.client.put_manifest(_NAME, "latest", document).status == 201


class Side:
    """An engine, the registry it pulls from, and where it pushes to."""

    def __init__(self, kind: str, stack: ExitStack, folder: Path) -> None:
        engine = build(kind, "")
        stack.callback(engine.close)
        engine.start()
        self.cli = CommandLine(engine, [docker_program()])
        self._folder = folder
        self._prefix: Sequence[str] = engine.host_prefix()
        source = LiveRegistry(folder / "source", prefix=self._prefix)
        stack.callback(source.close)
        self._source = f"127.0.0.1:{source.ports[0]}/{_NAME}"

    def round(self, pulls: Samples, pushes: Samples, pause_seconds: float) -> None:
        """Pull, push, forget."""
        kind = self.cli.engine.kind
        settle(pause_seconds)
        pulls.add(kind, milliseconds(self.cli, "pull", "-q", self._source) / 1000)
        target = LiveRegistry(self._folder / f"target-{kind}", prefix=self._prefix)
        try:
            name = f"127.0.0.1:{target.ports[0]}/{_NAME}"
            self.cli.ok("tag", self._source, name)
            settle(pause_seconds)
            pushes.add(kind, milliseconds(self.cli, "push", "-q", name) / 1000)
            self.cli.ok("rmi", name, self._source)
        finally:
            target.close()
            shutil.rmtree(target.root)


def settle(seconds: float) -> None:
    """What one engine leaves dirty must not be the other's burden."""
    os.sync()
    time.sleep(seconds)


def main() -> int:
    """Run the bench and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="part of the image's size and files (default 1)")
    parser.add_argument("--pause", type=float, default=2.0, help="idle seconds before each sample")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("containers need root")
    run([str(Path(__file__).parents[1] / "scripts/peer")], timeout_seconds=300).ok()
    pulls, pushes = Samples(), Samples()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="carrack-bench-transfer-")))
        maker = LiveRegistry(folder / "source")
        stack.callback(maker.close)
        publish(maker, LAYERS, int(FILES * options.scale), int(IMAGE_BYTES * options.scale))
        sides = {kind: Side(kind, stack, folder) for kind in ("carrackd", "dockerd")}
        for turn in range(options.rounds):
            for kind in in_turn(list(sides), turn):
                progress(f"round {turn + 1}: {kind}")
                sides[kind].round(pulls, pushes, options.pause)
        heading = describe({kind: side.cli for kind, side in sides.items()})
    print(heading)
    size = f"of {LAYERS} layers, {int(FILES * options.scale)} files, {int(IMAGE_BYTES * options.scale / 1e6)} MB"
    rows = [(f"`pull` {size}", 0.7, pulls), (f"`push` {size}", 0.5, pushes)]
    print(table((Measure(name, "s", lambda _: 0.0, options.rounds, asked), samples) for name, asked, samples in rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
