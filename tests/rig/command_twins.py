"""The same command line given to Docker's command and to ours: what each asks of a daemon, and what each says."""

import re
import shutil
import tarfile
from io import BytesIO
from typing import Any

from tests.rig.commands import Result, run
from tests.rig.engine import carrack_program
from tests.rig.recorder import Recorded, Recorder

DOCKER = shutil.which("docker")
IGNORED_HEADERS = {
    "user-agent",
    "accept-encoding",
    "content-length",
    "transfer-encoding",
    "host",
    "connection",
    "te",
    "traceparent",
}


def lines_of(text: str) -> list[str]:
    """The command lines of a text; one that begins with blanks goes on with the line before it."""
    return [line for line in re.sub(r"\n[ \t]+", " ", text.strip()).splitlines() if line]


def asked(recorder: Recorder, program: str, words: list[str]) -> tuple[list[Recorded], Result]:
    """What a program asks the recorder for, and how it ends."""
    environment = recorder.environment(FROM_OUTSIDE="yes", DOCKER_CLI_HINTS="false")
    result = run([program, *words], env=environment, timeout_seconds=20)
    return recorder.take(), result


def shape(requests: list[Recorded]) -> list[Any]:
    """A request without what may differ: the client's name, the connection's own headers, the order of a list that is a set."""
    shaped = []
    for request in requests:
        headers = {name: value for name, value in request.headers.items() if name not in IGNORED_HEADERS}
        if not request.body:
            headers.pop("content-type", None)
        body = request.body
        if isinstance(body, dict):
            if body.get("Env"):
                body["Env"] = sorted(body["Env"])  # Docker's command has them in a map, whose order is chance
            host_config = body.get("HostConfig") or {}
            if host_config.get("Binds"):
                host_config["Binds"] = sorted(host_config["Binds"])
            if (body.get("IPAM") or {}).get("Config"):
                body["IPAM"]["Config"].sort(key=lambda pool: pool["Subnet"])
            container = (body.get("TaskTemplate") or {}).get("ContainerSpec") or {}
            if container.get("Env"):
                container["Env"] = sorted(container["Env"])
            if container.get("Secrets"):
                container["Secrets"] = sorted(container["Secrets"], key=str)
        elif isinstance(body, str) and headers.get("content-type") == "application/x-tar":
            body = entries_of(body.encode("latin-1"))
        query = {name: values for name, values in request.query.items() if values != [""]}
        shaped.append((request.method, request.path, query, headers, body))
    return shaped


def entries_of(archive: bytes) -> list[tuple[str, int, int, str, bytes]]:
    """(name, mode, owner, kind, content) of an archive's entries, whatever it is compressed by."""
    with tarfile.open(fileobj=BytesIO(archive)) as opened:
        return sorted(
            (entry.name, entry.mode, entry.uid, str(entry.type), stream.read() if (stream := opened.extractfile(entry)) else b"")
            for entry in opened.getmembers()
        )


def compare(recorder: Recorder, words: list[str], *, stdout: bool = False) -> None:
    """Insists that both ask for the same, end with the same code and say the same on stderr, and on stdout if that is wanted."""
    assert DOCKER is not None
    theirs, their_result = asked(recorder, DOCKER, words)
    ours, our_result = asked(recorder, carrack_program(), words)
    assert shape(ours) == shape(theirs), our_result.stderr
    assert our_result.code == their_result.code
    if stdout:
        assert our_result.stdout.replace("carrack", "docker") == their_result.stdout
    ours_said = re.sub(r"\n\nDid you mean: .*", "", our_result.stderr)  # which Docker's command does not guess
    assert ours_said.replace("carrack", "docker").replace("Carrack", "Docker") == without_advice(their_result.stderr)


def without_advice(text: str) -> str:
    """Docker's advice to install buildx, which concerns a builder we do not have."""
    return re.sub(r"\ADEPRECATED: The legacy builder .*?\n\n", "", text, flags=re.DOTALL)


ID = re.compile(r"\b(sha256:)?[0-9a-f]{64}\b|\b[0-9a-f]{12}\b")
NORMAL: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?(Z|[+-]\d\d:?\d\d)( [A-Z]{3,4})?)?"), "<time>"),
    (re.compile(r"(Less than a second|About a minute|\d+ seconds?|\d+ minutes?)( ago)?"), "<age>"),
    (re.compile(r" {2,}"), "  "),
    (re.compile(r"\b[a-z]+_[a-z]+\b(?=\s*$)", re.MULTILINE), "<chance_name>"),
    (re.compile(r"\b\d{2}:\d{2}\b"), "<clock>"),
    (re.compile(r"^(root|\d+)  +\d+  +\d+", re.MULTILINE), r"\1 <pids>"),
    (re.compile(r"^\d+  +(?=\S)", re.MULTILINE), "<pid> "),
    (re.compile(r"lookup \S+( on \S+)?"), "lookup <name>"),
    (re.compile(r"on \d+\.\d+\.\d+\.\d+:53"), "on <resolver>"),
    (re.compile(r"\d+(\.\d+)?%|\d+(\.\d+)?[kMG]?i?B / [\d.]+[kMG]?i?B"), "<load>"),
)


def normal(text: str) -> str:
    """A text with what changes from one run to the next taken out, and the program's own name."""
    text = text.replace("Carrack", "Docker").replace("carrack", "docker")
    text = re.sub(r"\ADEPRECATED: The legacy builder .*?\n\n", "", text, flags=re.DOTALL)
    # said by chance: a goroutine that may or may not get to speak before the program ends
    text = re.sub(r'^time=".*" level=error msg=.*\n', "", text, flags=re.MULTILINE)
    text = text.replace("\nSRun '", "\nRun '")  # a slip of Docker's
    text = re.sub(r"\n\nDid you mean: .*", "", text)
    text = ID.sub("<id>", text)
    for pattern, replacement in NORMAL:
        text = pattern.sub(replacement, text)
    return text
