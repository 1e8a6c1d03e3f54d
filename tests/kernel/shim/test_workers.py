"""Confined workers, ordered from a real zygote."""

from __future__ import annotations

import hashlib
import io
import os
import select
import signal
import socket
import stat
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from carrack.errors import Cancelled, CarrackError, Unavailable
from carrack.oci.mount import Mount
from carrack.shim import messages as m
from carrack.shim import wire
from carrack.shim.workers import Job, run_job
from carrack.shim.zygote_process import greet, reach
from tests.kernel.shim.harness import Harness

pytestmark = pytest.mark.root


@contextmanager
def directory(path: Path) -> Iterator[int]:
    path.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def layer(path: Path, **files: bytes) -> int:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return os.open(path, os.O_RDONLY)


def test_a_layer_is_unpacked_into_the_directory_given(harness: Harness, tmp_path: Path) -> None:
    source = layer(tmp_path / "layer.tar.gz", greeting=b"hello")
    with directory(tmp_path / "diff") as target:
        done = run_job(harness.zygote.socket_path, m.UnpackLayer(), (source, target))
    os.close(source)
    assert (tmp_path / "diff/greeting").read_bytes() == b"hello"
    assert done.diff_id.startswith("sha256:")
    assert (done.size_bytes, done.entries) == (5, 1)


def test_a_layer_may_come_through_a_pipe(harness: Harness, tmp_path: Path) -> None:
    layer_fd = layer(tmp_path / "layer.tar.gz", greeting=b"hello")
    content = os.read(layer_fd, 1 << 20)
    os.close(layer_fd)
    reader, writer = os.pipe()
    with directory(tmp_path / "diff") as target:
        job = Job(harness.zygote.socket_path, m.UnpackLayer(), (reader, target))
    os.close(reader)
    os.write(writer, content)
    os.close(writer)
    assert job.result().entries == 1


def test_a_cancelled_job_ends_its_worker(harness: Harness, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with directory(tmp_path / "diff") as target:
        job = Job(harness.zygote.socket_path, m.UnpackLayer(), (reader, target))
    os.close(reader)
    timer = threading.Timer(0.05, job.cancel)
    timer.start()
    with pytest.raises(Cancelled):
        job.result()
    timer.join()
    hung_up = select.poll()
    hung_up.register(writer, 0)
    assert hung_up.poll(20_000) == [(writer, select.POLLERR)]  # nobody reads any more: the worker is gone
    os.close(writer)


def test_a_bad_layer_is_the_workers_own_kind_of_error(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "layer").write_bytes(b"\x1f\x8bnot gzip at all")
    source = os.open(tmp_path / "layer", os.O_RDONLY)
    with directory(tmp_path / "diff") as target, pytest.raises(CarrackError):
        run_job(harness.zygote.socket_path, m.UnpackLayer(), (source, target))
    os.close(source)


def test_a_layer_with_a_link_out_writes_nothing_outside(harness: Harness, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    with tarfile.open(tmp_path / "layer.tar", "w") as archive:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, str(victim)
        archive.addfile(link)
        entry = tarfile.TarInfo("out/file")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"evil"))
    source = os.open(tmp_path / "layer.tar", os.O_RDONLY)
    with directory(tmp_path / "diff") as target, pytest.raises(CarrackError):
        run_job(harness.zygote.socket_path, m.UnpackLayer(), (source, target))
    os.close(source)
    assert list(victim.iterdir()) == []


def test_a_tree_is_removed_with_links_left_unfollowed(harness: Harness, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "kept").touch()
    tree = tmp_path / "trash/tree/deep"
    tree.mkdir(parents=True)
    (tree / "link").symlink_to(victim)
    with directory(tmp_path / "trash") as trash:
        run_job(harness.zygote.socket_path, m.RemoveTree("tree"), (trash,))
    assert list((tmp_path / "trash").iterdir()) == []
    assert (victim / "kept").exists()


def test_a_worker_imports_nothing_from_the_tree_it_works_in(harness: Harness, tmp_path: Path) -> None:
    trap = f"open({str(tmp_path / 'trapped')!r}, 'w').close(); open('/trapped', 'w').close()\n"
    for folder in ("usr/lib/python3.11/encodings", "encodings", "lib/python3.11", "."):
        place = tmp_path / "tree" / folder
        place.mkdir(parents=True, exist_ok=True)
        for name in ("cp437.py", "idna.py", "lzma.py", "site.py"):
            (place / name).write_text(trap)
    names = [f"caf{chr(0xE9)}", "\udce9t\udce9"]
    for name in names:
        (tmp_path / "tree" / name).touch()
    with directory(tmp_path) as parent:
        run_job(harness.zygote.socket_path, m.RemoveTree("tree"), (parent,))
    assert os.listdir(tmp_path) == []


def overlay(harness: Harness, tmp_path: Path) -> tuple[Mount, ...]:
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    return (Mount("overlay", "overlay", "", (f"upperdir={tmp_path}/upper", f"workdir={tmp_path}/work"), (str(harness.image),)),)


