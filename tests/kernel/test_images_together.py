"""Loads, removals, prunes and saves at the same time: whatever the order, what is listed is whole and nothing else stays (root)."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from carrack.errors import Conflict, NotFound
from tests.rig import tarballs
from tests.rig.house import House
from tests.rig.tarballs import Packed, entry, pieces, tar

pytestmark = pytest.mark.root

BASE = tar(entry("base", b"b" * 4000))
IMAGES = [Packed([BASE, tar(entry(f"top{n}", b"t" * 1000))], [f"app{n}:1", "shared:latest"]) for n in range(3)]
ARCHIVES = [tarballs.docker_archive(packed) for packed in IMAGES]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


def whole(house: House) -> None:
    """Every image that is listed has its layers and its blobs."""
    for image in house.images.list(all=True):
        for layer in house.snapshots.chain(image.chain_id):
            assert (house.snapshots.directory(layer)).is_dir()
        b"".join(house.images.save([str(image.id)]))


def together(*orders: Callable[[], object]) -> None:
    """Run orders at once; the first failure of any is raised."""
    failures: list[BaseException] = []

    def guarded(order: Callable[[], object]) -> None:
        try:
            order()
        except (NotFound, Conflict):
            pass  # another was faster: that is told, and harms nobody
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_the_same_archive_loaded_many_times_at_once_is_there_once(house: House) -> None:
    together(*(lambda: house.load(ARCHIVES[0]) for _ in range(6)))
    assert house.names() == ["app0:1", "shared:latest"]
    whole(house)
    assert house.snapshots.garbage() == []
    assert len(os.listdir(house.root / "layers")) == 2


def test_archives_with_a_common_layer_share_it(house: House) -> None:
    together(*(lambda archive=archive: house.load(archive) for archive in ARCHIVES))
    whole(house)
    assert len(os.listdir(house.root / "layers")) == 4


def test_loads_and_removals_at_once_end_in_order(house: House) -> None:
    chance = random.Random(7)
    for _ in range(6):
        orders = [_order(house, chance.randrange(4), chance.randrange(len(IMAGES))) for _ in range(6)]
        together(*orders)
        whole(house)
    house.images.prune({"dangling": ("false",)})
    assert house.images.list(all=True) == []
    assert house.remains() == []


def _order(house: House, kind: int, number: int) -> Callable[[], object]:
    def load() -> object:
        return list(house.images.load(pieces(ARCHIVES[number])))

    def remove() -> object:
        return house.images.remove(IMAGES[number].id, force=True)

    def prune_unused() -> object:
        return house.images.prune({"dangling": ("false",)})

    return (load, remove, house.images.prune, prune_unused)[kind]
