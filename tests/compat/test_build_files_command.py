"""`carrack build`: the context that travels once, outputs, secrets, named contexts, displays; and Docker's daemon's classic way."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.rig.engine import CommandLine, Engine, carrack_program
from tests.rig.git_server import git_server
from tests.rig.waiting import until
from tests.rig.web_server import Page, web_server

SAY = "FROM busybox\nCOPY . /in\n"


@pytest.fixture
def carrack(engine: Engine) -> CommandLine:
    return CommandLine(engine, [carrack_program()])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "context"
    made.mkdir()
    return made


def write(folder: Path, **files: str) -> None:
    """Files by name; two underscores stand for a slash, one for a dot."""
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def seen(carrack: CommandLine, name: str, where: str = "/in") -> list[str]:
    """What an image holds there: every path below, sorted."""
    return sorted(carrack.ok("run", "--rm", name, "sh", "-c", f"cd {where} && find . ! -name .").split())


# ── the context ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.observes("docker build")
@pytest.mark.peer_lacks("a daemon of Docker's has no sessions")
def test_only_what_changed_travels(carrack: CommandLine, folder: Path) -> None:
    write(folder, Dockerfile=SAY, a="1", b="2", c__d="3")
    assert "transferred 4 of 5 files" in carrack("build", "-t", "once", str(folder)).stderr
    assert "transferred 0 of 5 files" in carrack("build", "-t", "once", str(folder)).stderr
    write(folder, a="changed")
    (folder / "b").unlink()
    (folder / "c/d").chmod(0o755)
    (folder / "link").symlink_to("a")
    again = carrack("build", "-t", "once", str(folder))
    assert "transferred 2 of 5 files" in again.stderr
    script = "cd /in; cat a; echo; readlink link; stat -c %a c/d; ls"
    said = carrack.ok("run", "--rm", "once", "sh", "-c", script).split()
    assert said == ["changed", "a", "755", "Dockerfile", "a", "c", "link"]


@pytest.mark.parametrize(
    ("ignore", "expected"),
    [
        ("*.log\n", ["./.dockerignore", "./Dockerfile", "./keep", "./keep/a.log", "./keep/b", "./src", "./src/main"]),
        ("**/*.log\nDockerfile\n", ["./.dockerignore", "./keep", "./keep/b", "./src", "./src/main"]),
        ("*\n!src\n!keep/b\n", ["./keep", "./keep/b", "./src", "./src/main"]),
        (
            "# all but\nkeep\n!keep/*.log\n.dockerignore\n",
            ["./Dockerfile", "./keep", "./keep/a.log", "./src", "./src/main", "./x.log"],
        ),
    ],
)
@pytest.mark.observes("docker build")
def test_an_ignore_file_says_what_stays_here(carrack: CommandLine, folder: Path, ignore: str, expected: list[str]) -> None:
    write(folder, Dockerfile=SAY, keep__a_log="1", keep__b="2", src__main="3", x_log="4")
    (folder / ".dockerignore").write_text(ignore)
    carrack.ok("build", "-t", "ignored", str(folder))
    assert seen(carrack, "ignored") == expected


@pytest.mark.peer_lacks("its builder takes away only what the common ignore file names")
@pytest.mark.observes("docker build")
def test_a_dockerfiles_own_ignore_file_takes_the_others_place(carrack: CommandLine, folder: Path) -> None:
    write(folder, app_Dockerfile=SAY, a="1", b="2")
    (folder / ".dockerignore").write_text("a\n")
    (folder / "app.Dockerfile.dockerignore").write_text("b\n*Dockerfile*\n.dockerignore\n")
    carrack.ok("build", "-t", "own", "-f", str(folder / "app.Dockerfile"), str(folder))
    assert seen(carrack, "own") == ["./a"]


@pytest.mark.observes("docker build")
def test_a_dockerfile_may_lie_outside_or_come_by_stdin(carrack: CommandLine, folder: Path, tmp_path: Path) -> None:
    write(folder, a="1")
    (tmp_path / "Elsewhere").write_text(SAY)
    carrack.ok("build", "-t", "outside", "-f", str(tmp_path / "Elsewhere"), str(folder))
    assert set(seen(carrack, "outside")) - {"./.dockerignore"} == {"./a"}
    carrack.ok("build", "-t", "typed", "-f", "-", str(folder), stdin=SAY)
    assert "./a" in seen(carrack, "typed")


@pytest.mark.observes("docker build")
def test_stdin_may_be_a_dockerfile_or_a_whole_context(carrack: CommandLine) -> None:
    carrack.ok("build", "-t", "lone", "-", stdin="FROM busybox\nRUN echo said > /f\n")
    assert carrack.ok("run", "--rm", "lone", "cat", "/f") == "said"
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in (("Dockerfile", SAY), ("a", "1")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content.encode()))
    carrack.ok("build", "-t", "packed", "-", stdin=archive.getvalue())
    assert seen(carrack, "packed") == ["./Dockerfile", "./a"]


@pytest.mark.observes("docker build")
def test_a_repository_or_a_page_is_a_context(carrack: CommandLine, tmp_path: Path) -> None:
    with git_server(tmp_path / "served") as server, web_server() as web:
        server.repository("app.git", {"app/Dockerfile": SAY, "app/a": "1", "else": "2"})
        carrack.ok("build", "-t", "cloned", f"{server.url('app.git')}#main:app")
        assert seen(carrack, "cloned") == ["./Dockerfile", "./a"]
        web.pages["/any"] = Page(b"FROM busybox\nRUN echo said > /f\n")
        carrack.ok("build", "-t", "paged", web.url("/any"))
        assert carrack.ok("run", "--rm", "paged", "cat", "/f") == "said"


@pytest.mark.peer_lacks("it has no named contexts")
@pytest.mark.observes("docker build")
def test_named_contexts_are_folders_images_and_repositories(carrack: CommandLine, folder: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    write(more, inside="folder")
    write(folder, Dockerfile="FROM base\nCOPY --from=more inside /a\nCOPY --from=repo file /b\n")
    with git_server(tmp_path / "served") as server:
        server.repository("app.git", {"file": "repository"})
        named = [f"more={more}", f"repo={server.url('app.git')}", "base=docker-image://busybox"]
        flags = [word for each in named for word in ("--build-context", each)]
        carrack.ok("build", "-t", "named", *flags, str(folder))
    assert carrack.ok("run", "--rm", "named", "cat", "/a", "/b") == "folderrepository"


# ── outputs ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.peer_lacks("it has no outputs")
@pytest.mark.observes("docker build")
def test_the_final_stage_can_go_into_a_folder_or_a_tar(carrack: CommandLine, folder: Path, tmp_path: Path) -> None:
    write(
        folder,
        Dockerfile="FROM busybox AS made\nRUN mkdir /d && echo said > /d/f && ln -s f /d/l\nFROM scratch\nCOPY --from=made /d /d\n",
    )
    carrack.ok("build", "-o", str(tmp_path / "out"), str(folder))
    assert (tmp_path / "out/d/f").read_text() == "said\n"
    assert os.readlink(tmp_path / "out/d/l") == "f"
    carrack.ok("build", "-o", f"type=tar,dest={tmp_path}/out.tar", str(folder))
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert archive.getnames() == ["d", "d/f", "d/l"]
    with tarfile.open(fileobj=io.BytesIO(carrack.output("build", "-o", "-", str(folder)))) as archive:
        assert archive.getnames() == ["d", "d/f", "d/l"]


@pytest.mark.peer_lacks("it has no outputs")
@pytest.mark.parametrize("kind", ["docker", "oci"])
@pytest.mark.observes("docker build")
def test_an_image_can_go_into_an_archive_and_leaves_nothing_here(
    carrack: CommandLine, folder: Path, tmp_path: Path, kind: str
) -> None:
    write(folder, Dockerfile="FROM busybox\nRUN echo said > /f\n")
    before = carrack.ok("images", "-aq")
    carrack.ok("build", "-t", "packed:1", "-o", f"type={kind},dest={tmp_path}/image.tar", str(folder))
    assert carrack.ok("images", "-aq") == before
    with tarfile.open(tmp_path / "image.tar") as archive:
        names = archive.getnames()
        index = json.load(archive.extractfile("index.json") or io.BytesIO())
    assert {"oci-layout", "index.json"} <= set(names)
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == "docker.io/library/packed:1"
    carrack.ok("load", "-i", str(tmp_path / "image.tar"))
    assert carrack.ok("run", "--rm", "packed:1", "cat", "/f") == "said"


@pytest.mark.peer_lacks("it knows no SOURCE_DATE_EPOCH")
@pytest.mark.observes("docker build --no-cache", "docker build --build-arg")
def test_with_an_epoch_two_builds_give_the_same_bytes(carrack: CommandLine, folder: Path, tmp_path: Path) -> None:
    write(folder, Dockerfile="FROM busybox\nRUN date +%N > /dev/null; mkdir /d; echo said > /d/f\nCOPY a /new/dir/a\n", a="1")
    contents = []
    for number in range(2):
        out = tmp_path / f"{number}.tar"
        flags = ("--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", "-t", "same:1")
        carrack.ok("build", *flags, "-o", f"type=oci,dest={out}", str(folder))
        contents.append(out.read_bytes())
        (folder / "a").touch()
    assert contents[0] == contents[1]


@pytest.mark.observes("docker build --iidfile", "docker build --quiet")
def test_the_id_comes_into_a_file_and_alone_when_quiet(carrack: CommandLine, folder: Path, tmp_path: Path) -> None:
    write(folder, Dockerfile="FROM busybox\nRUN true\n")
    carrack.ok("build", "-t", "one", "--iidfile", str(tmp_path / "id"), str(folder))
    identity = carrack.ok("image", "inspect", "--format", "{{.Id}}", "one")
    assert (tmp_path / "id").read_text() == identity
    quiet = carrack("build", "-q", str(folder))
    assert (quiet.stdout.strip(), quiet.stderr) == (identity, "")


@pytest.mark.peer_lacks("it has no sessions")
@pytest.mark.observes("docker build")
def test_facts_about_the_result_come_into_a_file(carrack: CommandLine, folder: Path, tmp_path: Path) -> None:
    write(folder, Dockerfile="FROM busybox\nRUN true\n")
    carrack.ok("build", "-t", "one:1", "--metadata-file", str(tmp_path / "facts"), str(folder))
    facts = json.loads((tmp_path / "facts").read_text())
    assert facts["containerimage.config.digest"] == carrack.ok("image", "inspect", "--format", "{{.Id}}", "one:1")
    assert "one:1" in facts["image.name"]


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.peer_lacks("it has no secrets")
@pytest.mark.observes("docker build")
def test_secrets_reach_the_step_and_nothing_else(
    carrack: CommandLine, engine: Engine, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("pssst-from-file")
    monkeypatch.setenv("TOKEN", "pssst-from-variable")
    write(
        folder,
        Dockerfile="""FROM busybox
        RUN --mount=type=secret,id=key test "$(cat /run/secrets/key)" = ps""sst-from-file
        RUN --mount=type=secret,id=TOKEN,env=TOKEN test "$TOKEN" = ps""sst-from-variable
        """,
    )
    flags = ("--secret", f"id=key,src={tmp_path}/key", "--secret", "id=TOKEN")
    first = carrack("build", "-t", "kept", *flags, str(folder))
    assert first.code == 0, first.stderr
    assert "pssst" not in first.stdout + first.stderr
    assert "pssst" not in carrack.ok("history", "--no-trunc", "kept") + carrack.ok("image", "inspect", "kept")
    assert b"pssst" not in carrack.output("save", "kept")
    assert carrack.ok("run", "--rm", "kept", "sh", "-c", "grep -rl pssst /run /etc /tmp /root /var || echo none") == "none"
    (tmp_path / "key").write_text("other")
    assert carrack("build", "-t", "kept", *flags, str(folder)).stderr.count("CACHED") >= 3  # a secret is no part of a key


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--secret", "src=/none"), "failed to stat /none"),
        (("--secret", "id=a,env=NOT_THERE"), "NOT_THERE is not set"),
        (("--secret", "id=a,color=red"), "unexpected key 'color'"),
        (("--ssh", "default=/etc/hostname"), "failed to parse /etc/hostname"),
        (("--resource", "color=red"), "unknown resource 'color'"),
        (("--output", "type=local,dest=..,mode=delete"), "buildx.local.delete"),
        (("--output", "out", "--iidfile", "id"), "incompatible with image ID file"),
        (("--output", "dest=x"), "type is required"),
        (("--output", "type=local"), "dest is required"),
        (("--progress", "fancy"), "invalid progress mode"),
        (("--call", "dance"), "--call dance is not supported"),
        (("--builder", "other"), 'no builder "other" found'),
        (("--build-context", "x"), "expected key=value"),
    ],
)
@pytest.mark.peer_lacks("some of these are refused there for other reasons")
@pytest.mark.observes("docker build")
def test_a_flag_that_says_nothing_is_refused_by_name(carrack: CommandLine, folder: Path, flags: tuple[str, ...], text: str) -> None:
    write(folder, Dockerfile="FROM busybox\n")
    refused = carrack("build", *flags, str(folder))
    assert refused.code != 0
    assert text in refused.stderr


@pytest.mark.peer_lacks("it lends no agents")
@pytest.mark.observes("docker build")
def test_an_agent_is_lent_connection_by_connection(carrack: CommandLine, engine: Engine, folder: Path, tmp_path: Path) -> None:
    """The step finds a socket where SSH_AUTH_SOCK says; whoever speaks to it speaks to the client's agent."""
    write(folder, Dockerfile='FROM busybox\nRUN --mount=type=ssh test -S "$SSH_AUTH_SOCK" && echo began && sleep 600\n')
    question, answer = b"\0\0\0\x01\x0b", b"\0\0\0\x05\x0c\0\0\0\0"  # which keys? none
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "agent"))
        agent.listen()
        with carrack.pipes("build", "--ssh", f"default={tmp_path}/agent", str(folder)) as pipes:
            pipes.expect("began\n")
            (door,) = (engine.exec_root / "build").iterdir()
            for _ in range(3):
                with socket.socket(socket.AF_UNIX) as step:
                    step.connect(str(door))
                    step.sendall(question)
                    served, _ = agent.accept()
                    with served:
                        assert served.recv(len(question), socket.MSG_WAITALL) == question
                        served.sendall(answer)
                        assert step.recv(len(answer), socket.MSG_WAITALL) == answer
                        step.sendall(b"\0\0\0\x01\x13")  # remove all keys
                        assert step.recv(5, socket.MSG_WAITALL) == b"\0\0\0\x01\x05"  # refused, and the agent has not heard of it
                        served.setblocking(False)
                        with pytest.raises(BlockingIOError):
                            served.recv(100)
            pipes.signal(signal.SIGINT)
            assert pipes.wait() != 0
    until(lambda: not list((engine.exec_root / "build").iterdir()) or None, "the agent's door is gone")


