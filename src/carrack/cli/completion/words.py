"""The words that may come next on a command line. What a command takes is read from the command table itself: its usage line
names its arguments (`CONTAINER [CONTAINER...]`), its flags say what they hold. Names come from the daemon.

The protocol is that of Docker's command: `carrack __complete WORD… LAST` prints a candidate a line, `candidate<TAB>description`,
then `:` and a number whose bits are the Directive.
"""

from __future__ import annotations

from carrack.cli.catalogue import ALIASES, GROUP_SUMMARIES, GROUPS, HIDDEN, TOP, load
from carrack.cli.completion.names import Names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from carrack.cli.command import Command
    from carrack.cli.flags import Flag

    Candidates = list[tuple[str, str]]

NO_SPACE, NO_FILES = 2, 4
"""Bits of the directive: no blank after the word; file names are no candidates."""

_FLAG_VALUES: dict[str, str] = {
    "cap-add": "@capabilities",
    "cap-drop": "@capabilities",
    "context": "@contexts",
    "driver": "@drivers",
    "env": "@variables",
    "env-add": "@variables",
    "format": "json table",
    "ipc": "host private shareable none",
    "isolation": "default process hyperv",
    "log-driver": "local json-file none",
    "log-level": "debug info warn error fatal",
    "net": "@networks",
    "network": "@networks",
    "network-add": "@networks",
    "pid": "host",
    "platform": "linux/amd64 linux/arm64 linux/arm/v7 linux/386 linux/ppc64le linux/riscv64 linux/s390x",
    "pull": "always missing never",
    "restart": "no always on-failure unless-stopped",
    "restart-condition": "none on-failure any",
    "mode": "replicated global replicated-job global-job",
    "endpoint-mode": "vip dnsrr",
    "availability": "active pause drain",
    "role": "worker manager",
    "resolve-image": "always changed never",
    "signal": "@signals",
    "stop-signal": "@signals",
    "type": "container image network volume service node secret config plugin task",
    "userns": "host",
    "uts": "host",
    "cgroupns": "host private",
    "volumes-from": "@containers",
    "link": "@containers",
    "secret": "@secrets",
    "secret-add": "@secrets",
    "config-add": "@configs",
    "security-opt": "no-new-privileges seccomp=unconfined apparmor=unconfined label=disable",
}
_FILES = frozenset(
    "env-file label-file cidfile iidfile metadata-file file compose-file input output tlscacert tlscert tlskey ca-cert ca-key "
    "config checkpoint-dir volume mount device build-arg tmpfs workdir".split()
)
_FILTERS: dict[str, str] = {
    "container ls": "ancestor before exited expose health id is-task isolation label name network publish since status volume",
    "image ls": "before dangling label reference since until",
    "network ls": "dangling driver id label name scope type",
    "volume ls": "dangling driver label name",
    "system events": "config container daemon event image label network node plugin scope secret service type volume",
    "search": "is-official stars",
    "service ls": "id label mode name",
    "service ps": "desired-state id name node",
    "node ls": "id label membership name node.label role",
    "node ps": "desired-state id label name",
    "secret ls": "id label name",
    "config ls": "id label name",
    "plugin ls": "capability enabled",
    "stack ps": "desired-state id name node",
    "stack services": "id label mode name",
}
_PRUNE_FILTERS = "label label! until"
_RUNNING = ("attach", "exec", "kill", "pause", "port", "restart", "stats", "stop", "top")
_STATES = {**dict.fromkeys([f"container {name}" for name in _RUNNING], "running"), "container start": "stopped"}
_STATES["container unpause"] = "paused"
_ARGUMENTS = {
    "CONTAINER": "@containers",
    "IMAGE": "@images",
    "SOURCE_IMAGE[:TAG]": "@images",
    "NAME[:TAG]": "@images",
    "NAME[:TAG|@DIGEST]": "@images",
    "NETWORK": "@networks",
    "VOLUME": "@volumes",
    "CONTEXT": "@contexts",
    "NODE": "@nodes",
    "self|NODE": "@nodes",
    "SERVICE": "@services",
    "SERVICE|TASK": "@services",
    "SERVICE=REPLICAS": "@services=",
    "SECRET": "@secrets",
    "CONFIG": "@configs",
    "PLUGIN": "@plugins",
    "STACK": "@stacks",
    "NAME|ID": "@containers @images @networks @volumes",
    "(worker|manager)": "worker manager",
    "CONTAINER:SRC_PATH": "@containers:",
    "SERVER": "@servers",
}


def complete(words: Sequence[str]) -> tuple[Candidates, int]:
    """(what the last of the words may become, the directive)."""
    from carrack.cli.flags import parse_table
    from carrack.cli.session import GLOBAL_FLAGS

    *before, last = words or [""]
    flags = parse_table(GLOBAL_FLAGS)
    waiting, rest, taken = _skip_flags(before, flags)
    names = Names(taken)
    if waiting is not None:
        return _flag_values(waiting, "", last, names)
    if not rest:
        if last.startswith("-"):
            return _flags(flags, last, names, "")
        return _matching(_top_words(), last), NO_FILES
    if rest[0] == "help":
        rest = rest[1:]
        if not rest:
            return _matching(_top_words(), last), NO_FILES
    name = rest[0]
    if name in TOP:
        return _of_command(load(TOP[name]), rest[1:], last, names)
    if name not in GROUPS:
        return [], 0
    if len(rest) == 1:
        entries = [(word, _summary(f"{name} {word}")) for word in sorted(GROUPS[name]) if f"{name} {word}" not in HIDDEN]
        return _matching(entries, last), NO_FILES
    path = ALIASES.get(f"{name} {rest[1]}", f"{name} {rest[1]}")
    if path.partition(" ")[2] not in GROUPS[name]:
        return [], NO_FILES
    return _of_command(load(path), rest[2:], last, names)


