"""COPY and ADD as the Dockerfile reference has them: documented examples and every flag, and the tree that comes out.

Each case says what must be in the image: mode, owner, kind, and content or target. With `--peer dockerd` the same cases run on
Docker's own builder, as far as that old one knows the feature.
"""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from tests.rig.engine import CommandLine
from tests.rig.git_server import git_server
from tests.rig.web_server import Page, web_server

LISTING = r"""
cd /to 2>/dev/null || exit 0
find . ! -name . | sort | while read -r name; do
    if [ -L "$name" ]; then what="-> $(readlink "$name")"; mode=link
    elif [ -d "$name" ]; then what=/; mode=$(stat -c %a "$name")
    else what=$(cat "$name"); mode=$(stat -c %a "$name"); fi
    echo "$name $mode $(stat -c %u:%g "$name") $what"
done
"""


@pytest.fixture(autouse=True)
def classic(monkeypatch: pytest.MonkeyPatch) -> None:
    """The docker command line would else ask a newer dockerd for BuildKit."""
    monkeypatch.setenv("DOCKER_BUILDKIT", "0")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A context: files whose content is their name, of several modes, with links and folders."""
    made = tmp_path / "context"
    for name in ("home.txt", "hom", "dir/a", "dir/sub/b", "arr[0].txt", "x/a.txt", "x/deep/b.txt", "y/a.txt", "tool"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(name)
        (made / name).chmod(0o644)
    (made / "tool").chmod(0o4755)
    (made / "dir/sub").chmod(0o750)
    (made / "dir/a").chmod(0o600)
    os.chown(made / "dir/a", 1000, 1000)
    (made / "dir/link").symlink_to("a")
    (made / "to-dir").symlink_to("dir")
    (made / "to-file").symlink_to("dir/a")
    for path in (made, made / "dir", made / "x", made / "x/deep", made / "y"):
        path.chmod(0o755)
    return made


def built(cli: CommandLine, folder: Path, dockerfile: str, *flags: str) -> list[str]:
    """The listing of /to in the image that a Dockerfile gives."""
    (folder / "Dockerfile").write_text(f"FROM busybox\n{dockerfile}\n")
    cli.ok("build", "-t", "conforming", *flags, str(folder))
    return cli.ok("run", "--rm", "conforming", "sh", "-c", LISTING).splitlines()


DIR = ["./a 600 0:0 dir/a", "./link link 0:0 -> a", "./sub 750 0:0 /", "./sub/b 644 0:0 dir/sub/b"]

CASES = {
    "a file to a name": ("COPY hom /to/name", ["./name 644 0:0 hom"]),
    "a file into a folder": ("COPY hom /to/", ["./hom 644 0:0 hom"]),
    "a file into a folder that is there": (
        "RUN mkdir -m 700 -p /to/there\nCOPY hom /to/there",
        ["./there 700 0:0 /", "./there/hom 644 0:0 hom"],
    ),
    "folders on the way are made": ("COPY hom /to/a/b/c", ["./a 755 0:0 /", "./a/b 755 0:0 /", "./a/b/c 644 0:0 hom"]),
    "a relative destination": ("WORKDIR /to\nCOPY hom rel/", ["./rel 755 0:0 /", "./rel/hom 644 0:0 hom"]),
    "a dot as destination": ("WORKDIR /to\nCOPY hom .", ["./hom 644 0:0 hom"]),
    "an absolute source": ("COPY /hom /to/", ["./hom 644 0:0 hom"]),
    "a folder's content": ("COPY dir /to", DIR),
    "a folder's content, with slashes": ("COPY dir/ /to/", DIR),
    "a folder into one that is there": (
        "RUN mkdir -p /to && echo -n old > /to/a && echo -n kept > /to/z\nCOPY dir /to",
        [*DIR, "./z 644 0:0 kept"],
    ),
    "several sources": ("COPY hom home.txt dir /to/", [DIR[0], "./hom 644 0:0 hom", "./home.txt 644 0:0 home.txt", *DIR[1:]]),
    "a star": ("COPY hom* /to/", ["./hom 644 0:0 hom", "./home.txt 644 0:0 home.txt"]),
    "a question mark": ("COPY home.?xt /to/", ["./home.txt 644 0:0 home.txt"]),
    "a star for a folder": ("COPY di* /to/", DIR),
    "a star in the middle": ("COPY x/*/b.txt /to/", ["./b.txt 644 0:0 x/deep/b.txt"]),
    "brackets as themselves": ("COPY arr[[]0].txt /to/", ["./arr[0].txt 644 0:0 arr[0].txt"]),
    "JSON form": ('COPY ["hom", "home.txt", "/to/"]', ["./hom 644 0:0 hom", "./home.txt 644 0:0 home.txt"]),
    "a link given by name is followed": ("COPY to-file /to/", ["./to-file 600 0:0 dir/a"]),
    "a link to a folder given by name is followed": ("COPY to-dir /to/", DIR),
    "chown by numbers": ("COPY --chown=10:11 hom /to/", ["./hom 644 10:11 hom"]),
    "chown by one number": ("COPY --chown=10 hom /to/", ["./hom 644 10:10 hom"]),
    "chown by names": (
        "RUN echo newapp:x:100:101::/:/bin/sh >> /etc/passwd; echo team:x:77: >> /etc/group\nCOPY --chown=newapp:team hom /to/",
        ["./hom 644 100:77 hom"],
    ),
    "chown of a folder": (
        "COPY --chown=5:6 dir /to/in",
        ["./in 755 5:6 /", *(f"./in{line[1:]}".replace(" 0:0 ", " 5:6 ") for line in DIR)],
    ),
    "USER does not own what is copied": ("USER 1000\nCOPY hom /to/", ["./hom 644 0:0 hom"]),
    "from a stage": ("RUN mkdir -p /made && echo -n said > /made/f\nFROM busybox\nCOPY --from=0 /made /to/", ["./f 644 0:0 said"]),
    "from a named stage": ("FROM busybox AS it\nRUN echo -n said > /f\nFROM busybox\nCOPY --from=it /f /to/", ["./f 644 0:0 said"]),
    "from an image": (
        "COPY --from=busybox /etc/passwd /to/p\nRUN cmp /etc/passwd /to/p && echo -n same > /to/p",
        ["./p 644 0:0 same"],
    ),
    "a link as destination is followed": (
        "RUN mkdir -p /to/real && ln -s /to/real /to/l\nCOPY hom /to/l/",
        ["./l link 0:0 -> /to/real", "./real 755 0:0 /", "./real/hom 644 0:0 hom"],
    ),
    "what was removed comes back": (
        "RUN mkdir -p /to && echo -n old > /to/hom && rm /to/hom\nCOPY hom /to/",
        ["./hom 644 0:0 hom"],
    ),
    "a folder that was removed comes back empty of old": (
        "RUN mkdir -p /to/in && touch /to/in/old\nRUN rm -r /to\nCOPY hom /to/in/",
        ["./in 755 0:0 /", "./in/hom 644 0:0 hom"],
    ),
    "ADD copies files": ("ADD hom dir /to/", [DIR[0], "./hom 644 0:0 hom", *DIR[1:]]),
    "ADD copies folders": ("ADD --chown=3:4 dir/sub /to/", ["./b 644 3:4 dir/sub/b"]),
}


@pytest.mark.parametrize(("dockerfile", "expected"), CASES.values(), ids=list(CASES))
@pytest.mark.observes("POST /build", "docker build")
def test_the_reference_holds(cli: CommandLine, folder: Path, dockerfile: str, expected: list[str]) -> None:
    assert built(cli, folder, dockerfile) == expected


NEWER = {
    "set-uid bits stay": ("COPY tool /to/", ["./tool 4755 0:0 tool"]),
    "chmod": (
        "COPY --chmod=640 dir /to/",
        ["./a 640 0:0 dir/a", "./link link 0:0 -> a", "./sub 640 0:0 /", "./sub/b 640 0:0 dir/sub/b"],
    ),
    "chmod with symbols": (
        "COPY --chmod=u=rwX,go=rX dir /to/",
        ["./a 644 0:0 dir/a", "./link link 0:0 -> a", "./sub 755 0:0 /", "./sub/b 644 0:0 dir/sub/b"],
    ),
    "chmod of what is added": ("ADD --chmod=755 hom /to/", ["./hom 755 0:0 hom"]),
    "a variable as chmod": ("ARG MODE=440\nCOPY --chmod=$MODE hom /to/", ["./hom 440 0:0 hom"]),
    "link": ("RUN mkdir -p /to && touch /to/old\nCOPY --link --chown=1:2 hom /to/", ["./hom 644 1:2 hom", "./old 644 0:0 "]),
    "link into another place": ("COPY --link dir /to/in/", ["./in 755 0:0 /", *(f"./in{line[1:]}" for line in DIR)]),
    "parents": (
        "COPY --parents ./x/a.txt ./y/a.txt /to/",
        ["./x 755 0:0 /", "./x/a.txt 644 0:0 x/a.txt", "./y 755 0:0 /", "./y/a.txt 644 0:0 y/a.txt"],
    ),
    "parents from a pivot": ("COPY --parents x/./deep/b.txt /to/", ["./deep 755 0:0 /", "./deep/b.txt 644 0:0 x/deep/b.txt"]),
    "parents anywhere": (
        "COPY --parents **/b.txt /to/",
        ["./x 755 0:0 /", "./x/deep 755 0:0 /", "./x/deep/b.txt 644 0:0 x/deep/b.txt"],
    ),
    "exclude": ("COPY --exclude=*.txt hom* /to/", ["./hom 644 0:0 hom"]),
    "exclude several": ("COPY --exclude=deep --exclude=*.md x /to/", ["./a.txt 644 0:0 x/a.txt"]),
    "exclude with an exception": ("COPY --exclude=* --exclude=!sub dir /to/", ["./sub 750 0:0 /", "./sub/b 644 0:0 dir/sub/b"]),
    "a star without a match": ("RUN mkdir /to\nCOPY none* /to/", []),
    "a star that may match nothing beside a name": ("COPY hom none* /to/", ["./hom 644 0:0 hom"]),
    "a heredoc": ("COPY <<END /to/said\nhello\nEND", ["./said 644 0:0 hello"]),
    "heredocs with names": ("COPY <<one <<two /to/\nfirst\none\nsecond\ntwo", ["./one 644 0:0 first", "./two 644 0:0 second"]),
    "a heredoc with variables": ("ARG WHO=you\nCOPY --chmod=755 <<-END /to/said\n\thello $WHO\nEND", ["./said 755 0:0 hello you"]),
    "a quoted heredoc": ("ARG WHO=you\nCOPY <<'END' /to/said\nhello $WHO\nEND", ["./said 644 0:0 hello $WHO"]),
    "owners of a stage stay": (
        "RUN mkdir /made && touch /made/f && chown 7:8 /made/f\nFROM busybox\nCOPY --from=0 /made /to",
        ["./f 644 7:8 "],
    ),
}


@pytest.mark.peer_lacks("its builder is older than this")
@pytest.mark.parametrize(("dockerfile", "expected"), NEWER.values(), ids=list(NEWER))
@pytest.mark.observes("POST /build")
def test_the_newer_flags_hold(cli: CommandLine, folder: Path, dockerfile: str, expected: list[str]) -> None:
    assert built(cli, folder, dockerfile) == expected


def packed(mode: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:  # type: ignore[call-overload]
        for name, kind in (("d", tarfile.DIRTYPE), ("d/f", tarfile.REGTYPE), ("l", tarfile.SYMTYPE), ("h", tarfile.LNKTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.uid, entry.gid, entry.mode = kind, 12, 13, 0o640 if kind != tarfile.DIRTYPE else 0o750
            entry.linkname = {"l": "d/f", "h": "d/f"}.get(name, "")
            entry.size = 4 if kind == tarfile.REGTYPE else 0
            archive.addfile(entry, io.BytesIO(b"said"))
    return content.getvalue()


UNPACKED = ["./d 750 12:13 /", "./d/f 640 12:13 said", "./h 640 12:13 said", "./l link 12:13 -> d/f"]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.observes("POST /build")
def test_add_unpacks_local_archives_by_their_content(cli: CommandLine, folder: Path, mode: str) -> None:
    (folder / "blob").write_bytes(packed(mode))
    assert built(cli, folder, "ADD blob /to") == UNPACKED


@pytest.mark.observes("POST /build")
def test_copy_does_not_unpack(cli: CommandLine, folder: Path) -> None:
    (folder / "blob.tar").write_bytes(packed("w"))
    assert built(cli, folder, "COPY blob.tar /to/\nRUN echo -n $(tar t -f /to/blob.tar | wc -l) > /to/blob.tar") == [
        "./blob.tar 644 0:0 4"
    ]


@pytest.mark.peer_lacks("its builder is older than --unpack")
@pytest.mark.observes("POST /build")
def test_unpack_can_be_said_and_denied(cli: CommandLine, folder: Path) -> None:
    (folder / "blob").write_bytes(packed("w"))
    with web_server() as web:
        web.pages["/blob.tar"] = Page(packed("w:gz"))
        listing = built(
            cli, folder, f"ADD --unpack=false blob /to/b/\nADD --unpack=true {web.url('/blob.tar')} /to/u/\nRUN rm /to/b/blob"
        )
    assert listing == ["./b 755 0:0 /", "./u 755 0:0 /", *(f"./u{line[1:]}" for line in UNPACKED)]


@pytest.mark.peer_lacks("it lives in a network namespace of its own, where our web server is not")
@pytest.mark.observes("POST /build")
def test_add_fetches_a_url(cli: CommandLine, folder: Path) -> None:
    with web_server() as web:
        web.pages["/some/file.txt"] = Page(b"fetched", {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"})
        web.pages["/archive.tar"] = Page(packed("w"))
        url = web.url("/some/file.txt")
        lines = f"ADD {url} /to/\nADD {url} /to/name\nADD {web.url('/archive.tar')} /to/\nRUN rm /to/archive.tar"
        assert built(cli, folder, lines, "--network", "host") == ["./file.txt 600 0:0 fetched", "./name 600 0:0 fetched"]
        assert cli.ok("run", "--rm", "conforming", "stat", "-c", "%Y", "/to/name") == "1445412480"


@pytest.mark.peer_lacks("its builder is older than --checksum")
@pytest.mark.observes("POST /build")
def test_a_checksum_is_insisted_on(cli: CommandLine, folder: Path) -> None:
    digest = "sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"  # of "content"
    with web_server() as web:
        web.pages["/f"] = Page(b"content")
        assert built(cli, folder, f"ADD --checksum={digest} {web.url('/f')} /to/") == ["./f 600 0:0 content"]
        web.pages["/f"] = Page(b"forged")
        (folder / "Dockerfile").write_text(f"FROM busybox\nADD --checksum={digest} {web.url('/f')} /other/\n")
        refused = cli("build", "--no-cache", str(folder))
        assert refused.code != 0
        assert "digest mismatch" in refused.stdout + refused.stderr


@pytest.mark.peer_lacks("its builder is older than ADD of repositories")
@pytest.mark.observes("POST /build")
def test_add_clones_a_repository(cli: CommandLine, folder: Path, tmp_path: Path) -> None:
    with git_server(tmp_path / "served") as server:
        server.repository("app.git", {"f": "x", "sub/g": "y"})
        url = server.url("app.git")
        whole = built(
            cli, folder, f"ADD {url} /to/a\nADD {url}#main:sub /to/b\nADD --keep-git-dir {url} /to/c\nRUN rm -r /to/c/.git"
        )
    inside = ["f 644 0:0 x", "sub 755 0:0 /", "sub/g 644 0:0 y"]
    expected = ["./a 755 0:0 /", *(f"./a/{line}" for line in inside), "./b 755 0:0 /", "./b/g 644 0:0 y"]
    assert whole == [*expected, "./c 755 0:0 /", *(f"./c/{line}" for line in inside)]


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "dockerfile",
    [
        "COPY none /to/",
        "COPY ../outside /to/",
        "COPY hom home.txt /to",
        "COPY --chown=nobody-here hom /to/",
        "COPY --from=none-such-image-of-all:1 /f /to/",
        "RUN touch /to\nCOPY hom /to/",
    ],
)
@pytest.mark.observes("POST /build")
def test_what_cannot_be_copied_ends_the_build(cli: CommandLine, folder: Path, dockerfile: str) -> None:
    (folder.parent / "outside").write_text("secret")
    (folder / "Dockerfile").write_text(f"FROM busybox\n{dockerfile}\n")
    assert cli("build", "-t", "never", str(folder)).code != 0
    assert cli("image", "inspect", "never").code == 1


@pytest.mark.peer_lacks("it replaces the folder, where BuildKit refuses")
@pytest.mark.observes("POST /build")
def test_a_file_does_not_replace_a_folder(cli: CommandLine, folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM busybox\nRUN mkdir -p /to/hom\nCOPY hom /to/\n")
    refused = cli("build", str(folder))
    assert refused.code != 0
    assert "cannot replace to directory /to/hom with file" in refused.stdout + refused.stderr


# ── hostile trees ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("target", ["/etc/hostname", "../../../../../../../../etc/hostname", "/proc/1/root/etc/hostname"])
@pytest.mark.observes("POST /build")
def test_no_link_of_a_context_or_a_stage_reads_the_host(cli: CommandLine, folder: Path, target: str) -> None:
    """CVE-2024-1753, CVE-2024-9675 and their like: sources resolve inside their tree, whatever links are in it."""
    host = Path("/etc/hostname").read_text().strip()
    (folder / "out").symlink_to(target)
    (folder / "Dockerfile").write_text(f"FROM busybox AS evil\nRUN ln -s {target} /out\nFROM busybox\nCOPY out /to/a\n")
    from_context = cli("build", "-t", "evil:1", str(folder))
    (folder / "Dockerfile").write_text(
        f"FROM busybox AS evil\nRUN rm -f /etc/hostname; ln -s {target} /out\nFROM busybox\nCOPY --from=evil /out /to/a\n"
    )
    from_stage = cli("build", "-t", "evil:2", str(folder))
    for name, result in (("evil:1", from_context), ("evil:2", from_stage)):
        if result.code == 0:
            assert cli("run", "--rm", name, "cat", "/to/a").stdout.strip() != host


@pytest.mark.parametrize("kind", ["link", "up", "absolute", "hard"])
@pytest.mark.observes("POST /build")
def test_no_archive_writes_outside_of_its_image(cli: CommandLine, folder: Path, tmp_path: Path, kind: str) -> None:
    """Zip-slip in all its forms (CVE-2018-15664, CVE-2021-41089): ADD's archives stay in their destination."""
    victim = tmp_path / "victim"
    victim.mkdir()
    with tarfile.open(folder / "evil.tar", "w") as archive:

        def put(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.size = kind, link, 4 if kind == tarfile.REGTYPE else 0
            archive.addfile(entry, io.BytesIO(b"evil"))

        match kind:
            case "link":
                put("out", tarfile.SYMTYPE, str(victim))
                put("out/file")
            case "up":
                put("../" * 30 + str(victim)[1:] + "/file")
            case "absolute":
                put(f"{victim}/file")
            case _:
                put("same", tarfile.LNKTYPE, "../" * 30 + "etc/hostname")
    (folder / "Dockerfile").write_text("FROM busybox\nADD evil.tar /to/\n")
    cli("build", str(folder))
    assert list(victim.iterdir()) == []


@pytest.mark.observes("POST /build")
def test_a_destination_that_is_a_link_stays_in_the_image(cli: CommandLine, folder: Path, tmp_path: Path) -> None:
    """CVE-2024-23652, CVE-2024-9407: whatever the stage made of its own paths, the host's are not touched."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (folder / "Dockerfile").write_text(
        f"FROM busybox\nRUN ln -s {victim} /to && ln -s / /slash\nCOPY hom /to/\nCOPY hom /slash/{victim}/again/\n"
    )
    cli.ok("build", "-t", "linked", str(folder))
    assert list(victim.iterdir()) == []


@pytest.mark.peer_lacks("its builder has no mounts")
@pytest.mark.observes("POST /build")
@pytest.mark.parametrize("source", ["out", "../../../../etc", "out/../.."])
def test_a_bind_mount_of_a_step_stays_in_its_tree(cli: CommandLine, folder: Path, tmp_path: Path, source: str) -> None:
    """CVE-2024-9407, CVE-2024-1753: a mount's source is looked up inside the context."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "key").write_text("host")
    (folder / "out").symlink_to(victim)
    (folder / "Dockerfile").write_text(
        f"FROM busybox\nRUN --mount=type=bind,source={source},target=/m,rw find /m -name key > /found\n"
    )
    result = cli("build", "-t", "mounted", str(folder))
    if result.code == 0:
        assert cli.ok("run", "--rm", "mounted", "cat", "/found") == ""
    assert (victim / "key").read_text() == "host"


@pytest.mark.peer_lacks("its builder has no mounts")
@pytest.mark.observes("POST /build")
@pytest.mark.parametrize("kind", ["bind", "cache"])
@pytest.mark.parametrize("link", ["/out", "/sub/out"])
def test_a_mount_from_a_hostile_stage_stays_in_its_tree(
    cli: CommandLine, folder: Path, tmp_path: Path, kind: str, link: str
) -> None:
    """CVE-2024-11218, CVE-2024-9675, CVE-2026-44517: a stage's links are no way to the host for the source of a mount."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "key").write_text("host")
    (folder / "Dockerfile").write_text(
        f"FROM busybox AS evil\nRUN mkdir -p /sub && ln -s {victim} {link}\nFROM busybox\n"
        f"RUN --mount=type={kind},from=evil,source={link},target=/m,rw find /m -name key > /found; echo x > /m/key; true\n"
    )
    result = cli("build", "-t", "mounted", str(folder))
    if result.code == 0:
        assert cli.ok("run", "--rm", "mounted", "cat", "/found") == ""
    assert (victim / "key").read_text() == "host"
    assert os.listdir(victim) == ["key"]