@pytest.mark.peer_lacks("it lends no agents")
@pytest.mark.observes("docker build")
def test_keys_from_files_are_served_by_an_agent_of_our_own(
    carrack: CommandLine, engine: Engine, folder: Path, tmp_path: Path
) -> None:
    kinds = {"ed25519": 256, "ecdsa": 384, "rsa": 2048}
    for kind, bits in kinds.items():
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-b", str(bits), "-N", "", "-f", tmp_path / kind], check=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", tmp_path / "locked"], check=True)
    write(folder, Dockerfile="FROM busybox\nRUN --mount=type=ssh,id=mine echo began && sleep 600\n", message="text")
    refused = carrack("build", "--ssh", f"mine={tmp_path}/locked", str(folder))
    assert "passphrase" in refused.stderr
    with carrack.pipes("build", "--ssh", f"mine={','.join(str(tmp_path / kind) for kind in kinds)}", str(folder)) as pipes:
        pipes.expect("began\n")
        (door,) = (engine.exec_root / "build").iterdir()
        env = {**os.environ, "SSH_AUTH_SOCK": str(door)}
        listed = subprocess.run(["ssh-add", "-l"], env=env, check=True, capture_output=True, text=True).stdout
        assert [line.split()[0] for line in listed.splitlines()] == [str(bits) for bits in kinds.values()]
        assert subprocess.run(["ssh-add", "-D"], env=env, check=False, capture_output=True).returncode != 0
        for kind in kinds:
            (tmp_path / kind).unlink()  # what signs is the agent, for it alone still has the key
            public, message = tmp_path / f"{kind}.pub", folder / "message"
            subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-f", public, "-n", "file", message], env=env, check=True)
            (tmp_path / "signers").write_text(f"me {public.read_text()}")
            words: list[str | Path] = ["ssh-keygen", "-q", "-Y", "verify", "-f", tmp_path / "signers", "-I", "me", "-n", "file"]
            with message.open("rb") as text:
                subprocess.run([*words, "-s", f"{message}.sig"], stdin=text, check=True)
            Path(f"{message}.sig").unlink()
        pipes.signal(signal.SIGINT)
        assert pipes.wait() != 0


