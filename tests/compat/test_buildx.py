"""The real buildx builds here: its own way to say what it wants, to send files, to show progress, and to take what was made."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from tests.contract.registry.live_registry import LiveRegistry
from tests.rig.engine import ROOT, CommandLine, Engine
from tests.rig.plugins import install_plugins, plugin_folder, remove_plugins
from tests.rig.waiting import until

pytestmark = pytest.mark.observes("POST /grpc", "POST /session")

TWO_STAGES = """# syntax=docker/dockerfile:1
FROM busybox AS base
ARG WHO=world
RUN echo "hello $WHO" > /hello && cat /hello
FROM base
COPY . /context
CMD ["cat", "/hello"]
"""


@pytest.fixture(autouse=True)
def plugins(engine: Engine) -> Iterator[None]:
    install_plugins(engine.folder / "home", "buildx")
    yield
    remove_plugins(engine.folder / "home", "buildx")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "context"
    (place / "sub").mkdir(parents=True)
    (place / "Dockerfile").write_text(TWO_STAGES)
    (place / "a.txt").write_text("a\n")
    (place / "sub" / "b.txt").write_text("b\n")
    return place


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[str]:
    """The host of a registry that knows `me` with the password `secret`."""
    users = tmp_path / "users"
    users.write_bytes(b"me:" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4)) + b"\n")
    running = LiveRegistry(tmp_path / "guarded", "--htpasswd", str(users))
    yield f"localhost:{running.ports[0]}"
    running.close()


def buildx(cli: CommandLine, *words: str, stdin: bytes | str = b"", fails: bool = False) -> str:
    """`docker buildx`, and what it showed."""
    done = cli("buildx", *words, stdin=stdin, timeout_seconds=90)
    assert (done.code != 0) == fails, str(done)
    return done.stdout + done.stderr


def build(cli: CommandLine, *words: str, stdin: bytes | str = b"", fails: bool = False) -> str:
    return buildx(cli, "build", "--progress", "plain", *words, stdin=stdin, fails=fails)


@pytest.fixture
def older(engine: Engine) -> CommandLine:
    """Debian 12's docker, which has a client of BuildKit built in (`scripts/peer` unpacks it)."""
    return CommandLine(engine, ["env", "DOCKER_BUILDKIT=1", str(ROOT / ".peer/usr/bin/docker")])


def itself(engine: Engine) -> CommandLine:
    """buildx without docker before it, which does not always hand signals on."""
    return CommandLine(engine, [str(plugin_folder() / "docker-buildx")])


def contexts(engine: Engine) -> set[str]:
    return {path.name for path in (engine.data_root / "contexts").iterdir()}


def test_a_build_shows_its_steps_and_is_cached_the_second_time(cli: CommandLine, folder: Path) -> None:
    words = ("--build-arg", "WHO=buildx", "--label", "made=here", "-t", "bx:1", str(folder))
    shown = build(cli, "--no-cache", *words)
    for part in (
        "[internal] load build definition from Dockerfile",
        "[base 1/2] FROM docker.io/library/busybox:latest",
        "[base 2/2] RUN echo",
        "hello buildx",
        "[internal] load build context",
        "naming to docker.io/library/bx:1",
    ):
        assert part in shown, part
    assert cli.ok("run", "--rm", "bx:1") == "hello buildx"
    assert cli.ok("run", "--rm", "bx:1", "cat", "/context/sub/b.txt") == "b"
    assert json.loads(cli.ok("image", "inspect", "bx:1"))[0]["Config"]["Labels"]["made"] == "here"
    again = build(cli, *words)
    assert again.count("CACHED") >= 3
    assert "hello buildx" not in again


@pytest.mark.docker_since(23)
def test_docker_build_goes_this_way_when_the_plugin_is_there(docker_cli: CommandLine, folder: Path, tmp_path: Path) -> None:
    id_file = tmp_path / "id"
    done = docker_cli("build", "-q", "--iidfile", str(id_file), "-t", "bx:2", str(folder))
    image = json.loads(docker_cli.ok("image", "inspect", "bx:2"))[0]["Id"]
    assert done.stdout.strip() == id_file.read_text().strip() == image


