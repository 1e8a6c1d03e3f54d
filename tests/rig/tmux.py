"""A real terminal without a person: tmux on a server of its own. What is on the screen is what its emulator shows."""

import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.rig.commands import run
from tests.rig.waiting import until


class Tmux:
    """One window, in which a command runs; the window stays when it ends and shows its exit code."""

    def __init__(self, folder: Path, argv: Sequence[str], *, env: Mapping[str, str], rows: int = 24, columns: int = 80) -> None:
        folder = Path(tempfile.mkdtemp(dir=folder))  # a server's socket is its own: the one before may still be ending
        self._socket = folder / "tmux"
        variables = [f"{name}={value}" for name, value in {**env, "TERM": "screen-256color", "LC_ALL": "C.UTF-8"}.items()]
        script = f'trap : INT; {shlex.join(argv)}; code=$?; echo; echo "[exit $code]"; sleep 1000'
        command = "exec " + shlex.join(["env", "-i", *variables, "sh", "-c", script])
        settings = folder / "tmux.conf"
        settings.write_text("set -g status off\nset -g default-shell /bin/sh\nset -g escape-time 0\n")
        self._tmux("-f", str(settings), "new-session", "-d", "-x", str(columns), "-y", str(rows), command)

    def _tmux(self, *words: str) -> str:
        done = run(["tmux", "-S", str(self._socket), *words])
        assert done.code == 0, done
        return done.stdout

    @property
    def screen(self) -> str:
        """What is on the screen, without the blanks at the ends of lines."""
        return self._tmux("capture-pane", "-p")

    @property
    def coloured(self) -> str:
        """The same with its escape sequences."""
        return self._tmux("capture-pane", "-p", "-e")

    def shows(self, text: str) -> str:
        """Waits until a text is on the screen; the screen."""
        until(lambda: text in self.screen, f"{text!r} on the screen")
        return self.screen

    def press(self, *keys: str) -> None:
        """Keys by tmux's names: `C-p`, `Escape`, `Enter`."""
        self._tmux("send-keys", *keys)

    def write(self, text: str) -> None:
        """Letters as they are."""
        self._tmux("send-keys", "-l", text)

    def resize(self, rows: int, columns: int) -> None:
        """Another size of the window."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def ended(self) -> int:
        """Waits for the command's end; its exit code."""
        return int(self.shows("[exit ").rpartition("[exit ")[2].partition("]")[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        subprocess.run(["tmux", "-S", str(self._socket), "kill-server"], check=False, capture_output=True)
