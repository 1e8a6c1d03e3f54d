"""The folder where directories wait for their removal."""

import logging
import os
import threading
from pathlib import Path

import pytest

from carrack.snapshots.trash import Trash


def tree(place: Path, directories: int) -> Path:
    for number in range(directories):
        inner = place / f"d{number}" / "inner"
        inner.mkdir(parents=True)
        (inner / "file").write_bytes(b"x")
    return place


def test_what_is_thrown_away_is_gone_at_once_and_removed_behind(tmp_path: Path) -> None:
    trash = Trash(tmp_path / "trash")
    trash.throw(tree(tmp_path / "one", 3))
    assert not (tmp_path / "one").exists()
    assert trash.settle(10)
    assert os.listdir(tmp_path / "trash") == []


def test_many_throw_beside_each_other_and_nothing_trips(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trash = Trash(tmp_path / "trash")
    places = [tree(tmp_path / f"tree{number}", 40) for number in range(12)]
    with caplog.at_level(logging.WARNING):
        throwers = [threading.Thread(target=trash.throw, args=(place,)) for place in places]
        for thrower in throwers:
            thrower.start()
        for thrower in throwers:
            thrower.join()
        assert trash.settle(30)
    assert os.listdir(tmp_path / "trash") == []
    assert caplog.records == []


def test_waiting_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr("carrack.snapshots.trash.remove_tree", lambda fd, name: go_on.wait(10))
    trash = Trash(tmp_path / "trash")
    trash.throw(tree(tmp_path / "one", 1))
    assert not trash.settle(0.01)
    go_on.set()
    assert trash.settle(10)


def test_what_an_earlier_daemon_left_is_removed(tmp_path: Path) -> None:
    tree(tmp_path / "trash" / "left", 2)
    assert Trash(tmp_path / "trash").settle(10)
    assert os.listdir(tmp_path / "trash") == []


def test_a_path_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    Trash(tmp_path / "trash").throw(tmp_path / "nothing")
