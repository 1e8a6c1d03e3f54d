"""A Dockerfile through the unmodified docker command line and docker-py: what people do every day."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.rig.builds import build
from tests.rig.engine import CommandLine, Engine


@pytest.fixture(autouse=True)
def classic(monkeypatch: pytest.MonkeyPatch) -> None:
    """The docker command line would else ask a newer dockerd for BuildKit."""
    monkeypatch.setenv("DOCKER_BUILDKIT", "0")


def context(tmp_path: Path, dockerfile: str, **files: str) -> str:
    """A folder with a Dockerfile and some files; two underscores of a name stand for a slash, one for a dot."""
    (tmp_path / "Dockerfile").write_text(dockerfile)
    for name, content in files.items():
        path = tmp_path / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return str(tmp_path)


@pytest.mark.observes("POST /build", "docker build", "docker build --tag")
def test_a_plain_dockerfile_builds_and_runs(cli: CommandLine, tmp_path: Path) -> None:
    folder = context(
        tmp_path,
        """FROM busybox
        ARG WHO=world
        ENV GREETING="hello $WHO"
        WORKDIR /srv/app
        COPY message.txt .
        RUN cat message.txt > made && echo "$GREETING" >> made
        CMD ["cat", "made"]
        """,
        message_txt="from the context\n",
    )
    shown = cli.ok("build", "-t", "plain:1", folder)
    assert "Step 1/7 : FROM busybox" in shown
    assert "Successfully tagged plain:1" in shown
    assert cli.ok("run", "--rm", "plain:1") == "from the context\nhello world"


@pytest.mark.observes("POST /build", "docker build")
def test_a_second_build_takes_every_step_from_the_cache_and_has_the_same_id(cli: CommandLine, tmp_path: Path) -> None:
    folder = context(tmp_path, 'FROM busybox\nCOPY a.txt /\nRUN cat a.txt > /b\nCMD ["cat", "/b"]\n', a_txt="a")
    cli.ok("build", "-t", "twice:1", folder)
    before = cli.ok("image", "inspect", "--format", "{{.Id}}", "twice:1")
    shown = cli.ok("build", "-t", "twice:1", folder)
    assert shown.count("Using cache") >= 2
    assert cli.ok("image", "inspect", "--format", "{{.Id}}", "twice:1") == before


@pytest.mark.observes("POST /build", "docker build")
def test_a_changed_file_is_seen_and_a_changed_time_is_not(cli: CommandLine, tmp_path: Path) -> None:
    folder = context(tmp_path, "FROM busybox\nCOPY a.txt /\nRUN cat a.txt > /b\n", a_txt="a")
    cli.ok("build", folder)
    (tmp_path / "a.txt").touch()
    assert cli.ok("build", folder).count("Using cache") >= 2
    (tmp_path / "a.txt").write_text("b")
    assert "Using cache" not in cli.ok("build", "-t", "changed", folder).partition("COPY")[2]
    assert cli.ok("run", "--rm", "changed", "cat", "/b") == "b"


LINES = "FROM busybox\nENV A=1\nRUN touch /one\nLABEL b=2\nRUN touch /two\n"


@pytest.mark.observes("POST /build", "docker build")
def test_lines_that_touch_no_file_are_cached_like_the_others(engine: Engine) -> None:
    build(engine, LINES, t="lines")
    assert build(engine, LINES).cached == 4
    changed = build(engine, LINES.replace("b=2", "b=3"))
    assert changed.text.partition("LABEL")[0].count("Using cache") == 2
    assert changed.text.partition("LABEL")[2].partition("RUN")[0].count("Using cache") == 0
    assert build(engine, LINES, nocache=1).cached == 0


@pytest.mark.observes("POST /build", "docker build", "docker build --cache-from")
def test_with_images_to_take_the_cache_from_only_their_steps_count(engine: Engine) -> None:
    build(engine, LINES, t="whole")
    build(engine, LINES.partition("LABEL")[0], t="half")
    assert build(engine, LINES, cachefrom=["whole"]).cached == 4
    assert build(engine, LINES, cachefrom=["nothing:here"]).cached == 0
    half = build(engine, LINES, cachefrom=["half"])
    assert half.text.partition("LABEL")[0].count("Using cache") == 2
    assert "Using cache" not in half.text.partition("touch /two")[2]


@pytest.mark.observes("POST /build", "docker build")
def test_a_failing_step_ends_the_build_with_its_code_and_no_image(cli: CommandLine, tmp_path: Path) -> None:
    folder = context(tmp_path, "FROM busybox\nRUN echo before; exit 3\n")
    failed = cli("build", "-t", "none", folder)
    assert failed.code == 3
    assert "The command '/bin/sh -c echo before; exit 3' returned a non-zero code: 3" in failed.stderr
    assert "before" in failed.stdout
    assert cli("image", "inspect", "none").code == 1


@pytest.mark.observes("POST /build")
def test_docker_py_builds_from_a_file_object_and_reads_the_id(engine: Engine) -> None:
    client = engine.docker_py()
    try:
        image, log = client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN echo from-py > /f\n"), tag="py:1", rm=True)
        assert image.tags == ["py:1"]
        assert any("Successfully built" in line.get("stream", "") for line in log)
        assert client.containers.run("py:1", ["cat", "/f"], remove=True) == b"from-py\n"
    finally:
        client.close()


@pytest.mark.observes("POST /build")
def test_a_fault_in_the_file_is_answered_with_400_before_anything_is_done(engine: Engine) -> None:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as archive:
        content = b"FROM busybox\nRUM true\n"
        member = tarfile.TarInfo("Dockerfile")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    answer = engine.api("POST", "/build", body.getvalue(), headers={"Content-Type": "application/x-tar"})
    assert answer.status == 400
    assert "unknown instruction: RUM" in json.loads(answer.body)["message"]