# ── what it looks like ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.peer_lacks("its progress has another form")
@pytest.mark.observes("docker build")
def test_programs_get_buildkits_status_as_json(carrack: CommandLine, folder: Path) -> None:
    write(folder, Dockerfile="FROM busybox\nRUN echo to programs\n")
    lines = [json.loads(line) for line in carrack("build", "--progress", "rawjson", str(folder)).stderr.splitlines()]
    vertices = {vertex["digest"]: vertex for line in lines for vertex in line.get("vertexes", ())}
    assert any(vertex["name"].endswith("RUN echo to programs") and "completed" in vertex for vertex in vertices.values())
    from base64 import b64decode

    assert any(b64decode(log["data"]) == b"to programs\n" for line in lines for log in line.get("logs", ()))


@pytest.mark.peer_lacks("its progress has another form")
@pytest.mark.observes("docker build")
def test_a_person_sees_steps_with_their_times(carrack: CommandLine, folder: Path) -> None:
    write(folder, Dockerfile="FROM busybox\nRUN echo to a person\n")
    with carrack.terminal("build", str(folder)) as screen:
        assert screen.wait() == 0
        shown = screen.seen
    assert "[+] Building" in shown
    assert "FINISHED" in shown
    assert "=> [2/2] RUN echo to a person" in shown


