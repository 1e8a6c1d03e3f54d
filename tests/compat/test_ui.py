"""The full screen on a real engine, driven key by key without a terminal; and in a terminal, where a shell is opened from it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Input, RichLog, Static, TabbedContent

from carrack.client.endpoint import parse_endpoint
from carrack.client.engine import Engine as ApiEngine
from carrack.ui.app import CarrackApp
from tests.rig.engine import CommandLine, Engine, carrack_program

Drive = Callable[[Callable[[CarrackApp, Pilot[None]], Awaitable[None]]], None]
PATIENCE_SECONDS = 20.0


@pytest.fixture
def shown(engine: Engine) -> Iterator[CommandLine]:
    """Two containers that run and one that has ended."""
    cli = CommandLine(engine, [carrack_program()])
    cli.ok("run", "-d", "--name", "talker", "busybox", "sh", "-c", "echo from the talker; trap 'exit 0' TERM; sleep 1000 & wait")
    cli.ok("run", "-d", "--name", "worker", "busybox", "sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait")
    cli("run", "--name", "broken", "busybox", "sh", "-c", "exit 3")
    yield cli
    cli("rm", "-f", "talker", "worker", "broken")


@pytest.fixture
def drive(engine: Engine, shown: CommandLine) -> Drive:
    """Runs the screen and a story told to it."""

    def run(story: Callable[[CarrackApp, Pilot[None]], Awaitable[None]]) -> None:
        async def play() -> None:
            app = CarrackApp(lambda: ApiEngine(parse_endpoint(f"unix://{engine.socket}")), place="here")
            async with app.run_test(size=(140, 40)) as pilot:
                await until(pilot, lambda: app.query_one("#list", DataTable).row_count == 3, "three rows")
                await story(app, pilot)
            app.join()

        asyncio.run(play())

    return run


async def until(pilot: Pilot[None], condition: Callable[[], bool], what: str) -> None:
    for _ in range(int(PATIENCE_SECONDS / 0.05)):
        if condition():
            return
        await pilot.pause(0.05)
    raise AssertionError(f"waited in vain for {what}")


def names(app: CarrackApp) -> list[str]:
    table = app.query_one("#list", DataTable)
    return [str(table.get_cell(key, "Name")) for key in table.rows]


def status(app: CarrackApp, name: str) -> str:
    table = app.query_one("#list", DataTable)
    return next((str(table.get_cell(key, "Status")) for key in table.rows if str(table.get_cell(key, "Name")) == name), "")


def log_text(app: CarrackApp) -> str:
    return "\n".join([line.text for line in app.query_one("#lines", RichLog).lines])


def test_what_runs_comes_first_and_the_chosen_ones_log_is_followed(drive: Drive, shown: CommandLine) -> None:
    async def story(app: CarrackApp, pilot: Pilot[None]) -> None:
        assert names(app) == ["talker", "worker", "broken"]
        await until(pilot, lambda: "from the talker" in log_text(app), "its log")
        shown.ok("exec", "talker", "sh", "-c", "echo later > /proc/1/fd/1")
        await until(pilot, lambda: "later" in log_text(app), "what it says later")
        await pilot.press("down")
        await until(pilot, lambda: "talker" not in log_text(app), "the next one's log")

    drive(story)


def test_a_container_that_comes_or_goes_is_seen_at_once(drive: Drive, shown: CommandLine) -> None:
    async def story(app: CarrackApp, pilot: Pilot[None]) -> None:
        shown.ok("run", "-d", "--name", "a-new-one", "busybox", "sleep", "1000")
        await until(pilot, lambda: "a-new-one" in names(app), "the new one")
        shown.ok("rm", "-f", "a-new-one")
        await until(pilot, lambda: "a-new-one" not in names(app), "its end")

    drive(story)


def test_keys_stop_start_pause_and_remove(drive: Drive) -> None:
    async def story(app: CarrackApp, pilot: Pilot[None]) -> None:
        await pilot.press("p")
        await until(pilot, lambda: "Paused" in status(app, "talker"), "the pause")
        await pilot.press("p")
        await until(pilot, lambda: "Paused" not in status(app, "talker"), "its end")
        await pilot.press("t")
        await until(pilot, lambda: status(app, "talker").startswith("Exited"), "the stop")
        await pilot.press("s")
        await until(pilot, lambda: status(app, "talker").startswith("Up"), "the start")
        await pilot.press("d")
        await pilot.press("n")
        assert "talker" in names(app)
        await pilot.press("d")
        await pilot.press("y")
        await until(pilot, lambda: "talker" not in names(app), "the removal")

    drive(story)


def test_the_list_is_narrowed_by_words_and_by_what_runs(drive: Drive) -> None:
    async def story(app: CarrackApp, pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"work")
        await until(pilot, lambda: names(app) == ["worker"], "the narrower list")
        await pilot.press("escape")
        await until(pilot, lambda: len(names(app)) == 3, "the whole list")
        assert app.query_one("#filter", Input).value == ""
        await pilot.press("a")
        assert names(app) == ["talker", "worker"]

    drive(story)


def test_use_and_document_have_their_tabs(drive: Drive) -> None:
    async def story(app: CarrackApp, pilot: Pilot[None]) -> None:
        await pilot.press("2")
        assert app.query_one("#details", TabbedContent).active == "use"
        await until(pilot, lambda: "processes" in str(app.query_one("#cpu-text", Static).content), "a reading")
        assert "Memory" in str(app.query_one("#memory-text", Static).content)
        await pilot.press("3")
        document = app.query_one("#json", RichLog)
        await until(pilot, lambda: any('"Name": "/talker"' in line.text for line in document.lines), "its document")

    drive(story)


def test_a_daemon_that_goes_away_is_said_and_found_again(drive: Drive, engine: Engine) -> None:
    async def story(app: CarrackApp, pilot: Pilot[None]) -> None:
        trouble = app.query_one("#trouble", Static)
        await asyncio.to_thread(engine.stop)
        await until(pilot, lambda: trouble.has_class("shown"), "the trouble")
        await asyncio.to_thread(engine.start)
        await until(pilot, lambda: not trouble.has_class("shown"), "its end")
        assert "talker" in names(app)

    drive(story)


def test_in_a_terminal_a_shell_opens_and_the_screen_comes_back(shown: CommandLine) -> None:
    with shown.terminal("ui", rows=40, columns=140) as screen:
        screen.expect("talker")
        screen.send("e")
        screen.expect("# ")
        screen.send("echo $((40 + 2)) && exit\r")
        screen.expect("42")
        screen.expect("worker")
        screen.send("q")
        assert screen.wait() == 0


def test_without_a_terminal_it_says_so(shown: CommandLine) -> None:
    done = shown("ui")
    assert (done.code, done.stderr) == (1, "carrack ui needs a terminal\n")


def test_a_daemon_that_is_not_there_is_named(shown: CommandLine, tmp_path: Path) -> None:
    with shown.terminal("-H", f"unix://{tmp_path}/none.sock", "ui") as screen:
        screen.expect("Cannot connect to the Carrack daemon at unix:///.*none.sock")
        assert screen.wait() == 1
