"""The screen: the list of containers, and beside it the log, the use and the document of the one that is chosen."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from contextvars import Context, copy_context
from typing import Any, ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Header, Input, Label, RichLog, Sparkline, Static, TabbedContent, TabPane

from carrack.cli.containers.list import names_of
from carrack.cli.render.indent import indent
from carrack.cli.render.units import binary_size, human_size
from carrack.client import codec
from carrack.client.engine import Engine
from carrack.client.http import percent_encode
from carrack.errors import CarrackError
from carrack.ui.feed import Feed, LogReader, Reading
from carrack.ui.rows import COLUMNS, cells, matches

HISTORY = 60


class Question(ModalScreen[bool]):
    """Asks before something that cannot be undone."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "answer(True)", "Yes"), Binding("n,escape", "answer(False)", "No")]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        yield Label(f"{self._text}\n\n[b]y[/b]es   [b]n[/b]o", id="question")

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)


class CarrackApp(App[None]):
    """`new_engine` opens a client of the daemon; `command` is how the command line is started on it."""

    TITLE = "carrack"
    CSS = """
    #list { height: 45%; }
    #filter { display: none; height: 3; }
    #filter.shown { display: block; }
    #trouble { display: none; background: $error; color: $text; padding: 0 1; }
    #trouble.shown { display: block; }
    #details { height: 1fr; }
    #use Horizontal { height: 1fr; }
    #use Vertical { width: 1fr; padding: 0 1; }
    Sparkline { height: 4; margin: 1 0; }
    Question { align: center middle; }
    #question { background: $panel; border: thick $warning; padding: 1 3; width: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "act('start')", "Start"),
        Binding("t", "act('stop')", "Stop"),
        Binding("r", "act('restart')", "Restart"),
        Binding("p", "pause", "Pause"),
        Binding("k", "ask('kill')", "Kill"),
        Binding("d", "ask('remove')", "Remove"),
        Binding("e", "shell", "Shell"),
        Binding("a", "toggle_all", "All"),
        Binding("slash", "filter", "Filter"),
        Binding("1", "tab('log')", "Log", show=False),
        Binding("2", "tab('use')", "Use", show=False),
        Binding("3", "tab('document')", "Document", show=False),
        Binding("escape", "leave_filter", show=False),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, new_engine: Callable[[], Engine], *, command: Sequence[str] = (), place: str = "") -> None:
        super().__init__()
        self._new_engine = new_engine
        self._command = list(command) or [sys.executable, "-m", "carrack.cli"]
        self.sub_title = place
        self._containers: dict[str, dict[str, Any]] = {}
        self._readings: dict[str, Reading] = {}
        self._history: dict[str, deque[Reading]] = {}
        self._chosen = ""
        self._log_reader: LogReader | None = None
        self._readers: list[LogReader] = []
        self._show_all = True
        self._place_of_work: tuple[asyncio.AbstractEventLoop, Context] | None = None
        self._feed = Feed(
            new_engine,
            on_containers=self._hand_over(self.show_containers),
            on_readings=self._hand_over(self.show_readings),
            on_trouble=self._hand_over(self.show_trouble),
        )

    def _hand_over(self, show: Callable[..., None]) -> Callable[..., None]:
        """A callback for other threads: the screen's own thread does what it says, soon. Nobody waits for it."""

        def call(*arguments: Any) -> None:
            if self._place_of_work is None:
                return
            loop, context = self._place_of_work
            try:
                loop.call_soon_threadsafe(self._show_if_open, show, arguments, context=context)
            except RuntimeError:
                pass  # the screen is gone

        return call

    def _show_if_open(self, show: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if self.is_running:
            show(*arguments)

    def compose(self) -> ComposeResult:
        yield Header(show_clock=True)
        yield Static(id="trouble")
        yield Input(placeholder="name, image or status", id="filter")
        yield DataTable(id="list", cursor_type="row", zebra_stripes=True)
        with TabbedContent(id="details", initial="log"):
            with TabPane("Log", id="log"):
                yield RichLog(id="lines", wrap=True, max_lines=5000)
            with TabPane("Use", id="use"), Horizontal():
                with Vertical():
                    yield Static("CPU", id="cpu-text")
                    yield Sparkline([], id="cpu")
                with Vertical():
                    yield Static("Memory", id="memory-text")
                    yield Sparkline([], id="memory")
            with TabPane("Document", id="document"):
                yield RichLog(id="json", wrap=False, highlight=True)
        yield Footer()

    def on_mount(self) -> None:
        table = self.query_one("#list", DataTable)
        for column in COLUMNS:
            table.add_column(column, key=column or "mark")
        table.focus()
        self._place_of_work = asyncio.get_running_loop(), copy_context()
        self._feed.start()

    def on_unmount(self) -> None:
        self._place_of_work = None
        self._feed.stop()
        if self._log_reader is not None:
            self._log_reader.stop()

    def join(self) -> None:
        """Waits for the threads, once the screen is gone."""
        self._feed.join()
        for reader in self._readers:
            reader.join()

    # -- what the feed brings

    def show_containers(self, containers: list[dict[str, Any]]) -> None:
        """Takes a new list of containers."""
        self._containers = {row["Id"]: row for row in containers}
        for identity in set(self._history) - set(self._containers):
            del self._history[identity]
        self._draw()

    def show_readings(self, readings: dict[str, Reading]) -> None:
        """Takes what the containers used."""
        self._readings = readings
        for identity, reading in readings.items():
            self._history.setdefault(identity, deque(maxlen=HISTORY)).append(reading)
        self._draw()
        self._draw_use()

    def show_trouble(self, text: str) -> None:
        """Says what keeps the feed from the daemon; an empty text says that nothing does."""
        trouble = self.query_one("#trouble", Static)
        trouble.update(Text(text))
        trouble.set_class(bool(text), "shown")

    def show_lines(self, identity: str, lines: list[str]) -> None:
        """Appends to the log on the screen, if it is still that container's."""
        if identity == self._chosen:
            log = self.query_one("#lines", RichLog)
            for line in lines:
                log.write(Text.from_ansi(line))

    # -- drawing

    def _wanted(self) -> list[dict[str, Any]]:
        text = self.query_one("#filter", Input).value
        rows = [row for row in self._containers.values() if matches(row, text)]
        if not self._show_all:
            rows = [row for row in rows if row["State"] in ("running", "paused", "restarting")]
        return sorted(rows, key=lambda row: (row["State"] not in ("running", "paused", "restarting"), names_of(row, truncate=True)))

    def _draw(self) -> None:
        table = self.query_one("#list", DataTable)
        rows = self._wanted()
        order = [row["Id"] for row in rows]
        if order != [str(key.value) for key in table.rows]:
            table.clear()
            for row in rows:
                table.add_row(*cells(row, self._readings.get(row["Id"])), key=row["Id"])
            if self._chosen in order:
                table.move_cursor(row=order.index(self._chosen))
            elif order:
                table.move_cursor(row=0)
                self._choose(order[0])
            else:
                self._choose("")
            return
        for row in rows:
            for column, cell in zip(COLUMNS, cells(row, self._readings.get(row["Id"])), strict=True):
                if table.get_cell(row["Id"], column or "mark") != cell:
                    table.update_cell(row["Id"], column or "mark", cell, update_width=True)

    def _draw_use(self) -> None:
        history = self._history.get(self._chosen) or deque()
        self.query_one("#cpu", Sparkline).data = [reading.cpu_percent for reading in history]
        self.query_one("#memory", Sparkline).data = [float(reading.memory_bytes) for reading in history]
        if history:
            last = history[-1]
            received, sent = last.network
            read, written = last.blocks
            cpu = f"CPU {last.cpu_percent:.1f}%   {last.processes} processes"
            memory = f"Memory {binary_size(last.memory_bytes)} of {binary_size(last.limit_bytes)}"
            memory += f"   network {human_size(received, 3)} in, {human_size(sent, 3)} out"
            memory += f"   disk {human_size(read, 3)} read, {human_size(written, 3)} written"
        else:
            cpu, memory = "CPU", "Memory"
        self.query_one("#cpu-text", Static).update(cpu)
        self.query_one("#memory-text", Static).update(memory)

    # -- the chosen container

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        if event.row_key is not None and event.row_key.value and event.row_key.value in self._containers:
            self._choose(str(event.row_key.value))

    def _choose(self, identity: str) -> None:
        if identity == self._chosen:
            return
        self._chosen = identity
        if self._log_reader is not None:
            self._log_reader.stop()
            self._log_reader = None
        self.query_one("#lines", RichLog).clear()
        self.query_one("#json", RichLog).clear()
        self._draw_use()
        if identity:
            self._log_reader = LogReader(self._new_engine, identity, self._hand_over(self.show_lines))
            self._readers = [reader for reader in self._readers if reader.is_alive()] + [self._log_reader]
            self._fetch_document(identity)

    @work(thread=True, exclusive=True, group="document")
    def _fetch_document(self, identity: str) -> None:
        try:
            with closing(self._new_engine()) as engine:
                document = engine.json("GET", f"/containers/{percent_encode(identity)}/json")
        except CarrackError:
            return
        self._hand_over(self.show_document)(identity, indent(codec.encode(document)))

    def show_document(self, identity: str, text: str) -> None:
        """Shows a container's document, if it is still the one chosen."""
        if identity == self._chosen:
            self.query_one("#json", RichLog).clear().write(text)

    # -- actions

    @work(thread=True)
    def _order(self, method: str, path: str, done: str) -> None:
        try:
            with closing(self._new_engine()) as engine:
                engine.order(method, path)
        except CarrackError as error:
            self._hand_over(self.notify)(str(error))
        else:
            self._hand_over(self.notify)(done)

    def _chosen_name(self) -> str:
        row = self._containers.get(self._chosen)
        return names_of(row, truncate=True) if row else ""

    def action_act(self, verb: str) -> None:
        """Starts, stops or restarts the chosen container."""
        if self._chosen:
            done = {"start": "started", "stop": "stopped", "restart": "restarted"}[verb]
            self._order("POST", f"/containers/{percent_encode(self._chosen)}/{verb}", f"{self._chosen_name()} {done}")

    def action_pause(self) -> None:
        """Freezes the chosen container, or lets it go on."""
        row = self._containers.get(self._chosen)
        if row is not None:
            verb = "unpause" if row["State"] == "paused" else "pause"
            self._order("POST", f"/containers/{percent_encode(self._chosen)}/{verb}", f"{self._chosen_name()} {verb}d")

    def action_ask(self, verb: str) -> None:
        """Kills or removes the chosen container, after a question."""
        identity, name = self._chosen, self._chosen_name()
        if not identity:
            return

        def act(agreed: bool | None) -> None:
            if agreed and verb == "kill":
                self._order("POST", f"/containers/{percent_encode(identity)}/kill", f"{name} killed")
            elif agreed:
                self._order("DELETE", f"/containers/{percent_encode(identity)}?force=1&v=1", f"{name} removed")

        what = "Kill" if verb == "kill" else "Remove, with its anonymous volumes,"
        self.push_screen(Question(f"{what} {name}?"), act)

    def action_shell(self) -> None:
        """Opens a shell in the chosen container; the screen comes back when it ends."""
        row = self._containers.get(self._chosen)
        if row is None or row["State"] != "running":
            self.notify("it does not run")
            return
        script = "command -v bash >/dev/null && exec bash || exec sh"
        with self.suspend():
            subprocess.run([*self._command, "exec", "-it", self._chosen, "sh", "-c", script], check=False)
        self.refresh()

    def action_toggle_all(self) -> None:
        """Shows the containers that have ended too, or not."""
        self._show_all = not self._show_all
        self._draw()

    def action_filter(self) -> None:
        """Opens the line that narrows the list."""
        box = self.query_one("#filter", Input)
        box.add_class("shown")
        box.focus()

    def action_leave_filter(self) -> None:
        """Closes that line and shows everything again."""
        box = self.query_one("#filter", Input)
        box.value = ""
        box.remove_class("shown")
        self.query_one("#list", DataTable).focus()

    def on_input_changed(self, _event: Input.Changed) -> None:
        self._draw()

    def on_input_submitted(self, _event: Input.Submitted) -> None:
        self.query_one("#list", DataTable).focus()

    def action_tab(self, name: str) -> None:
        """Turns to a tab of the details."""
        self.query_one("#details", TabbedContent).active = name
