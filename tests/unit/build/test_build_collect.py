"""The cache under its ceiling: what goes first, what stays, and why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from carrack.build.cache import CACHE_MOUNT, BuildCache
from carrack.build.cache_key import named_key
from carrack.build.collect import Collector, Pruning
from carrack.errors import InvalidParameter
from carrack.snapshots import Overlay, Trash
from carrack.state import Database


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[BuildCache]:
    database = Database(tmp_path / "state.db")
    trash = Trash(tmp_path / "trash")
    snapshots = Overlay(tmp_path / "layers", tmp_path / "containers", database, trash)
    yield BuildCache(database, snapshots, tmp_path / "build", trash.throw)
    database.close()


def put(cache: BuildCache, name: str, size_bytes: int = 10, *parents: str) -> str:
    keys = [named_key(parent).digest for parent in parents]
    return cache.put(named_key(name), description=name, size_bytes=size_bytes, parents=keys, place=name).key


def names(cache: BuildCache) -> list[str]:
    return sorted(record.description for record in cache.all())


def test_the_one_used_longest_ago_goes_first(cache: BuildCache) -> None:
    for name in "abc":
        put(cache, name)
    cache.find(named_key("a").digest)
    Collector(cache, 20).collect()
    assert names(cache) == ["a", "c"]


def test_what_a_kept_step_stands_on_stays(cache: BuildCache) -> None:
    put(cache, "below")
    put(cache, "top", 10, "below")
    put(cache, "other")
    Collector(cache, 20).collect()
    assert names(cache) == ["below", "other"]  # the top freed as much, and what it stood on would have freed nothing


def test_what_a_build_holds_stays_however_little_room_there_is(cache: BuildCache) -> None:
    held = put(cache, "held")
    put(cache, "idle")
    cache.hold([held])
    assert [record.description for record in Collector(cache, 1).collect()] == ["idle"]
    cache.free([held])
    Collector(cache, 1).collect()
    assert names(cache) == []


def test_the_account_says_why(cache: BuildCache) -> None:
    put(cache, "below")
    cache.hold([put(cache, "top", 10, "below")])
    why = {kept.record.description: kept.why for kept in Collector(cache, 100).account()}
    assert why == {"below": "1 later steps stand on it", "top": "a running build uses it"}


def test_a_cache_mount_counts_what_is_in_it(cache: BuildCache) -> None:
    directory = cache.new_directory()
    (cache.root / directory / "f").write_bytes(b"x" * 1000)
    cache.put(named_key("mount"), kind=CACHE_MOUNT, directory=directory, description="mount")
    collector = Collector(cache, 100)
    assert [kept.size_bytes for kept in collector.account()] == [1000]
    collector.collect()
    assert not (cache.root / directory).exists()


def test_a_prune_by_filter_and_to_a_size(cache: BuildCache) -> None:
    for name in ("one", "two", "three"):
        put(cache, name)
    collector = Collector(cache, 1000)
    removed, freed = collector.prune(Pruning(filters={"description": ("two",)}))
    assert ([record.description for record in removed], freed) == (["two"], 10)
    assert collector.prune(Pruning(keep_bytes=10))[1] == 10
    assert collector.prune(Pruning(filters={"unused-for": ("1h",)})) == ([], 0)
    with pytest.raises(InvalidParameter, match="invalid filter"):
        collector.prune(Pruning(filters={"colour": ("blue",)}))


def test_a_miss_is_explained_by_what_stood_there(cache: BuildCache) -> None:
    assert "nothing was ever built" in cache.explain(named_key("x"), "stage:2")
    put(cache, "stage:2")
    assert cache.explain(named_key("y"), "stage:2") == "name 0 changed"


def test_folders_that_no_record_names_go_at_the_next_start(cache: BuildCache) -> None:
    directory = cache.new_directory()
    cache.recover()
    assert not (cache.root / directory).exists()
