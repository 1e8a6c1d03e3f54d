"""`carrack-oci`, the program: global flags, the table of commands, and how a failure is told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

from carrack import __version__
from carrack.errors import CarrackError
from carrack.kernel import process
from carrack.runtime.command import checkpoints, describe, execute, inspect, lifecycle, log, update
from carrack.runtime.command.arguments import Arguments, Flag, UsageError, flag, parse
from carrack.runtime.command.store import DEFAULT_ROOT, Store
from carrack.runtime.failure import InitFailed, StartFailed, words

_GLOBAL_FLAGS = (
    flag("root"),
    flag("log"),
    flag("log-format"),
    flag("criu"),
    flag("rootless"),
    flag("cgroup-manager"),
    flag("debug", value=False),
    flag("systemd-cgroup", value=False),
    flag("help h", value=False),
    flag("version v", value=False),
)


class Command(NamedTuple):
    """One subcommand: what runs, its flags, its line of help."""

    run: Callable[[Store, Arguments], int]
    flags: tuple[Flag, ...]
    summary: str
    ends_in_a_command_line: bool = False


COMMANDS = {
    "checkpoint": Command(checkpoints.checkpoint, checkpoints.CHECKPOINT_FLAGS, "checkpoint a running container"),
    "create": Command(lifecycle.create_container, lifecycle.CREATE_FLAGS, "create a container"),
    "delete": Command(lifecycle.delete, lifecycle.DELETE_FLAGS, "delete any resources held by a container"),
    "events": Command(inspect.events, inspect.EVENTS_FLAGS, "display container events such as OOM notifications and statistics"),
    "exec": Command(execute.execute, execute.EXEC_FLAGS, "execute new process inside the container", True),
    "features": Command(describe.features, (), "show the enabled features"),
    "kill": Command(lifecycle.kill, lifecycle.KILL_FLAGS, "send a signal to the container's init process"),
    "list": Command(inspect.list_containers, inspect.LIST_FLAGS, "list containers started with the given root"),
    "pause": Command(inspect.pause, (), "suspend all processes inside the container"),
    "ps": Command(inspect.processes, inspect.PS_FLAGS, "display the processes running inside a container", True),
    "restore": Command(checkpoints.restore, checkpoints.RESTORE_FLAGS, "restore a container from a previous checkpoint"),
    "resume": Command(inspect.resume, (), "resume all processes that have been paused"),
    "run": Command(lifecycle.run, lifecycle.RUN_FLAGS, "create and run a container"),
    "spec": Command(describe.write_spec, describe.SPEC_FLAGS, "create a new specification file"),
    "start": Command(lifecycle.start, (), "execute the user defined process in a created container"),
    "state": Command(inspect.state, (), "output the state of a container"),
    "update": Command(update.update, update.UPDATE_FLAGS, "update container resource constraints"),
}


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(words_: list[str]) -> int:
    """Carry out one command line; returns the exit code."""
    command = ""
    try:
        options, rest = parse(words_, _GLOBAL_FLAGS, stop_at_first=True)
        log.configure(options.text("log"), options.text("log-format"), options.on("debug"))
        if options.on("version"):
            sys.stdout.write(f"carrack-oci version {__version__}\nspec: 1.2.0\n")
            return 0
        if options.on("help") or not rest or rest[0] in ("help", "h"):
            return _help()
        command = rest[0]
        return _command(options, command, rest[1:])
    except UsageError as error:
        return _fail(command, str(error))
    except (CarrackError, InitFailed) as error:
        return _fail(command, error.cause if isinstance(error, InitFailed) else error.message)
    except StartFailed as error:
        return _fail(command, _start_failure(command, error))
    except OSError as error:
        return _fail(command, f"{error.filename or command}: {words(error)}")


def _command(options: Arguments, name: str, rest: list[str]) -> int:
    command = COMMANDS.get(name)
    if command is None:
        raise UsageError(f"No help topic for '{name}'")
    if options.on("systemd-cgroup") or options.text("cgroup-manager") == "systemd":
        raise UsageError("systemd cgroup flag passed, but systemd support for managing cgroups is not available")
    flags = (*command.flags, flag("help h", value=False))
    arguments, tail = parse(rest, flags, stop_at_first=command.ends_in_a_command_line)
    if command.ends_in_a_command_line:
        arguments.positional = tail[:1] + [word for place, word in enumerate(tail[1:]) if place or word != "--"]
    if arguments.on("help"):
        sys.stdout.write(f"NAME:\n   carrack-oci {name} - {command.summary}\n")
        return 0
    process.set_dumpable(False)
    return command.run(Store(options.text("root", DEFAULT_ROOT)), arguments)


def _start_failure(command: str, error: StartFailed) -> str:
    where = "exec failed" if command == "exec" else f"carrack-oci {command} failed"
    return f"{where}: unable to start container process: {error.cause}"


def _fail(command: str, text: str) -> int:
    """Tell it; returns the exit code, which for exec must differ from any of the program's own."""
    log.fail(text)
    return 255 if command == "exec" else 1


def _help() -> int:
    sys.stdout.write(
        "NAME:\n   carrack-oci - OCI runtime of Carrack\n\nUSAGE:\n   carrack-oci [global options] command [options]\n\n"
    )
    sys.stdout.write("COMMANDS:\n" + "".join(f"   {name:<10} {command.summary}\n" for name, command in COMMANDS.items()))
    names = (", ".join(f"--{name}" if len(name) > 1 else f"-{name}" for name in each.names) for each in _GLOBAL_FLAGS)
    sys.stdout.write("\nGLOBAL OPTIONS:\n" + "".join(f"   {name}\n" for name in names))
    return 0


if __name__ == "__main__":
    main()
