"""cp and the archive routes: what goes where, both ways, in running containers and in those at rest."""

import base64
import io
import json
import os
import tarfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.rig.engine import CommandLine, Engine
from tests.rig.unix_http import Reply, UnixConnection

FOREST = (
    "mkdir -p /d/sub /empty; echo hi >/d/f; echo x >/d/sub/g; ln -s /d /ld; ln -s f /d/lf; ln -s /nowhere /dangling;"
    " ln /d/f /d/hard; chown 12:34 /d/sub/g; chmod 4750 /d/sub/g"
)


@pytest.fixture
def forest(cli: CommandLine) -> CommandLine:
    """A running container called `wood` with files of every kind."""
    cli.ok("run", "-d", "--name", "wood", "-v", "/vol", "busybox", "sh", "-c", f"{FOREST}; echo ready; exec sleep 1000")
    with cli.pipes("logs", "-f", "wood") as log:
        log.expect("ready")
    return cli


def get(engine: Engine, name: str, path: str, method: str = "GET") -> Reply:
    return engine.api(method, f"/containers/{name}/archive?path={quote(path)}")


def put(engine: Engine, name: str, path: str, archive: bytes, query: str = "") -> Reply:
    headers = {"Content-Type": "application/x-tar"}
    return engine.api("PUT", f"/containers/{name}/archive?path={quote(path)}{query}", archive, headers=headers)


def facts(reply: Reply) -> dict[str, Any]:
    found = json.loads(base64.b64decode(reply.headers["x-docker-container-path-stat"]))
    assert isinstance(found, dict)
    return found


def members(reply: Reply) -> list[tuple[str, bytes, str]]:
    """(name as it stands in the header, kind, link) of each entry."""
    assert reply.status == 200, reply.body
    with tarfile.open(fileobj=io.BytesIO(reply.body)) as archive:
        return [(each.name, each.type, each.linkname) for each in archive]


