"""What a result depends on and what not: reproducible images, exact keys and their explanations, secrets that stay nowhere."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import MakeEngine
from tests.rig.builds import build, printed
from tests.rig.engine import CommandLine, Engine, carrack_program

pytestmark = pytest.mark.peer_lacks("keys and records are Carrack's own")

EPOCH = "1700000000"
REPRODUCIBLE = """FROM busybox
COPY a b /files/
WORKDIR /made/here
RUN echo x > x && mkdir d && touch d/e && ln -s x l && chmod 4755 x
ENV A=1
LABEL l=1
"""


@pytest.fixture
def carrack(engine: Engine) -> CommandLine:
    return CommandLine(engine, [carrack_program()])


def test_two_daemons_come_to_the_same_digests(make_engine: MakeEngine) -> None:
    found = []
    for _ in range(2):
        engine = make_engine()
        built = build(engine, REPRODUCIBLE, {"a": "a", "b": "b" * 5000}, buildargs={"SOURCE_DATE_EPOCH": EPOCH}, t="same")
        document = engine.api("GET", f"/images/{built.image}/json").json
        found.append((document["Id"], document["Descriptor"]["digest"], document["Created"]))
    assert found[0] == found[1]
    assert found[0][2] == "2023-11-14T22:13:20Z"


def test_an_image_of_cached_steps_keeps_its_id_whatever_the_time(engine: Engine) -> None:
    assert build(engine, REPRODUCIBLE, {"a": "a", "b": "b"}).image == build(engine, REPRODUCIBLE, {"a": "a", "b": "b"}).image


COPIED = "FROM busybox\nCOPY f /f\nRUN true\n"
DECLARED = "FROM busybox\nARG V\nRUN true\n"
CHANGES: dict[str, tuple[tuple[str, str, str], tuple[str, str, str], str]] = {
    "a file": ((COPIED, "1", ""), (COPIED, "2", ""), "the files of COPY f"),
    "a command": (("FROM busybox\nRUN true\n", "", ""), ("FROM busybox\nRUN true now\n", "", ""), "the command"),
    "a variable": (("FROM busybox\nENV A=1\nRUN true\n", "", ""), ("FROM busybox\nENV A=2\nRUN true\n", "", ""), "variable A"),
    "an argument": ((DECLARED, "", "1"), (DECLARED, "", "2"), "variable V"),
    "a user": (("FROM busybox\nRUN true\n", "", ""), ("FROM busybox\nUSER 5\nRUN true\n", "", ""), "user"),
    "a mode": (("FROM busybox\nCOPY f /f\n", "1", ""), ("FROM busybox\nCOPY --chmod=600 f /f\n", "1", ""), "mode"),
}
"""Dockerfile, content of `f`, argument V: before and after, and what is to blame."""


@pytest.mark.parametrize("change", CHANGES)
def test_a_miss_names_the_first_input_that_differed(carrack: CommandLine, tmp_path: Path, change: str) -> None:
    before, after, blamed = CHANGES[change]
    carrack.ok("builder", "prune", "-af")
    for dockerfile, content, argument in (before, after):
        (tmp_path / "Dockerfile").write_text(dockerfile)
        (tmp_path / "f").write_text(content)
        words = ["--build-arg", f"V={argument}"] if argument else []
        done = carrack("build", "--progress", "plain", "--explain", *words, str(tmp_path))
        assert done.code == 0, str(done)
    assert f"{blamed} changed" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("dockerfile", "files"),
    [
        ("FROM busybox\n# a comment\nCOPY f /f\nRUN cat /f\n", {"f": "1"}),
        ("FROM busybox\nCOPY f /f\nRUN  cat /f\nLABEL new=label\n", {"f": "1"}),
        ("FROM busybox\nARG UNUSED_BEFORE\nCOPY f /f\nRUN cat /f\n", {"f": "1", "another": "file"}),
    ],
)
def test_what_changes_no_input_costs_no_step(engine: Engine, dockerfile: str, files: dict[str, str]) -> None:
    build(engine, "FROM busybox\nCOPY f /f\nRUN cat /f\n", {"f": "1"})
    assert build(engine, dockerfile, files).cached == 2


def test_a_step_after_an_equal_result_of_another_way_is_found(engine: Engine) -> None:
    """COPY is a function of files: however they came about."""
    build(engine, "FROM busybox AS a\nRUN echo same > /f # one\nFROM busybox\nCOPY --from=a /f /f\n")
    again = build(engine, "FROM busybox AS a\nRUN echo same > /f # two\nFROM busybox\nCOPY --from=a /f /f\n")
    assert again.cached == 1


def test_the_same_instruction_twice_runs_twice(engine: Engine) -> None:
    built = build(engine, "FROM busybox\nRUN echo ran\nRUN echo ran\n", nocache=1)
    assert printed(built) == ["ran", "ran"]
    assert printed(build(engine, "FROM busybox\nRUN echo run-it\nRUN echo run-it\n")) == ["run-it", "run-it"]


SECRET = "s3cr3t-value-that-must-not-stay"


def test_a_secret_stays_nowhere(carrack: CommandLine, engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(
        "FROM busybox\n"
        "RUN --mount=type=secret,id=one wc -c < /run/secrets/one; stat -c '%a %u' /run/secrets/one\n"
        "RUN --mount=type=secret,id=one,target=/etc/deep/place,mode=0444,uid=5 stat -c '%a %u' /etc/deep/place\n"
        "RUN --mount=type=secret,id=two,env=TOKEN echo ${#TOKEN}; ls /run/secrets 2>/dev/null | wc -l\n"
    )
    words = ["--secret", f"id=one,src={tmp_path / 'secret'}", "--secret", "id=two,env=THE_TOKEN"]
    os.environ["THE_TOKEN"] = SECRET
    try:
        done = carrack("build", "--progress", "plain", "-t", "kept:1", *words, str(folder))
    finally:
        del os.environ["THE_TOKEN"]
    assert done.code == 0, str(done)
    shown = done.stdout + done.stderr
    assert all(each in shown for each in ("400 0", "444 5", str(len(SECRET))))
    places = [str(engine.data_root), str(engine.exec_root), str(engine.log_path)]
    found = subprocess.run(["grep", "-rlaF", SECRET, *places], capture_output=True, text=True, check=False)
    assert found.stdout == ""
    assert SECRET not in json.dumps(engine.api("GET", "/images/kept:1/history").json)
    assert carrack.ok("run", "--rm", "kept:1", "sh", "-c", "ls -d /etc/deep /run/secrets 2>/dev/null | wc -l") == "0"
    (tmp_path / "secret").write_text("another")  # and it is in no key
    words[1] = f"id=one,src={tmp_path / 'secret'}"
    os.environ["THE_TOKEN"] = "another"
    again = carrack("build", "--progress", "plain", *words, str(folder))
    assert "400 0" not in again.stdout + again.stderr