def _summary(path: str) -> str:
    return load(path).summary.partition("\n")[0]


def _top_words() -> Candidates:
    return [(name, _summary(TOP[name])) for name in sorted(TOP)] + [(name, GROUP_SUMMARIES[name]) for name in sorted(GROUPS)]


def _matching(candidates: Iterable[tuple[str, str]], last: str) -> Candidates:
    return [pair for pair in candidates if pair[0].startswith(last)]


def _skip_flags(words: Sequence[str], flags: dict[str, Flag]) -> tuple[Flag | None, list[str], dict[str, str]]:
    """(the flag whose value comes next, the words from the first that is no flag on, the values of flags so far)."""
    shorthands = {flag.shorthand: flag for flag in flags.values() if flag.shorthand}
    taken: dict[str, str] = {}
    position = 0
    while position < len(words):
        word = words[position]
        if not word.startswith("-") or word == "-":
            return None, list(words[position:]), taken
        flag, value = _flag_of(word, flags, shorthands)
        position += 1
        if flag is None or flag.kind == "bool":
            continue
        if value is None:
            if position == len(words):
                return flag, [], taken
            value = words[position]
            position += 1
        taken[flag.name] = value
    return None, [], taken


def _flag_of(word: str, flags: dict[str, Flag], shorthands: dict[str, Flag]) -> tuple[Flag | None, str | None]:
    """(the flag a word gives, its value if it is in the word); of a cluster the flag that takes a value."""
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        return flags.get(name), value if equals else None
    for index, letter in enumerate(word[1:], 1):
        flag = shorthands.get(letter)
        if flag is None or flag.kind != "bool":
            rest = word[index + 1 :]
            return flag, (rest.removeprefix("=") or None) if flag is not None else None
    return None, None


def _of_command(command: Command, words: Sequence[str], last: str, names: Names) -> tuple[Candidates, int]:
    flags = command.flags
    shorthands = {flag.shorthand: flag for flag in flags.values() if flag.shorthand}
    arguments: list[str] = []
    waiting: Flag | None = None
    only_arguments = False
    for word in words:
        if waiting is not None:
            waiting = None
        elif only_arguments or not word.startswith("-") or word == "-":
            arguments.append(word)
            only_arguments = only_arguments or not command.interspersed
        elif word == "--":
            only_arguments = True
        else:
            flag, value = _flag_of(word, flags, shorthands)
            if flag is not None and flag.kind != "bool" and value is None:
                waiting = flag
    if waiting is not None:
        return _flag_values(waiting, command.path, last, names)
    if last.startswith("-") and not only_arguments:
        return _flags(flags, last, names, command.path)
    return _arguments(command, arguments, last, names)


def _flags(flags: dict[str, Flag], last: str, names: Names, path: str) -> tuple[Candidates, int]:
    name, equals, value = last.partition("=")
    if equals and name.removeprefix("--") in flags:
        found, directive = _flag_values(flags[name.removeprefix("--")], path, value, names)
        return [(f"{name}={word}", text) for word, text in found], directive
    shown = [(f"--{flag.name}", flag.help) for flag in flags.values() if not flag.hidden] + [
        ("--help", "Print what the command does")
    ]
    return _matching(sorted(shown), last), NO_FILES


def _flag_values(flag: Flag, path: str, last: str, names: Names) -> tuple[Candidates, int]:
    if flag.name == "filter":
        words = _FILTERS.get(path, _PRUNE_FILTERS if path.endswith("prune") else "")
        return _matching([(f"{word}=", "") for word in words.split()], last), NO_FILES | NO_SPACE
    if flag.name in _FLAG_VALUES and not (flag.name == "config" and not path):
        return _matching(names.expand(_FLAG_VALUES[flag.name]), last), NO_FILES
    if flag.name == "volume" and "/" not in last and not last.startswith("."):
        return _matching([(f"{word}:", text) for word, text in names.expand("@volumes")], last), NO_SPACE
    return [], 0 if flag.name in _FILES or flag.kind in ("string", "strings", "list", "mount", "pem-file") else NO_FILES


def _arguments(command: Command, arguments: list[str], last: str, names: Names) -> tuple[Candidates, int]:
    places = [place for place in command.usage.split("\n")[0].replace("{}", "").split() if place != "[OPTIONS]"]
    if command.path == "container cp":
        return _copy_places(last, names)
    if not places or (len(arguments) >= command.at_most):
        return [], NO_FILES
    place = places[min(len(arguments), len(places) - 1)]
    if command.path in ("container exec", "container run", "container create", "service create") and len(arguments) >= 1:
        return [], 0  # the command in the container: any word
    word = place.strip("[]").removesuffix("...")
    wanted = _ARGUMENTS.get(place.strip("[]") if place.endswith("]") and "[:" not in place else place, _ARGUMENTS.get(word, ""))
    if not wanted:
        takes_files = any(part in word.lower() for part in ("file", "path", "url", "dir", "-"))
        return [], 0 if takes_files else NO_FILES
    state = _STATES.get(command.path, "")
    found = _matching(names.expand(wanted, state=state), last)
    chosen = set(arguments)
    return [pair for pair in found if pair[0] not in chosen], NO_FILES | (NO_SPACE if wanted[-1] in "=:" else 0)


def _copy_places(last: str, names: Names) -> tuple[Candidates, int]:
    if last.startswith((".", "/", "~")) or ":" in last:
        return [], 0
    return _matching([(f"{name}:", text) for name, text in names.expand("@containers")], last), NO_SPACE
