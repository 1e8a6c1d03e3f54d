"""Sessions in a real terminal (tmux): an editor and its size, leaving and coming back, progress redrawn in place, live figures,
guesses for a person. What the emulator shows is what is judged."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rig.engine import CommandLine, Engine, carrack_program
from tests.rig.registry_double import Registry
from tests.rig.tarballs import Packed, entry, tar
from tests.rig.tmux import Tmux
from tests.rig.waiting import until

Window = Callable[..., Tmux]


@pytest.fixture
def carrack(engine: Engine) -> CommandLine:
    return CommandLine(engine, [carrack_program()])


@pytest.fixture
def window(engine: Engine, tmp_path: Path) -> Window:
    """Opens a terminal in which `carrack` runs with these words."""

    def open_window(*words: str, rows: int = 24, columns: int = 80, **variables: str) -> Tmux:
        environment = {**engine.env(), "PATH": "/usr/bin:/bin", **variables}
        return Tmux(tmp_path, [carrack_program(), *words], env=environment, rows=rows, columns=columns)

    return open_window


@pytest.mark.observes("docker run --tty", "docker run --interactive", "POST /containers/{id}/resize")
def test_an_editor_fills_the_window_and_follows_its_size(window: Window, carrack: CommandLine) -> None:
    with window("run", "-it", "--name", "desk", "busybox", "vi", "/note", rows=20, columns=70) as terminal:
        screen = terminal.shows("/note")
        assert screen.splitlines()[18].startswith("~")
        assert "/note" in screen.splitlines()[19]  # the status line is on the last row
        terminal.write("ihello from vi")
        terminal.shows("hello from vi")
        terminal.press("Escape")
        terminal.shows("- /note [Modified]")
        terminal.resize(12, 50)
        until(lambda: "- /note [Modified]" in terminal.screen.splitlines()[11:12][0], "the status line on the new last row")
        assert "hello from vi" in terminal.screen
        terminal.write(":wq")
        terminal.shows(":wq")
        terminal.press("Enter")
        assert terminal.ended() == 0
    assert carrack.ok("cp", "desk:/note", "-").count("hello from vi") == 1


@pytest.mark.observes("docker attach", "docker run --detach-keys")
def test_leaving_and_coming_back(window: Window, carrack: CommandLine) -> None:
    script = "stty -echo; while read line; do echo got $line; done"
    with window("run", "-it", "--name", "room", "busybox", "sh", "-c", script) as terminal:
        terminal.write("one")
        terminal.press("Enter")
        terminal.shows("got one")
        terminal.press("C-p", "C-q")
        assert terminal.ended() == 0
    assert carrack.ok("inspect", "-f", "{{.State.Running}}", "room") == "true"
    with window("attach", "--detach-keys", "ctrl-x,q", "room") as terminal:
        terminal.write("two")
        terminal.press("Enter")
        terminal.shows("got two")
        terminal.press("C-p")
        terminal.write("three")
        terminal.press("Enter")
        terminal.shows("three")
        terminal.press("C-x")
        terminal.write("q")
        assert terminal.ended() == 1
        assert "read escape sequence" in terminal.screen
    assert carrack.ok("inspect", "-f", "{{.State.Running}}", "room") == "true"


def test_the_keys_of_config_json_detach(window: Window, engine: Engine, carrack: CommandLine) -> None:
    (engine.folder / "home/config.json").write_text('{"detachKeys": "ctrl-e,e"}')
    try:
        with window("run", "-it", "--name", "room", "busybox", "sh") as terminal:
            terminal.shows("#")
            terminal.press("C-e")
            terminal.write("e")
            terminal.ended()
        assert carrack.ok("inspect", "-f", "{{.State.Running}}", "room") == "true"
    finally:
        (engine.folder / "home/config.json").unlink()


@pytest.mark.observes("docker pull")
def test_the_bars_of_a_pull_are_redrawn_in_place(window: Window, carrack: CommandLine) -> None:
    house = Registry()
    house.gate = threading.Event()
    layers = [tar(entry(f"file{number}", bytes([number]) * 200_000)) for number in range(2)]
    house.put("app", "1", Packed(layers))
    with house.serving() as registry, window("pull", f"{registry.host}/app:1", columns=140) as terminal:
        terminal.shows("Pulling from app")
        before = terminal.screen
        house.gate.set()
        screen = terminal.shows("Status: Downloaded newer image")
        assert terminal.ended() == 0
        rows = [line for line in screen.splitlines() if "Pull complete" in line]
        assert len(rows) == 2, screen
        assert not [line for line in screen.splitlines() if "Downloading" in line or "Waiting" in line]
        assert before.count("Pull complete") == 0
    carrack.ok("rmi", f"{registry.host}/app:1")


@pytest.mark.observes("docker stats")
def test_statistics_stay_in_place_and_end_with_ctrl_c(window: Window, carrack: CommandLine) -> None:
    carrack.ok("run", "-d", "--name", "busy", "busybox", "sh", "-c", "while :; do sleep 0.01; done")
    with window("stats", columns=130) as terminal:
        screen = terminal.shows("busy")
        assert screen.splitlines()[0].startswith("CONTAINER ID")
        terminal.shows("%")
        carrack.ok("run", "-d", "--name", "second", "busybox", "sleep", "1000")
        screen = terminal.shows("second")
        assert screen.count("CONTAINER ID") == 1
        terminal.press("C-c")
        terminal.ended()


@pytest.mark.observes("docker logs --follow")
def test_logs_of_several_containers_come_with_their_names(window: Window, carrack: CommandLine) -> None:
    for name in ("one", "second"):
        carrack.ok("run", "-d", "--name", name, "busybox", "sh", "-c", f"echo from {name}; sleep 1000")
    assert sorted(carrack.ok("logs", "one", "second").splitlines()) == ["one    | from one", "second | from second"]
    with window("logs", "-f", "one", "second") as terminal:
        terminal.shows("one    | from one")
        terminal.shows("second | from second")
        assert "\x1b[" in terminal.coloured
        carrack.ok("exec", "one", "sh", "-c", "echo later > /proc/1/fd/1")
        terminal.shows("one    | later")
        carrack.ok("rm", "-f", "one")
        terminal.press("C-c")
        assert terminal.ended() in (0, 130)
    with window("logs", "-f", "second", "second", NO_COLOR="1") as terminal:
        terminal.shows("second | from second")
        assert "\x1b[3" not in terminal.coloured


def test_a_person_gets_a_guess_and_a_script_does_not(window: Window, carrack: CommandLine) -> None:
    carrack.ok("create", "--name", "webserver", "busybox")
    with window("stop", "webservr") as terminal:
        screen = terminal.shows("No such container: webservr")
        assert "Did you mean: webserver" in terminal.shows("Did you mean"), screen
        assert terminal.ended() == 1
    assert carrack("stop", "webservr").stderr == "Error response from daemon: No such container: webservr\n"
    with window("image", "inspect", "bussybox") as terminal:
        terminal.shows("Did you mean: busybox")


def test_a_broken_pipe_ends_the_program_quietly(carrack: CommandLine) -> None:
    from tests.rig.commands import run

    script = f"{carrack_program()} help run | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = run(["bash", "-c", f"set -o pipefail; for n in 1 2 3; do {script}; done"], env=carrack.engine.env())
    assert done.stderr == ""
    assert set(done.stdout.splitlines()[1::2]) <= {"0", "141"}