def archive(*entries: tuple[str, bytes, str], mode: str = "w") -> bytes:
    """A tar of (name, kind, content or link target), all of it owned by 77:78."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as made:  # type: ignore[call-overload]
        for name, kind, text in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.uid, entry.gid, entry.mode, entry.mtime = kind, 77, 78, 0o640, 1_000_000_000
            if kind == tarfile.REGTYPE:
                entry.size = len(text)
            else:
                entry.linkname = text
            made.addfile(entry, io.BytesIO(text.encode() if kind == tarfile.REGTYPE else b""))
    return buffer.getvalue()


def file(name: str, text: str = "1") -> tuple[str, bytes, str]:
    return name, tarfile.REGTYPE, text


# ── the routes ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.observes("GET /containers/{id}/archive")
@pytest.mark.parametrize(
    ("path", "first", "some"),
    [
        ("/d", "d", "d/sub/g"),
        ("/d/", "d", "d/sub/g"),
        ("/d/.", ".", "./sub/g"),
        ("d/../d", "d", "d/f"),
        ("/d/f", "f", "f"),
        ("/ld", "ld", "ld"),
        ("/ld/", "ld", "ld/sub/g"),
        ("/ld/.", ".", "./f"),
        ("/ld/f", "f", "f"),
        ("/empty", "empty", "empty"),
        ("/../../d/sub", "sub", "sub/g"),
        ("/vol", "vol", "vol"),
    ],
)
def test_an_archive_begins_with_the_last_component_asked_for(forest: CommandLine, path: str, first: str, some: str) -> None:
    names = [name for name, _, _ in members(get(forest.engine, "wood", path))]
    assert names[0] == first
    assert some in names


@pytest.mark.observes("GET /containers/{id}/archive")
def test_links_owners_and_modes_come_with_the_files(forest: CommandLine) -> None:
    reply = get(forest.engine, "wood", "/d")
    kinds = {name: (kind, link) for name, kind, link in members(reply)}
    assert kinds["d/hard"] == (tarfile.LNKTYPE, "d/f")
    assert kinds["d/lf"] == (tarfile.SYMTYPE, "f")
    with tarfile.open(fileobj=io.BytesIO(reply.body)) as found:
        entry = found.getmember("d/sub/g")
    assert (entry.mode & 0o7777, entry.uid, entry.gid) == (0o4750, 12, 34)


@pytest.mark.observes("HEAD /containers/{id}/archive")
def test_head_tells_of_a_path_in_gos_words(forest: CommandLine) -> None:
    folder = facts(get(forest.engine, "wood", "/d", "HEAD"))
    assert (folder["name"], folder["mode"], folder["linkTarget"]) == ("d", 1 << 31 | 0o755, "")
    link = facts(get(forest.engine, "wood", "/ld", "HEAD"))
    assert (link["name"], link["mode"], link["linkTarget"]) == ("ld", 1 << 27 | 0o777, "/d")
    deeper = facts(get(forest.engine, "wood", "/ld/sub/g", "HEAD"))
    assert (deeper["name"], deeper["size"], deeper["mode"]) == ("g", 2, 1 << 23 | 0o750)
    assert facts(get(forest.engine, "wood", "/dangling", "HEAD"))["linkTarget"] == "/nowhere"
    assert facts(get(forest.engine, "wood", "/", "HEAD"))["name"] == "/"


@pytest.mark.observes("GET /containers/{id}/archive", "HEAD /containers/{id}/archive", "PUT /containers/{id}/archive")
def test_what_is_not_there_is_not_found_and_a_path_must_be_given(forest: CommandLine) -> None:
    for path in ("/nope", "/nope/x", "/dangling/"):
        missing = get(forest.engine, "wood", path)
        assert (missing.status, missing.message) == (404, f"Could not find the file {path} in container wood")
        assert get(forest.engine, "wood", path, "HEAD").status == 404
    assert put(forest.engine, "wood", "/nope", archive(file("a"))).message == "Could not find the file /nope in container wood"
    assert get(forest.engine, "nobody", "/d").message == "No such container: nobody"
    assert forest.engine.api("GET", "/containers/wood/archive").status == 400


@pytest.mark.peer_lacks("answers these with 500 where its documentation says 400")
@pytest.mark.observes("GET /containers/{id}/archive", "PUT /containers/{id}/archive")
def test_a_file_is_no_directory(forest: CommandLine) -> None:
    assert get(forest.engine, "wood", "/d/f/").status == 400
    refused = put(forest.engine, "wood", "/d/f", archive(file("a")))
    assert (refused.status, refused.message) == (400, "extraction point is not a directory")


@pytest.mark.observes("PUT /containers/{id}/archive")
def test_an_archive_is_extracted_with_its_owners_and_times(forest: CommandLine) -> None:
    made = archive(file("new/file", "text"), ("new/link", tarfile.SYMTYPE, "file"), ("new/same", tarfile.LNKTYPE, "new/file"))
    assert put(forest.engine, "wood", "/empty", made).status == 200
    assert forest.ok("exec", "wood", "cat", "/empty/new/link") == "text"
    assert forest.ok("exec", "wood", "stat", "-c", "%u %g %a %Y %h", "/empty/new/file") == "77 78 640 1000000000 2"


@pytest.mark.observes("PUT /containers/{id}/archive")
@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_archive_is_extracted(forest: CommandLine, mode: str) -> None:
    assert put(forest.engine, "wood", "/empty", archive(file("packed", "text"), mode=mode)).status == 200
    assert forest.ok("exec", "wood", "cat", "/empty/packed") == "text"


@pytest.mark.observes("PUT /containers/{id}/archive")
def test_links_are_followed_inside_the_container(forest: CommandLine) -> None:
    assert put(forest.engine, "wood", "/ld", archive(file("target"))).status == 200
    assert put(forest.engine, "wood", "/", archive(file("ld/through"))).status == 200
    assert put(forest.engine, "wood", "/empty", archive(("s", tarfile.SYMTYPE, "/d"), file("s/own"))).status == 200
    assert {"target", "through", "own"} <= set(forest.ok("exec", "wood", "ls", "/d").split())


@pytest.mark.observes("PUT /containers/{id}/archive")
def test_nothing_in_an_archive_leads_out_of_its_directory(forest: CommandLine) -> None:
    for bad in (archive(file("../up")), archive(("h", tarfile.LNKTYPE, "../d/f"))):
        assert put(forest.engine, "wood", "/empty", bad).status >= 400
    assert put(forest.engine, "wood", "/empty", archive(file("/absolute"))).status == 200
    assert forest.ok("exec", "wood", "ls", "/empty") == "absolute"
    assert "up" not in forest.ok("exec", "wood", "ls", "/").split()


@pytest.mark.observes("PUT /containers/{id}/archive")
def test_kinds_are_kept_when_that_is_asked(forest: CommandLine) -> None:
    directory, plain = ("d/f", tarfile.DIRTYPE, ""), file("d")
    for entry, says in (
        (plain, 'cannot overwrite directory "/d" with non'),
        (directory, 'cannot overwrite non-directory "/d/f" with'),
    ):
        refused = put(forest.engine, "wood", "/", archive(entry), "&noOverwriteDirNonDir=1")
        assert refused.status >= 400
        assert says in refused.message
    assert put(forest.engine, "wood", "/", archive(directory)).status == 200
    assert forest.ok("exec", "wood", "stat", "-c", "%F", "/d/f") == "directory"


@pytest.mark.observes("PUT /containers/{id}/archive")
def test_what_is_no_archive_is_refused(forest: CommandLine) -> None:
    assert put(forest.engine, "wood", "/empty", b"this is no archive at all" * 100).status >= 400
    assert put(forest.engine, "wood", "/empty", b"").status == 200
    assert forest.ok("exec", "wood", "ls", "/empty") == ""


@pytest.mark.peer_lacks("takes the group of user:group for a part of the name")
@pytest.mark.observes("PUT /containers/{id}/archive")
def test_copied_files_belong_to_the_containers_user_when_that_is_asked(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "user", "--user", "1234:567", "busybox", "sleep", "1000")
    assert put(cli.engine, "user", "/tmp", archive(file("theirs")), "&copyUIDGID=1").status == 200
    assert cli.ok("exec", "user", "stat", "-c", "%u %g", "/tmp/theirs") == "1234 567"


@pytest.mark.peer_lacks("answers 500 where its documentation says 403, and knows no tmpfs")
@pytest.mark.observes("PUT /containers/{id}/archive")
def test_what_is_read_only_is_refused_and_a_tmpfs_is_not(cli: CommandLine) -> None:
    for verb in ("run", "create"):
        flags = ["-d"] if verb == "run" else []
        cli.ok(verb, *flags, "--name", verb, "--read-only", "-v", "kept:/kept:ro", "-v", "free:/free", "busybox", "sleep", "1000")
        root = put(cli.engine, verb, "/", archive(file("a")))
        assert (root.status, root.message) == (403, "container rootfs is marked read-only")
        volume = put(cli.engine, verb, "/kept", archive(file("a")))
        assert (volume.status, volume.message) == (403, "mounted volume is marked read-only")
        assert put(cli.engine, verb, "/free", archive(file("a"))).status == 200
    cli.ok("run", "-d", "--name", "shaky", "--read-only", "--tmpfs", "/t", "busybox", "sleep", "1000")
    assert put(cli.engine, "shaky", "/t", archive(file("a", "text"))).status == 200
    assert cli.ok("exec", "shaky", "cat", "/t/a") == "text"
    assert [name for name, _, _ in members(get(cli.engine, "shaky", "/t"))] == ["t", "t/a"]


@pytest.mark.observes("PUT /containers/{id}/archive", "GET /containers/{id}/archive")
def test_a_container_that_never_ran_has_its_volumes_already(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "seen").write_text("here")
    tmp_path.chmod(0o755)
    cli.ok(
        "create", "--name", "rest", "-v", "/made/deep", "-v", f"{tmp_path}:/bound", "busybox", "cat", "/made/deep/a", "/root-file"
    )
    assert [name for name, _, _ in members(get(cli.engine, "rest", "/bound/seen"))] == ["seen"]
    assert [name for name, _, _ in members(get(cli.engine, "rest", "/made/deep"))] == ["deep"]
    assert put(cli.engine, "rest", "/made/deep", archive(file("a", "volume "))).status == 200
    assert put(cli.engine, "rest", "/", archive(file("root-file", "root"))).status == 200
    assert cli.ok("start", "-a", "rest") == "volume root"
    assert [name for name, _, _ in members(get(cli.engine, "rest", "/root-file"))] == ["root-file"]


@pytest.mark.observes("GET /containers/{id}/archive")
def test_the_kernels_file_systems_are_not_part_of_a_copy(forest: CommandLine) -> None:
    names = {name for name, _, _ in members(get(forest.engine, "wood", "/"))}
    assert "/d/sub/g" in names or "d/sub/g" in names
    assert not {name for name in names if "proc/" in name or "sys/kernel" in name}


@pytest.mark.observes("PUT /containers/{id}/archive", "GET /containers/{id}/archive")
def test_a_paused_container_can_be_copied_from_and_to(forest: CommandLine) -> None:
    forest.ok("pause", "wood")
    assert put(forest.engine, "wood", "/empty", archive(file("a"))).status == 200
    assert [name for name, _, _ in members(get(forest.engine, "wood", "/empty"))] == ["empty", "empty/a"]


@pytest.mark.observes("docker events")
def test_copies_are_events(forest: CommandLine) -> None:
    begun = time.time()
    get(forest.engine, "wood", "/d/f")
    put(forest.engine, "wood", "/empty", archive(file("a")))
    reply = forest.engine.api("GET", f"/events?since={begun:.6f}&until={time.time() + 0.01:.6f}")
    told = [json.loads(line) for line in reply.body.splitlines()]
    assert {"archive-path", "extract-to-dir"} <= {event["Action"] for event in told if event["Type"] == "container"}


@pytest.mark.observes("PUT /containers/{id}/archive")
def test_a_client_that_leaves_in_the_middle_leaves_a_container_that_works(cli: CommandLine) -> None:
    cli.ok("create", "--name", "rest", "busybox", "true")
    connection = UnixConnection(cli.engine.socket)
    connection.putrequest("PUT", "/containers/rest/archive?path=/")
    connection.putheader("Content-Type", "application/x-tar")
    connection.putheader("Content-Length", "100000000")
    connection.endheaders()
    connection.send(archive(file("a", "x" * 200_000))[:150_000])
    connection.close()
    assert cli.ok("start", "-a", "rest") == ""
    cli.ok("rm", "rest")


# ── the command line ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.both_clients
@pytest.mark.observes("docker cp")
def test_a_folder_is_copied_out_under_its_name_or_a_new_one(forest: CommandLine, tmp_path: Path) -> None:
    forest.ok("cp", "wood:/d", str(tmp_path))
    forest.ok("cp", "wood:/d", str(tmp_path / "renamed"))
    forest.ok("cp", "wood:/d/.", str(tmp_path / "renamed" / "sub"))
    assert (tmp_path / "d/f").read_text() == "hi\n"
    assert (tmp_path / "renamed/sub/g").read_text() == "x\n"
    assert (tmp_path / "renamed/sub/sub/g").read_text() == "x\n"
    assert (tmp_path / "d/lf").readlink() == Path("f")


@pytest.mark.both_clients
@pytest.mark.observes("docker cp", "docker cp --follow-link")
def test_a_link_is_copied_as_a_link_or_followed(forest: CommandLine, tmp_path: Path) -> None:
    forest.ok("cp", "wood:/ld", str(tmp_path / "link"))
    forest.ok("cp", "-L", "wood:/ld", str(tmp_path / "followed"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "followed/f").read_text() == "hi\n"


@pytest.mark.both_clients
@pytest.mark.observes("docker cp")
def test_files_and_folders_are_copied_in(forest: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "tree/inner").mkdir(parents=True)
    (tmp_path / "tree/inner/leaf").write_text("green")
    (tmp_path / "plain").write_text("white")
    forest.ok("cp", str(tmp_path / "plain"), "wood:/empty")
    forest.ok("cp", str(tmp_path / "plain"), "wood:/empty/other")
    forest.ok("cp", str(tmp_path / "tree"), "wood:/empty")
    forest.ok("cp", str(tmp_path / "tree"), "wood:/empty/new")
    forest.ok("cp", f"{tmp_path}/tree/.", "wood:/vol")
    shown = forest.ok("exec", "wood", "sh", "-c", "cd /empty; cat plain other tree/inner/leaf new/inner/leaf /vol/inner/leaf")
    assert shown == "whitewhitegreengreengreen"


@pytest.mark.both_clients
@pytest.mark.observes("docker cp")
def test_what_cannot_be_copied_is_said(forest: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "plain").write_text("white")
    for source, target in (
        ("wood:/nope", str(tmp_path)),
        (str(tmp_path / "tree"), "wood:/d/f"),
        (str(tmp_path / "plain"), "wood:/nope/deeper"),
        (str(tmp_path / "plain"), "wood:/nope/"),
        ("nobody:/d", str(tmp_path)),
    ):
        ended = forest("cp", source, target)
        assert ended.code == 1, (source, target)
        assert ended.stderr
    assert sorted(os.listdir(tmp_path)) == ["plain", "tree"]


@pytest.mark.both_clients
@pytest.mark.observes("docker cp", "docker cp --archive", "docker cp --quiet")
def test_a_tar_comes_from_stdin_and_goes_to_stdout(forest: CommandLine, tmp_path: Path) -> None:
    forest.ok("cp", "-", "wood:/empty", stdin=archive(file("streamed", "text")))
    content = forest.output("cp", "wood:/empty/streamed", "-")
    with tarfile.open(fileobj=io.BytesIO(content)) as found:
        assert (found.getnames(), found.getmember("streamed").uid) == (["streamed"], 77)
    (tmp_path / "owned").write_text("")
    os.chown(tmp_path / "owned", 4321, 4321)
    forest.ok("cp", "-a", str(tmp_path / "owned"), "wood:/empty/archived")
    forest.ok("cp", "-q", str(tmp_path / "owned"), "wood:/empty/plain")
    assert forest.ok("exec", "wood", "stat", "-c", "%u", "/empty/plain") == "4321"


@pytest.mark.observes("docker cp")
def test_many_copies_at_once_do_not_disturb_each_other(forest: CommandLine) -> None:
    ended: list[int] = []

    def copy(number: int) -> None:
        ended.append(put(forest.engine, "wood", "/empty", archive(file(f"f{number}", "x" * 100_000))).status)
        ended.append(get(forest.engine, "wood", f"/empty/f{number}").status)

    threads = [threading.Thread(target=copy, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == [200] * 24
    assert len(forest.ok("exec", "wood", "ls", "/empty").split()) == 12