@pytest.mark.peer_lacks("its progress has another form")
@pytest.mark.observes("docker build")
def test_a_failing_step_is_shown_with_its_output_and_its_line(carrack: CommandLine, folder: Path) -> None:
    write(folder, Dockerfile="FROM busybox\nRUN echo before; exit 3\n")
    failed = carrack("build", str(folder))
    assert failed.code == 3
    assert " > [2/2] RUN echo before; exit 3:" in failed.stderr
    assert "before" in failed.stderr
    assert "   2 | >>> RUN echo before; exit 3" in failed.stderr
    assert "exit code: 3" in failed.stderr.splitlines()[-1] or "code: 3" in failed.stderr.splitlines()[-1]


@pytest.mark.peer_lacks("it has no lint")
@pytest.mark.observes("docker build")
def test_check_looks_and_builds_nothing(carrack: CommandLine, folder: Path) -> None:
    write(folder, Dockerfile="FROM busybox\nCMD echo hi\n")
    before = carrack.ok("images", "-aq")
    found = carrack("build", "--check", str(folder))
    assert found.code == 1
    assert "WARNING: JSONArgsRecommended" in found.stdout
    assert "Dockerfile:2" in found.stdout
    write(folder, Dockerfile='FROM busybox\nCMD ["echo"]\n')
    assert carrack.ok("build", "--check", str(folder)) == "Check complete, no warnings found."
    assert carrack.ok("images", "-aq") == before