def test_an_empty_volume_gets_what_the_image_has_there(harness: Harness, tmp_path: Path) -> None:
    place = harness.image / "srv/app"
    place.mkdir(parents=True, exist_ok=True)
    (place / "file").write_text("content")
    os.chown(place / "file", 12, 34)
    (place / "file").chmod(0o4751)
    os.link(place / "file", place / "again") if not (place / "again").exists() else None
    if not (place / "link").is_symlink():
        (place / "link").symlink_to("/etc/passwd")
    os.setxattr(place / "file", "user.note", b"kept")
    place.chmod(0o1770)
    with directory(tmp_path / "volume") as volume:
        done = run_job(harness.zygote.socket_path, m.CopyUp(overlay(harness, tmp_path), "/srv/app"), (volume,))
    copied = tmp_path / "volume/file"
    status = copied.stat()
    assert copied.read_text() == "content"
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode), status.st_nlink) == (12, 34, 0o4751, 2)
    assert status.st_mtime_ns == (place / "file").stat().st_mtime_ns
    assert os.getxattr(copied, "user.note") == b"kept"
    assert os.readlink(tmp_path / "volume/link") == "/etc/passwd"
    assert stat.S_IMODE((tmp_path / "volume").stat().st_mode) == 0o1770
    assert done.entries == 3


def test_a_volume_that_holds_something_is_left_alone(harness: Harness, tmp_path: Path) -> None:
    with directory(tmp_path / "volume") as volume:
        (tmp_path / "volume/mine").touch()
        done = run_job(harness.zygote.socket_path, m.CopyUp(overlay(harness, tmp_path), "/etc"), (volume,))
    assert os.listdir(tmp_path / "volume") == ["mine"]
    assert done.entries == 0


def test_a_path_that_the_image_lacks_copies_nothing(harness: Harness, tmp_path: Path) -> None:
    with directory(tmp_path / "volume") as volume:
        assert run_job(harness.zygote.socket_path, m.CopyUp(overlay(harness, tmp_path), "/none"), (volume,)).entries == 0