def test_only_what_changed_travels_again(cli: CommandLine, folder: Path) -> None:
    big = folder / "big"
    big.write_bytes(os.urandom(3 << 20))
    first = build(cli, str(folder))
    assert "transferring context: 3.1" in first
    (folder / "a.txt").write_text("another\n")
    second = build(cli, "-t", "bx:3", str(folder))
    assert "transferring context: 3.1" not in second
    assert cli.ok("run", "--rm", "bx:3", "cat", "/context/a.txt") == "another"
    assert cli.ok("run", "--rm", "bx:3", "sha256sum", "/context/big").split()[0] == _sha256(big)


def test_files_keep_what_they_are(cli: CommandLine, folder: Path) -> None:
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("sub/b.txt")
    os.link(folder / "a.txt", folder / "z-second-name")
    (folder / "empty").touch()
    (folder / "öäü ß").write_text("umlauts\n")
    os.mkfifo(folder / "pipe")
    build(cli, "-t", "bx:4", str(folder))
    script = "cd /context; stat -c '%a %F' run.sh empty pipe; readlink link; cat z-second-name *ß"
    lines = cli.ok("run", "--rm", "bx:4", "sh", "-c", script).splitlines()
    assert lines == ["755 regular file", "644 regular empty file", "644 fifo", "sub/b.txt", "a", "umlauts"]


def test_ignore_files_are_applied_where_the_files_are(cli: CommandLine, folder: Path) -> None:
    (folder / ".dockerignore").write_text("# words\nsub\n*.txt\n!a.txt\nverschlüsselt*\n")
    (folder / "c.txt").write_text("c\n")
    (folder / "verschlüsselt.bin").write_text("x")
    build(cli, "-t", "bx:5", str(folder))
    assert cli.ok("run", "--rm", "bx:5", "ls", "/context").split() == ["Dockerfile", "a.txt"]
    (folder / "Other").write_text(TWO_STAGES)
    (folder / "Other.dockerignore").write_text("a.txt\n")
    build(cli, "-t", "bx:5", "-f", str(folder / "Other"), str(folder))
    assert "c.txt" in cli.ok("run", "--rm", "bx:5", "ls", "/context").split()
    assert "a.txt" not in cli.ok("run", "--rm", "bx:5", "ls", "/context").split()


