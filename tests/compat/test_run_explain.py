"""`carrack run --explain`: the plan of a start, each step with its time, as text and as JSON."""

import json

import pytest

from tests.rig.engine import CommandLine, Engine, carrack_program

pytestmark = pytest.mark.peer_lacks("beyond Docker")


@pytest.fixture
def carrack(engine: Engine) -> CommandLine:
    return CommandLine(engine, [carrack_program()])


def test_the_steps_stand_on_standard_error_beside_the_output(carrack: CommandLine) -> None:
    ended = carrack("run", "--rm", "--explain", "--hostname", "ship", "--memory", "64m", "busybox", "echo", "hello")
    assert (ended.code, ended.stdout) == (0, "hello\n")
    rows = ended.stderr.splitlines()
    assert rows[0].split() == ["TIME", "BY", "STEP"]
    told = [row.split("  ")[-1].strip() for row in rows]
    wanted = ["addresses, ports, files", "namespaces", "hostname ship", "cgroup", "pivot_root"]
    assert [step for step in wanted if not any(step in row for row in told)] == []
    assert rows[-1].endswith("altogether (daemon and container work side by side)")


def test_the_same_is_json_for_programs_in_order(carrack: CommandLine) -> None:
    ended = carrack("run", "-d", "--explain=json", "-v", "data:/data", "--read-only", "busybox", "sleep", "1000")
    container = ended.stdout.strip()
    document = json.loads(ended.stderr)
    assert document["Container"] == container
    steps = [each["Step"] for each in document["Steps"] if each["By"] == "container"]
    order = ["mount proc at /proc", "bind ", "mask ", "/ read-only", "pivot_root"]
    places = [next(place for place, step in enumerate(steps) if step.startswith(wanted)) for wanted in order]
    assert places == sorted(places)
    assert all(each["Microseconds"] >= 0 for each in document["Steps"])
    assert document["TotalMicroseconds"] > 0


def test_start_explains_too_and_without_the_flag_nothing_is_said(carrack: CommandLine) -> None:
    carrack.ok("create", "--name", "again", "busybox", "true")
    assert "pivot_root" in carrack("start", "--explain", "again").stderr
    quiet = carrack("start", "again")
    assert (quiet.stdout, quiet.stderr) == ("again\n", "")


def test_a_form_that_is_none_is_refused(carrack: CommandLine) -> None:
    ended = carrack("run", "--explain=xml", "busybox")
    assert ended.code == 125
    assert "want text or json" in ended.stderr
