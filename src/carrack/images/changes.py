"""`--change`: the few Dockerfile instructions that `import` and `commit` apply to a configuration (Dockerfile reference).

Each is one line. Words may be quoted as in a Dockerfile; ``$NAME`` and ``${NAME}`` stand for variables that the configuration sets.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence

import msgspec
from msgspec.structs import replace

from carrack.errors import InvalidParameter
from carrack.oci.image_config import ExecutionConfig, Healthcheck

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)")
_NANOSECONDS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000}
_SHELL = ["/bin/sh", "-c"]

_Apply = Callable[[ExecutionConfig, str], ExecutionConfig]


def apply_changes(config: ExecutionConfig, changes: Sequence[str]) -> ExecutionConfig:
    """The configuration after some instructions, in their order. Raises InvalidParameter."""
    for change in changes:
        for line in change.splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                config = _apply(config, line.strip())
    return config


def _apply(config: ExecutionConfig, line: str) -> ExecutionConfig:
    word, _, rest = line.partition(" ")
    apply = _INSTRUCTIONS.get(word.upper())
    if apply is None:
        raise InvalidParameter(f"{word} is not a valid change command")
    if not rest.strip():
        raise InvalidParameter(f"{word.upper()} requires at least one argument")
    return apply(config, rest.strip())


def _cmd(config: ExecutionConfig, rest: str) -> ExecutionConfig:
    return replace(config, cmd=_command(rest))


def _entrypoint(config: ExecutionConfig, rest: str) -> ExecutionConfig:
    return replace(config, entrypoint=_command(rest))


def _env(config: ExecutionConfig, rest: str) -> ExecutionConfig:
    env = list(config.env or ())
    for name, value in _pairs("ENV", config, rest):
        env = [entry for entry in env if entry.partition("=")[0] != name] + [f"{name}={value}"]
    return replace(config, env=env)


def _label(config: ExecutionConfig, rest: str) -> ExecutionConfig:
    return replace(config, labels={**(config.labels or {}), **dict(_pairs("LABEL", config, rest))})


def _expose(config: ExecutionConfig, rest: str) -> ExecutionConfig:
    ports = dict(config.exposed_ports or {})
    for word in _words(config, rest):
        match = _PORT.fullmatch(word)
        if match is None:
            raise InvalidParameter(f"invalid containerPort: {word}")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 0 < first <= last <= 65535:
            raise InvalidParameter(f"invalid containerPort: {word}")
        for port in range(first, last + 1):
            ports[f"{port}/{(match[3] or 'tcp').lower()}"] = {}
    return replace(config, exposed_ports=ports)


def _user(config: ExecutionConfig, rest: str) -> ExecutionConfig:
    words = _words(config, rest)
    if len(words) != 1:
        raise InvalidParameter("USER requires exactly one argument")
    return replace(config, user=words[0])


def _volume(config: ExecutionConfig, rest: str) -> ExecutionConfig:
    volumes = dict(config.volumes or {})
    for path in _json_words(rest) or _words(config, rest):
        if not path.strip():
            raise InvalidParameter("VOLUME specified can not be an empty string")
        volumes[path.strip()] = {}
    return replace(config, volumes=volumes)


def _workdir(config: ExecutionConfig, rest: str) -> ExecutionConfig:
    path = _unquote(config, rest)
    return replace(config, working_dir=posixpath.normpath(posixpath.join("/", config.working_dir, path)))


def _onbuild(config: ExecutionConfig, rest: str) -> ExecutionConfig:
    trigger = rest.partition(" ")[0].upper()
    if trigger in ("ONBUILD", "MAINTAINER", "FROM"):
        raise InvalidParameter(f"{trigger} isn't allowed as an ONBUILD trigger")
    return replace(config, on_build=[*(config.on_build or ()), rest])


def _stop_signal(config: ExecutionConfig, rest: str) -> ExecutionConfig:
    return replace(config, stop_signal=_unquote(config, rest))


def _healthcheck(config: ExecutionConfig, rest: str) -> ExecutionConfig:
    options: dict[str, int] = {}
    while rest.startswith("--"):
        option, _, rest = rest.partition(" ")
        name, _, value = option[2:].partition("=")
        field = name.replace("-", "_")
        if field == "retries" and value.isascii() and value.isdecimal() and len(value) < 10:
            options[field] = int(value)
        elif field in ("interval", "timeout", "start_period", "start_interval"):
            options[field] = _duration(value)
        else:
            raise InvalidParameter(f"unknown flag: {option}")
        rest = rest.strip()
    kind, _, command = rest.partition(" ")
    if kind.upper() == "NONE" and not command:
        return replace(config, healthcheck=Healthcheck(test=["NONE"]))
    if kind.upper() != "CMD" or not command.strip():
        raise InvalidParameter(f"Unknown type {kind!r} in HEALTHCHECK (try CMD)")
    words = _json_words(command)
    test = ["CMD", *words] if words is not None else ["CMD-SHELL", command.strip()]
    return replace(config, healthcheck=msgspec.convert({"Test": test, **{_pascal(k): v for k, v in options.items()}}, Healthcheck))


_INSTRUCTIONS: dict[str, _Apply] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}


def _pascal(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _duration(text: str) -> int:
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidParameter(f"invalid duration {text!r}")
    return round(sum(float(number) * _NANOSECONDS[unit] for number, unit in parts))


def _command(rest: str) -> list[str]:
    """A JSON list is a command as it is, anything else a line for the shell."""
    words = _json_words(rest)
    return words if words is not None else [*_SHELL, rest]


def _json_words(rest: str) -> list[str] | None:
    if not rest.startswith("["):
        return None
    try:
        return msgspec.json.decode(rest, type=list[str])
    except (msgspec.DecodeError, RecursionError):
        return None


def _pairs(instruction: str, config: ExecutionConfig, rest: str) -> list[tuple[str, str]]:
    """``a=b "c=d e"``, or the old ``a rest of the line``."""
    raw = _split(rest)
    if "=" not in raw[0]:
        name, _, value = rest.partition(" ")
        if not value.strip():
            raise InvalidParameter(f"{instruction} must have two arguments")
        return [(name, _expand(config, value.strip()))]
    pairs: list[tuple[str, str]] = []
    for word in raw:
        name, equals, value = _unquote(config, word).partition("=")
        if not equals:
            raise InvalidParameter(f"Syntax error - can't find = in {word!r}. Must be of the form: name=value")
        if not name:
            raise InvalidParameter(f"{instruction} names can not be blank")
        pairs.append((name, value))
    return pairs


def _words(config: ExecutionConfig, rest: str) -> list[str]:
    return [_unquote(config, word) for word in _split(rest)]


def _split(text: str) -> list[str]:
    """Words as they are written, quotes and backslashes still in them."""
    words: list[str] = []
    word, quote, escaped = "", "", False
    for letter in text:
        if escaped:
            word, escaped = word + letter, False
        elif letter == "\\" and quote != "'":
            word, escaped = word + letter, True
        elif quote:
            word += letter
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            word, quote = word + letter, letter
        elif letter.isspace():
            words, word = ([*words, word], "") if word else (words, "")
        else:
            word += letter
    if quote:
        raise InvalidParameter(f"unexpected end of statement while looking for matching {quote}")
    return [*words, word] if word else words


def _unquote(config: ExecutionConfig, word: str) -> str:
    """A word as it is meant: quotes and backslashes gone, variables replaced outside single quotes."""
    done, plain, quote = "", "", ""
    position = 0
    while position < len(word):
        letter = word[position]
        position += 1
        if letter == "\\" and quote != "'" and position < len(word):
            done, plain = done + _expand(config, plain) + word[position], ""
            position += 1
        elif quote == "'" and letter != "'":
            done += letter
        elif letter == quote or (not quote and letter in "'\""):
            done, plain = done + _expand(config, plain), ""
            quote = "" if quote else letter
        else:
            plain += letter
    return done + _expand(config, plain)


def _expand(config: ExecutionConfig, text: str) -> str:
    if "$" not in text:
        return text
    values = dict(entry.partition("=")[::2] for entry in config.env or ())
    return _VARIABLE.sub(lambda match: values.get(match[1] or match[2], ""), text)