def test_a_folder_that_no_step_reads_is_not_sent(cli: CommandLine, folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM busybox\nRUN true\n")
    assert "load build context" not in build(cli, "--no-cache", str(folder))


def test_failures_come_with_the_lines_they_are_about(cli: CommandLine, folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM busybox\nRUN echo before && exit 7\n")
    shown = build(cli, str(folder), fails=True)
    assert "   2 | >>> RUN echo before && exit 7" in shown
    assert 'process "/bin/sh -c echo before && exit 7" did not complete successfully: exit code: 7' in shown
    (folder / "Dockerfile").write_text("FROM busybox\nRUNN true\n")
    shown = build(cli, str(folder), fails=True)
    assert "   2 | >>> RUNN true" in shown
    assert "dockerfile parse error on line 2: unknown instruction: RUNN" in shown
    (folder / "Dockerfile").write_text("FROM busybox\nCOPY nothing /\n")
    assert '"/nothing": not found' in build(cli, str(folder), fails=True)
    assert "no such file or directory" in build(cli, "-f", str(folder / "None"), str(folder), fails=True)


def test_secrets_are_asked_of_the_client_and_left_nowhere(cli: CommandLine, folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("opensesame\n")
    (folder / "Dockerfile").write_text(
        "FROM busybox\nRUN --mount=type=secret,id=word,required=true sed s/sesame// /run/secrets/word\n"
        "RUN --mount=type=secret,id=env,env=WORD echo got-$WORD\n"
    )
    os.environ["BX_TEST_WORD"] = "from-env"
    try:
        words = ("--secret", f"id=word,src={secret}", "--secret", "id=env,env=BX_TEST_WORD", "-t", "bx:6", str(folder))
        shown = build(cli, "--no-cache", *words)
    finally:
        del os.environ["BX_TEST_WORD"]
    assert " open\n" in shown
    assert "got-from-env" in shown
    assert cli("run", "--rm", "bx:6", "find", "/run").code != 0
    assert "secret word: not found" in build(cli, "--no-cache", str(folder), fails=True)


def test_an_ssh_agent_is_lent_to_a_step(cli: CommandLine, engine: Engine, folder: Path, tmp_path: Path) -> None:
    """The step finds a socket where SSH_AUTH_SOCK says; whoever speaks to it speaks to the client's agent (a request for its
    identities is 11, an answer that it has none 12)."""
    (folder / "Dockerfile").write_text('FROM busybox\nRUN --mount=type=ssh test -S "$SSH_AUTH_SOCK" && echo began && sleep 600\n')
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "agent"))
        agent.listen()
        words = ("build", "--progress", "plain", "--ssh", f"default={tmp_path}/agent", str(folder))
        with itself(engine).pipes(*words) as running:
            running.expect("^#[0-9]+ [0-9.]+ began")
            (door,) = (engine.exec_root / "build").iterdir()
            for _ in range(2):
                with socket.socket(socket.AF_UNIX) as step:
                    step.connect(str(door))
                    step.sendall(b"\0\0\0\x01\x0b")
                    agent.settimeout(20)
                    step.settimeout(20)
                    served, _ = agent.accept()
                    with served:
                        assert served.recv(5, socket.MSG_WAITALL) == b"\0\0\0\x01\x0b"
                        served.sendall(b"\0\0\0\x05\x0c\0\0\0\0")
                        assert step.recv(9, socket.MSG_WAITALL) == b"\0\0\0\x05\x0c\0\0\0\0"
            running.signal(signal.SIGINT)
            running.wait()
    until(lambda: not list((engine.exec_root / "build").iterdir()), "the agent's door is gone")
    (folder / "Dockerfile").write_text("FROM busybox\nRUN --mount=type=ssh,required=true true\n")
    assert "no SSH key" in build(cli, "--no-cache", str(folder), fails=True)


def test_outputs_go_to_the_client(cli: CommandLine, folder: Path, tmp_path: Path) -> None:
    (folder / "Dockerfile").write_text(
        "FROM busybox AS made\n"
        "RUN mkdir -p /out/deep && echo x > /out/deep/z && ln /out/deep/z /out/a && ln -s a /out/l && chmod 640 /out/a\n"
        "FROM scratch\nCOPY --from=made /out /\n"
    )
    place = tmp_path / "out"
    build(cli, "-o", str(place), str(folder))
    assert sorted(str(path.relative_to(place)) for path in place.rglob("*")) == ["a", "deep", "deep/z", "l"]
    assert (place / "deep/z").read_text() == "x\n"
    assert (place / "a").stat().st_mode & 0o777 == 0o640
    assert os.readlink(place / "l") == "a"
    build(cli, "-o", f"type=tar,dest={tmp_path}/t.tar", str(folder))
    with tarfile.open(tmp_path / "t.tar") as archive:
        assert {"a", "deep/z", "l"} <= {name.strip("./") for name in archive.getnames()}
    build(cli, "-t", "bx:7", "-o", f"type=docker,dest={tmp_path}/d.tar", str(folder))
    assert cli("image", "inspect", "bx:7").code != 0
    cli.ok("load", "-i", f"{tmp_path}/d.tar")
    assert cli("image", "inspect", "bx:7").code == 0
    build(cli, "-t", "bx:8", "-o", f"type=oci,dest={tmp_path}/o.tar", str(folder))
    with tarfile.open(tmp_path / "o.tar") as archive:
        assert "index.json" in archive.getnames()


def test_an_image_is_pushed_with_where_it_came_from(cli: CommandLine, folder: Path, registry: str, tmp_path: Path) -> None:
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY a.txt /\n")
    facts = tmp_path / "facts.json"
    shown = build(cli, "--push", "-t", f"{registry}/bx:1", "--metadata-file", str(facts), str(folder))
    assert f"pushing {registry}/bx:1" in shown
    index = json.loads(buildx(cli, "imagetools", "inspect", "--raw", f"{registry}/bx:1"))
    assert [each["platform"]["architecture"] for each in index["manifests"]][1] == "unknown"  # the provenance
    document = json.loads(facts.read_text())
    assert f"Digest:    {document['containerimage.digest']}" in buildx(cli, "imagetools", "inspect", f"{registry}/bx:1")
    assert document["buildx.build.provenance"]["buildDefinition"]["externalParameters"]["request"]["frontend"] == "dockerfile.v0"


def test_registries_are_opened_with_what_the_client_knows(cli: CommandLine, folder: Path, guarded: str) -> None:
    cli.ok("login", "-u", "me", "-p", "secret", guarded)
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY a.txt /\n")
    build(cli, "--push", "-t", f"{guarded}/private:1", str(folder))
    cli.ok("rmi", f"{guarded}/private:1")
    (folder / "Dockerfile").write_text(f"FROM {guarded}/private:1\nCOPY sub/b.txt /\n")
    cache = ("--cache-to", f"type=registry,ref={guarded}/cache:1", "--cache-from", f"type=registry,ref={guarded}/cache:1")
    build(cli, "--pull", *cache, "-t", "bx:14", str(folder))
    cli.ok("logout", guarded)
    refused = build(cli, "--pull", str(folder), fails=True)
    assert "unauthorized" in refused.lower() or "no basic auth credentials" in refused, refused


def test_a_cache_travels_by_a_registry(cli: CommandLine, folder: Path, registry: str) -> None:
    build(cli, "--no-cache", "--cache-to", f"type=registry,ref={registry}/cache:1,mode=max", str(folder))
    buildx(cli, "prune", "-af")
    shown = build(cli, "--cache-from", f"type=registry,ref={registry}/cache:1", str(folder))
    assert "hello world" not in shown
    assert "gha" not in build(cli, "--cache-to", "type=gha", str(folder))  # buildx asks whether we have it, and leaves it


def test_caches_and_images_in_folders_of_the_client(cli: CommandLine, folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "cache"
    build(cli, "--no-cache", "--cache-to", f"type=local,dest={kept},mode=max", str(folder))
    build(cli, "--cache-to", f"type=local,dest={kept},mode=max", str(folder))  # what is there already is not sent
    buildx(cli, "prune", "-af")
    assert "hello world" not in build(cli, "--cache-from", f"type=local,src={kept}", str(folder))
    for blob in (kept / "blobs/sha256").iterdir():
        blob.chmod(0o644)
        blob.write_bytes(b"x" + blob.read_bytes())
    buildx(cli, "prune", "-af")
    shown = build(cli, "--cache-from", f"type=local,src={kept}", str(folder))
    assert "cannot use the cache" in shown
    assert "hello world" in shown
    layout = tmp_path / "layout"
    build(cli, "-t", "base:1", "-o", f"type=oci,dest={tmp_path}/layout.tar", str(folder))
    layout.mkdir()
    subprocess.run(["tar", "-C", str(layout), "-xf", str(tmp_path / "layout.tar")], check=True)
    (folder / "Dockerfile").write_text("FROM base\nRUN cat /hello\n")
    before = cli.ok("images", "-aq").split()
    assert "hello world" in build(cli, "--no-cache", "--build-context", f"base=oci-layout://{layout}", "-t", "bx:15", str(folder))
    assert len(set(cli.ok("images", "-aq").split()) - set(before)) == 1


def test_contexts_from_elsewhere(cli: CommandLine, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "n.txt").write_text("named\n")
    (folder / "Named").write_text("FROM start\nCOPY --from=other n.txt /\nCMD cat /n.txt\n")
    words = ("--build-context", f"other={other}", "--build-context", "start=docker-image://busybox", "-t", "bx:9")
    build(cli, *words, "-f", str(folder / "Named"), str(folder))
    assert cli.ok("run", "--rm", "bx:9") == "named"
    assert "piped in" in build(cli, "--no-cache", "-", stdin="FROM busybox\nRUN echo piped in\n")
    build(cli, "-t", "bx:10", "-f", "-", str(folder), stdin="FROM busybox\nCOPY a.txt /\n")
    assert cli.ok("run", "--rm", "bx:10", "cat", "/a.txt") == "a"
    archive = subprocess.run(["tar", "-C", str(folder), "-cz", "."], capture_output=True, check=True).stdout
    build(cli, "-t", "bx:11", "-", stdin=archive)
    assert cli.ok("run", "--rm", "bx:11", "cat", "/context/a.txt") == "a"


def test_what_the_dockerfile_is_asked(cli: CommandLine, folder: Path) -> None:
    (folder / "Lint").write_text("FROM busybox as x\nMAINTAINER me\n")
    shown = buildx(cli, "build", "--call", "check", "-f", str(folder / "Lint"), str(folder), fails=True)
    assert "WARNING: FromAsCasing" in shown
    assert "   1 | >>> FROM busybox as x" in shown
    assert "WHO" in buildx(cli, "build", "--call", "outline", str(folder))
    targets = json.loads(cli.ok("buildx", "build", "--call", "targets,format=json", str(folder)))
    assert [each.get("name", "") for each in targets["targets"]] == ["base", ""]
    assert "FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)" in build(
        cli, "-f", str(folder / "Lint"), str(folder)
    )


def test_what_steps_have_around_them(cli: CommandLine, folder: Path) -> None:
    (folder / "Dockerfile").write_text(
        "FROM busybox\nRUN grep some.host /etc/hosts | tr '\\t' ' '; ulimit -n; ls /sys/class/net\n"
        "RUN df -k /dev/shm | tail -1 | awk '{print \"shm\", $2}'\n"
    )
    words = "--add-host some.host:192.0.2.9 --ulimit nofile=777:777 --shm-size 1m --network none"
    shown = build(cli, "--no-cache", *words.split(), str(folder))
    for value in ("192.0.2.9 some.host", " 777\n", "shm 1024"):
        assert value in shown, value
    assert "eth0" not in shown
    assert "One or more build-args [NOBODY] were not consumed" in build(cli, "--build-arg", "NOBODY=asks", str(folder))


def test_stages_are_built_anew_by_name_and_a_target_is_enough(cli: CommandLine, folder: Path) -> None:
    build(cli, str(folder))
    assert "hello world" in build(cli, "--no-cache-filter", "base", str(folder))
    assert "COPY . /context" not in build(cli, "--target", "base", str(folder))


def test_bake_builds_targets_that_stand_on_each_other(cli: CommandLine, folder: Path) -> None:
    (folder / "docker-bake.hcl").write_text(
        f'group "default" {{\n targets = ["one", "two"]\n}}\ntarget "one" {{\n context = "{folder}"\n tags = ["bk:one"]\n}}\n'
        f'target "two" {{\n context = "{folder}"\n contexts = {{\n  start = "target:one"\n }}\n'
        ' dockerfile-inline = "FROM start\\nCOPY a.txt /two\\nRUN cat /hello"\n tags = ["bk:two"]\n}\n'
    )
    buildx(cli, "bake", f"--allow=fs.read={folder}", "--progress", "plain", "-f", str(folder / "docker-bake.hcl"))
    assert cli.ok("run", "--rm", "bk:two", "cat", "/two", "/hello").split() == ["a", "hello", "world"]
    assert "<none>" not in cli.ok("images")


def test_what_is_kept_is_told_and_goes(cli: CommandLine, folder: Path) -> None:
    build(cli, "--no-cache", str(folder))
    assert "regular" in buildx(cli, "du", "--verbose")
    assert "source.git" not in buildx(cli, "du", "--verbose", "--filter", "type=regular")
    assert "Total:" in buildx(cli, "prune", "-af")
    assert "regular" not in buildx(cli, "du", "--verbose")
    assert "running" in buildx(cli, "ls")
    assert "overlayfs" in buildx(cli, "inspect")


def test_several_platforms_are_one_image(cli: CommandLine, folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM scratch\nARG TARGETARCH\nCOPY a.txt /$TARGETARCH\n")
    build(cli, "--platform", "linux/amd64,linux/arm64", "-t", "bx:12", str(folder))
    described = json.loads(cli.ok("image", "inspect", "bx:12"))[0]
    assert described["Architecture"] in ("amd64", "arm64")


def test_what_is_not_done_here_is_refused_in_one_sentence(cli: CommandLine, folder: Path) -> None:
    other = build(cli, "--build-arg", "BUILDKIT_SYNTAX=someone/elses", str(folder), fails=True)
    assert "this builder runs no front ends from images, such as someone/elses" in other
    assert "naming to" in build(cli, "--build-arg", "BUILDKIT_SYNTAX=docker/dockerfile:1.7", "-t", "bx:13", str(folder))
    assert "push-by-digest" in build(cli, "-o", "type=image,name=x/y,push-by-digest=true", str(folder), fails=True)
    refused = build(cli, "--allow", "security.insecure", "--no-cache", str(folder), fails=True)
    assert "security.insecure is not allowed" in refused


@pytest.mark.observes("POST /build", "POST /session")
def test_the_client_that_docker_once_had_built_in(older: CommandLine, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("opensesame\n")
    step = "RUN --mount=type=secret,id=word sed s/sesame// /run/secrets/word\n"
    (folder / "Dockerfile").write_text(TWO_STAGES + step)
    words = ("--build-arg", "WHO=older", "--label", "made=here", "--secret", f"id=word,src={tmp_path}/secret", "-t", "old:1")
    done = older("build", "--progress", "plain", "--no-cache", *words, str(folder))
    assert done.code == 0, str(done)
    for part in (
        "[base 2/2] RUN echo",
        "hello older",
        "[internal] load build context",
        " open\n",
        "naming to docker.io/library/old:1",
    ):
        assert part in done.stderr, part
    image = json.loads(older.ok("image", "inspect", "old:1"))[0]
    assert image["Config"]["Labels"]["made"] == "here"
    assert older.ok("build", "-q", *words, str(folder)) == image["Id"]
    older.ok("build", "-o", str(tmp_path / "out"), *words, str(folder))
    assert (tmp_path / "out/context/sub/b.txt").read_text() == "b\n"
    (folder / "Dockerfile").write_text("FROM busybox\nRUN exit 7\n")
    failed = older("build", "--progress", "plain", str(folder))
    assert failed.code != 0
    assert 'process "/bin/sh -c exit 7" did not complete successfully: exit code: 7' in failed.stderr
    archive = subprocess.run(["tar", "-C", str(folder), "-c", "."], capture_output=True, check=True).stdout
    assert "an archive on standard input is not supported by this way" in older("build", "-", stdin=archive).stderr


def test_a_client_that_leaves_takes_its_build_back(cli: CommandLine, older: CommandLine, engine: Engine, folder: Path) -> None:
    own = str(100_000_000 + os.getpid())  # no other test's step sleeps so long
    (folder / "Dockerfile").write_text(f"FROM busybox\nRUN echo begun; sleep {own}\nCOPY a.txt /\n")
    for client in (itself(engine), older):
        for number in (signal.SIGINT, signal.SIGKILL):
            running = client.pipes("build", "--progress", "plain", "--no-cache", str(folder))
            running.expect("^#[0-9]+ [0-9.]+ begun")
            running.signal(number)
            running.wait()
            until(lambda: not _sleepers(own), "the step to end with its client")
    assert cli.ok("ps", "-aq") == ""


def test_kept_contexts_are_known_and_the_rest_is_gone(cli: CommandLine, engine: Engine, folder: Path) -> None:
    build(cli, str(folder))
    kept = contexts(engine)
    (folder / "Dockerfile").write_text(TWO_STAGES + "RUN false\n")
    build(cli, str(folder), fails=True)
    build(cli, str(folder), fails=True)
    assert contexts(engine) == kept
    assert not list((engine.exec_root / "build").glob("*"))


def _sleepers(seconds: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", seconds.encode()]:
            found.append(path.parent.name)
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
