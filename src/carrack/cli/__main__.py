"""`carrack`: reads the global flags, finds the command, runs it, and turns what goes wrong into stderr and an exit code."""

from __future__ import annotations

import sys

from carrack.cli.catalogue import ALIASES, ALONE, GROUPS, TOP, load
from carrack.cli.console import ReaderGone, fill_standard_streams
from carrack.cli.failure import PROGRAM, CommandFailure, FlagError
from carrack.cli.flags import parse, parse_table
from carrack.cli.session import GLOBAL_FLAGS, Session
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.cli.flags import Parsed


def main() -> int:
    """Runs the command line of this process and returns its exit code."""
    fill_standard_streams()
    try:
        code = run(sys.argv[1:])
    except ReaderGone:
        return _die_by_signal("SIGPIPE")
    return code


def run(arguments: list[str]) -> int:
    """Runs one command line; everything it prints has been written when it returns."""
    try:
        given = _read_global_flags(arguments)
    except CommandFailure as failure:
        return _report(None, failure)
    session = Session(given)
    try:
        _dispatch(session, given)
        session.out.flush()
        session.err.flush()
        return 0
    except CarrackError as error:
        return _report(session, error)
    except KeyboardInterrupt:
        session.input.restore()
        session.out.flush()
        return 130
    except ReaderGone:
        raise
    except Exception as error:  # the process's root: a user is told in a line, and a developer by -D
        if session.debug:
            raise
        return _report(session, CommandFailure(f"unexpected {type(error).__name__}: {error} (-D shows where)"))
    finally:
        session.input.restore()


def _read_global_flags(arguments: list[str]) -> Parsed:
    try:
        given = parse(arguments, parse_table(GLOBAL_FLAGS), interspersed=False)
    except FlagError as error:
        usage = f"Usage:  {PROGRAM} [OPTIONS] COMMAND [ARG...]"
        raise CommandFailure(f"{error}\n\n{usage}\n\nRun '{PROGRAM} --help' for more information", 125) from None
    level = given.text("log-level")
    if given.changed("log-level") and level not in ("debug", "info", "warn", "error", "fatal", "panic", "trace", "warning"):
        raise CommandFailure(f"Unable to parse logging level: {level}", 1)
    return given


def _dispatch(session: Session, given: Parsed) -> None:
    words = given.arguments
    if given.flag("version"):
        from carrack import __version__

        session.out.line(f"Carrack version {__version__}")
    elif given.wants_help or not words:
        from carrack.cli.help import top_help

        stream = session.out if given.wants_help else session.err
        stream.write(top_help())
        if not given.wants_help:
            stream.flush()
    elif words[0] in ("__complete", "__completeNoDesc"):
        _complete(session, words)
    elif words[0] == "help":
        _help(session, words[1:])
    else:
        path, shown, rest = _find(session, _unaliased(session, words))
        if path:
            _run_command(session, path, shown, rest)


def _complete(session: Session, words: list[str]) -> None:
    """What a shell's completion asks: candidates, then a number that says how to take them."""
    from carrack.cli.completion.words import complete

    candidates, directive = complete(words[1:])
    for word, description in candidates:
        session.out.line(f"{word}\t{description}" if description and words[0] == "__complete" else word)
    session.out.line(f":{directive}")


def _unaliased(session: Session, words: list[str]) -> list[str]:
    """A command line without the user's own word for its beginning (`aliases` of config.json).

    An alias never hides a command; `builder` alone, which Docker lets lead to buildx.
    """
    name = words[0]
    if name in TOP or (name in GROUPS and name != "builder"):
        return words
    meant = session.config.table("aliases").get(name)
    return [*meant.split(), *words[1:]] if isinstance(meant, str) and meant.split() else words


def _find(session: Session, words: list[str]) -> tuple[str, str, list[str]]:
    """(the command's full name, the name it was called by, what follows); an empty name when help was printed instead."""
    name = words[0]
    if name in TOP:
        return TOP[name], name, words[1:]
    if name not in GROUPS:
        from carrack.cli.plugins import run_plugin

        run_plugin(session, words)
        raise _unknown(name, "")
    second = words[1] if len(words) > 1 else ""
    path = ALIASES.get(f"{name} {second}", f"{name} {second}")
    if second in ("", "--help", "-h"):
        from carrack.cli.help import group_help

        (session.out if second else session.err).write(group_help(name))
        return "", "", []
    if second.startswith("-") and second != "-":
        shown = (
            f"unknown flag: {second.partition('=')[0]}"
            if second.startswith("--")
            else f"unknown shorthand flag: '{second[1]}' in {second}"
        )
        usage = f"Usage:  {PROGRAM} {name}\n\nRun '{PROGRAM} {name} --help' for more information"
        raise CommandFailure(f"{shown}\n\n{usage}", 125)
    if path.partition(" ")[2] not in GROUPS[name]:
        raise _unknown(second, name)
    return path, path, words[2:]


def _unknown(word: str, group: str) -> CommandFailure:
    place = f"{PROGRAM} {group}".rstrip()
    usage = f"Usage:  {place}\n\n" if group else ""
    from carrack.cli.suggestions import for_command

    names = GROUPS[group] if group else (*TOP, *GROUPS, *ALONE)
    guess = for_command(word, group, names)
    return CommandFailure(
        f"{PROGRAM}: unknown command: {place} {word}\n\n{usage}Run '{place} --help' for more information{guess}", 1
    )


def _run_command(session: Session, path: str, shown: str, rest: list[str]) -> None:
    command = load(path)
    parsed = command.parse(rest, shown)
    if parsed.wants_help:
        from carrack.cli.help import command_help

        if parsed.help_by_shorthand:
            session.err.line("Flag shorthand -h has been deprecated, use --help")
            session.err.flush()
        session.out.write(command_help(command, shown))
        return
    if command.needs or parsed.needing():
        from carrack.cli.support import check_support

        check_support(session, command, parsed, shown)
    command.run(session, parsed)


def _help(session: Session, words: list[str]) -> None:
    from carrack.cli.help import command_help, group_help, top_help

    if not words:
        session.out.write(top_help())
    elif words[0] in TOP and len(words) == 1:
        session.out.write(command_help(load(TOP[words[0]]), words[0]))
    elif words[0] in GROUPS and len(words) == 1:
        session.out.write(group_help(words[0]))
    elif (
        words[0] in GROUPS
        and len(words) == 2
        and ALIASES.get(" ".join(words), " ".join(words)).partition(" ")[2] in GROUPS[words[0]]
    ):
        path = ALIASES.get(" ".join(words), " ".join(words))
        session.out.write(command_help(load(path), path))
    else:
        raise CommandFailure(f"unknown help topic: {' '.join(words)}")


def _report(session: Session | None, error: CarrackError) -> int:
    """Prints a failure after what the command had to say, and returns the exit code it stands for."""
    from carrack.cli.console import Output

    err = session.err if session else Output(2)
    if session:
        session.input.restore()
        session.out.flush()
    text = str(error)
    if text:
        if session and ("No such " in text or "pull access denied" in text):
            from carrack.cli.suggestions import for_failure

            text += for_failure(session, text)
        err.line(text)
    err.flush()
    return error.code if isinstance(error, CommandFailure) else 1


def _die_by_signal(name: str) -> int:
    import os
    import signal

    number = getattr(signal, name)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + int(number)


if __name__ == "__main__":
    sys.exit(main())