@pytest.mark.peer_lacks("it does not explain")
@pytest.mark.observes("docker build")
def test_explain_names_what_differed(carrack: CommandLine, folder: Path) -> None:
    write(folder, Dockerfile="FROM busybox\nCOPY a /a\n", a="1")
    carrack.ok("build", str(folder))
    write(folder, a="2")
    assert "not from the cache" in carrack("build", "--explain", str(folder)).stderr
    write(folder, a="3")
    assert "not from the cache" not in carrack("build", str(folder)).stderr


@pytest.mark.observes("docker build")
def test_a_build_that_is_left_is_taken_back(carrack: CommandLine, folder: Path) -> None:
    write(folder, Dockerfile="FROM busybox\nRUN echo began; sleep 600\n")
    with carrack.pipes("build", str(folder)) as pipes:
        pipes.expect("began")
        pipes.signal(signal.SIGINT)
        assert pipes.wait() != 0


# ── Docker's own daemon ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.observes("docker build")
def test_dockers_daemon_gets_the_classic_way(engine: Engine, carrack: CommandLine, folder: Path) -> None:
    """With `--peer dockerd` this is about a daemon that knows no sessions; ours takes the same command line."""
    write(folder, Dockerfile=SAY, a="1")
    built = carrack("build", "-t", "classic", str(folder))
    assert seen(carrack, "classic") == ["./Dockerfile", "./a"]
    refused = carrack("build", "--secret", "id=PATH", str(folder))
    if engine.kind == "dockerd":
        assert "Step 1/2 : FROM busybox" in built.stdout
        assert "--secret needs a Carrack daemon" in refused.stderr
    else:
        assert (built.code, refused.code) == (0, 0)


