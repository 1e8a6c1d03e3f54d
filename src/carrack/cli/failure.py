"""How a command ends when it does not end well: the text for stderr and the exit code of the process.

Exit codes are Docker's: 1 for most failures, 125 when the command line or the daemon refuses, 126 and 127 when the container's
command cannot be run, 128+n after a signal, and the container's own code where a command waits for it.
"""

from __future__ import annotations

from carrack.errors import CarrackError

PROGRAM = "carrack"


class CommandFailure(CarrackError):
    """Ends the command: `message` goes to stderr unless empty, `code` is the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class ExitWith(CommandFailure):
    """Ends the command with a code and not a word: the container has said what there was to say."""

    def __init__(self, code: int) -> None:
        super().__init__("", code)


class FlagError(CarrackError):
    """A command line that cannot be read. The text is pflag's."""


def with_help(message: str, command: str) -> str:
    """The text of a failed `run` or `create`: Docker puts the program in front and the way to help behind."""
    return f"{PROGRAM}: {message}\n\nRun '{PROGRAM} {command} --help' for more information"


def run_failure(error: Exception) -> CommandFailure:
    """A failure of `run` with the exit code a shell would have given, had it run the container's command itself."""
    text = str(error)
    if (
        "executable file not found" in text
        or "no such file or directory" in text
        or "system cannot find the file specified" in text
    ):
        code = 127
    elif "permission denied" in text or "is a directory" in text:
        code = 126
    else:
        code = 125
    return CommandFailure(with_help(text, "run"), code)
