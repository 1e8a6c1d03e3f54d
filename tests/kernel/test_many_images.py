"""Hundreds of images: a list of them reads an index, and reads it again only when something has changed (root)."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from carrack.images.image import ImageDocument
from carrack.images.index import put_image, put_tag
from carrack.oci.descriptor import OCI_LAYER_GZIP, OCI_MANIFEST, Descriptor
from carrack.oci.digest import Digest
from carrack.oci.image_config import ExecutionConfig, History, ImageConfig
from carrack.oci.reference import Reference
from tests.rig.house import House

pytestmark = pytest.mark.root

COUNT = 500


def digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def put(connection: sqlite3.Connection, number: int) -> None:
    """An image of usual size: eight layers, ten labels, fifteen steps."""
    manifest = Descriptor(OCI_MANIFEST, digest(f"manifest {number}"), 1000)
    execution = ExecutionConfig(env=["PATH=/usr/bin:/bin"] * 10, labels={f"label{n}": "value" * 5 for n in range(10)})
    steps = [History("2024-01-02T03:04:05Z", f"RUN something {n} " * 5) for n in range(15)]
    config = ImageConfig("amd64", "linux", created=f"2024-01-02T03:04:{number % 60:02d}Z", config=execution, history=steps)
    layers = tuple(Descriptor(OCI_LAYER_GZIP, digest(f"layer {number} {n}"), 99) for n in range(8))
    image = Digest.parse(digest(f"image {number}"))
    put_image(connection, image, ImageDocument(config, manifest, manifest, layers, 12345))
    put_tag(connection, Reference.parse(f"repository{number}:latest"), image, manifest)


def put_all(connection: sqlite3.Connection) -> None:
    for number in range(COUNT):
        put(connection, number)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    made.database.write(put_all).result()
    yield made
    made.close()


def test_a_list_of_hundreds_takes_milliseconds(house: House) -> None:
    def seconds() -> float:
        start = time.perf_counter()
        assert len(house.images.list()) == COUNT
        return time.perf_counter() - start

    assert min(seconds() for _ in range(10)) < 0.010


def test_a_list_knows_of_every_change(house: House) -> None:
    assert len(house.images.list()) == COUNT
    house.database.write(partial(put, number=COUNT)).result()
    assert len(house.images.list()) == COUNT + 1
    house.images.tag("repository3", "another:name")
    assert len(house.images.list({"reference": ["another:*"]})) == 1
    house.images.remove("another:name")
    assert house.images.list({"reference": ["another:*"]}) == []