@pytest.mark.peer_lacks("its context has no attributes of ours")
@pytest.mark.observes("docker build")
def test_capabilities_and_attributes_of_files_travel(carrack: CommandLine, engine: Engine, folder: Path) -> None:
    """As BuildKit's own transfer has them; the classic tar knows capabilities alone."""
    write(folder, Dockerfile="FROM scratch\nCOPY program /program\n", program="x")
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(folder / "program", "security.capability", capability)
    os.setxattr(folder / "program", "user.note", b"\xff\x00 bytes")
    carrack.ok("build", "-t", "attributes", str(folder))
    with tarfile.open(fileobj=io.BytesIO(carrack.output("save", "attributes"))) as saved:
        layers = [saved.extractfile(member) for member in saved if member.name.startswith("blobs/")]
        found = [headers for layer in layers if layer is not None for headers in attributes_of(layer.read())]
    assert found == [{"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.user.note": b"\xff\x00 bytes"}]
    os.setxattr(folder / "program", "user.note", b"changed")
    assert "CACHED" not in carrack("build", "--progress=plain", str(folder)).stderr.partition("COPY")[2]


def attributes_of(blob: bytes) -> list[dict[str, bytes]]:
    """The extended attributes of a layer's files."""
    try:
        with tarfile.open(fileobj=io.BytesIO(blob), mode="r:gz") as layer:
            return [
                {key: value.encode("utf-8", "surrogateescape") for key, value in member.pax_headers.items() if "xattr" in key}
                for member in layer
            ]
    except tarfile.TarError:
        return []