def test_a_link_in_the_image_cannot_make_a_worker_copy_the_hosts_files(harness: Harness, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("host")
    trap = harness.image / "trap"
    trap.unlink(missing_ok=True)
    trap.symlink_to(secret)
    with directory(tmp_path / "volume") as volume:
        run_job(harness.zygote.socket_path, m.CopyUp(overlay(harness, tmp_path), "/trap"), (volume,))
    trap.unlink()
    assert os.listdir(tmp_path / "volume") == []


def test_copying_up_touches_nothing_of_the_container(harness: Harness, tmp_path: Path) -> None:
    with directory(tmp_path / "volume") as volume:
        run_job(harness.zygote.socket_path, m.CopyUp(overlay(harness, tmp_path), "/etc"), (volume,))
    assert os.listdir(tmp_path / "upper") == os.listdir(tmp_path / "work") == []


def test_a_job_of_a_newer_protocol_is_refused(harness: Harness) -> None:
    with pytest.raises(Unavailable, match="speaks protocol version"):
        run_job(harness.zygote.socket_path, m.RemoveTree("x", m.VERSION + 1), (0,))


# ── packing ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def packed(harness: Harness, tmp_path: Path, job: m.PackTree, *fds: int) -> tuple[m.WorkerDone, dict[str, tarfile.TarInfo], bytes]:
    """Have a tree packed into a file: the answer, the members by name, the bytes."""
    target = os.open(tmp_path / "packed.tar", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        done = run_job(harness.zygote.socket_path, job, (target, *fds))
    finally:
        os.close(target)
    content = (tmp_path / "packed.tar").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return done, {each.name: each for each in archive}, content


def upper_tree(path: Path) -> None:
    (path / "kept").mkdir(parents=True)
    (path / "kept/file").write_bytes(b"content")
    os.chown(path / "kept/file", 7, 8)
    (path / "kept/file").chmod(0o4750)
    os.setxattr(path / "kept/file", "user.note", b"said")
    os.link(path / "kept/file", path / "kept/same")
    (path / "link").symlink_to("/etc/passwd")
    os.mknod(path / "gone", stat.S_IFCHR, 0)
    (path / "emptied").mkdir()
    os.setxattr(path / "emptied", "trusted.overlay.opaque", b"y")
    os.mkfifo(path / "pipe")
    os.utime(path / "kept/file", (1_700_000_000.75, 1_700_000_000.75))


def test_an_upper_directory_becomes_a_layer_with_image_specs_whiteouts(harness: Harness, tmp_path: Path) -> None:
    upper_tree(tmp_path / "upper")
    with directory(tmp_path / "upper") as upper:
        done, members, content = packed(harness, tmp_path, m.PackTree(whiteouts=True), upper)
    assert list(members) == ["emptied", "emptied/.wh..wh..opq", ".wh.gone", "kept", "kept/file", "kept/same", "link", "pipe"]
    file = members["kept/file"]
    assert (file.uid, file.gid, file.mode, file.mtime) == (7, 8, 0o4750, 1_700_000_000)
    assert file.pax_headers["SCHILY.xattr.user.note"] == "said"
    assert (members["kept/same"].islnk(), members["kept/same"].linkname) == (True, "kept/file")
    assert (members["link"].linkname, members["pipe"].isfifo()) == ("/etc/passwd", True)
    assert done.diff_id == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert (done.size_bytes, done.entries, done.stream_bytes) == (7, 7, len(content))


def test_a_layer_unpacked_again_has_the_same_digest(harness: Harness, tmp_path: Path) -> None:
    upper_tree(tmp_path / "upper")
    with directory(tmp_path / "upper") as upper:
        done, _, _ = packed(harness, tmp_path, m.PackTree(whiteouts=True), upper)
    source = os.open(tmp_path / "packed.tar", os.O_RDONLY)
    with directory(tmp_path / "again") as target:
        assert run_job(harness.zygote.socket_path, m.UnpackLayer(), (source, target)).diff_id == done.diff_id
        again, _, _ = packed(harness, tmp_path, m.PackTree(whiteouts=True), target)
    os.close(source)
    assert again == done


def test_rewritten_timestamps_are_never_younger_than_the_epoch_asked_for(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for name, moment in (("old", 1000), ("new", 1_700_000_000)):
        (tmp_path / "tree" / name).touch()
        os.utime(tmp_path / "tree" / name, (moment, moment))
    with directory(tmp_path / "tree") as tree:
        _, members, _ = packed(harness, tmp_path, m.PackTree(latest_mtime_seconds=5000), tree)
    assert {name: member.mtime for name, member in members.items()} == {"old": 1000, "new": 5000}


def test_a_whole_root_is_packed_as_its_mounts_show_it(harness: Harness, tmp_path: Path) -> None:
    mounts = overlay(harness, tmp_path)
    (tmp_path / "upper/added").write_bytes(b"x")
    os.mknod(tmp_path / "upper/etc", stat.S_IFCHR, 0)
    _, members, _ = packed(harness, tmp_path, m.PackTree(rootfs=mounts))
    assert "added" in members
    assert "bin/busybox" in members
    assert "etc" not in members
    assert "etc/passwd" not in members


def test_a_single_layer_is_packed_as_it_is(harness: Harness, tmp_path: Path) -> None:
    layers = (Mount("overlay", "overlay", lower=(str(harness.image),)),)
    _, members, _ = packed(harness, tmp_path, m.PackTree(rootfs=layers))
    assert "bin/busybox" in members


def test_a_tree_deeper_than_any_stack_is_packed(harness: Harness, tmp_path: Path) -> None:
    """A RUN step can make one; a path of it is far longer than PATH_MAX."""
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for _ in range(1500):
            os.mkdir("deep", dir_fd=fd)
            inner = os.open("deep", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = inner
    finally:
        os.close(fd)
    with directory(tmp_path / "deep") as deep, open("/dev/null", "wb") as nowhere:
        done = run_job(harness.zygote.socket_path, m.PackTree(), (nowhere.fileno(), deep))
    assert done.entries == 1499
    with directory(tmp_path) as parent:
        run_job(harness.zygote.socket_path, m.RemoveTree("deep"), (parent,))  # pytest's own clean-up cannot


def test_a_reader_that_leaves_ends_the_packing(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with (tmp_path / "tree/large").open("wb") as large:
        large.truncate(64 << 20)
    reader, writer = os.pipe()
    os.close(reader)
    with directory(tmp_path / "tree") as tree, pytest.raises(CarrackError, match="Broken pipe"):
        run_job(harness.zygote.socket_path, m.PackTree(), (writer, tree))
    os.close(writer)


def test_a_renamed_directory_of_overlayfs_is_refused_rather_than_lost(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "upper/moved").mkdir(parents=True)
    os.setxattr(tmp_path / "upper/moved", "trusted.overlay.redirect", b"/elsewhere")
    with directory(tmp_path / "upper") as upper, pytest.raises(CarrackError, match="redirect_dir"):
        packed(harness, tmp_path, m.PackTree(whiteouts=True), upper)


def test_a_job_too_long_for_a_packet_is_done_too(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("")
    (tmp_path / "left out").write_text("")
    job = m.PruneTree((*(f"pattern-{number}" for number in range(10_000)), "left out"))
    assert len(wire.encode(job)) > wire.PACKET_BYTES
    with directory(tmp_path) as tree:
        assert run_job(harness.zygote.socket_path, job, (tree,)).entries == 1
    assert os.listdir(tmp_path) == ["kept"]


def test_a_burst_of_orders_meets_one_zygote(harness: Harness) -> None:
    before = greet(harness.zygote.socket_path)
    os.kill(harness.zygote.pid, signal.SIGSTOP)
    met: list[socket.socket] = []
    threads = [threading.Thread(target=lambda: met.append(reach(harness.zygote.socket_path))) for _ in range(150)]
    try:
        for thread in threads:
            thread.start()
    finally:
        os.kill(harness.zygote.pid, signal.SIGCONT)
    for thread in threads:
        thread.join()
    for sock in met:
        sock.close()
    assert len(met) == 150
    assert greet(harness.zygote.socket_path) == before
