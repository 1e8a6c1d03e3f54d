"""Builds through `POST /build`: a Dockerfile and some files in, the stream and the image out; and by the command."""

from __future__ import annotations

import http.client
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote, urlencode

from tests.rig.engine import CommandLine, Engine
from tests.rig.unix_http import UnixConnection

Files = Mapping[str, str | bytes]


@dataclass(frozen=True)
class Built:
    """What a build's stream said."""

    status: int
    lines: list[dict[str, Any]]
    message: str = ""
    """The message of an answer that was no stream."""

    @property
    def text(self) -> str:
        """All that was printed."""
        return "".join(line.get("stream", "") for line in self.lines)

    @property
    def error(self) -> str:
        return self.message or next((line["error"] for line in self.lines if "error" in line), "")

    @property
    def image(self) -> str:
        """The image's id."""
        ids = [line["aux"]["ID"] for line in self.lines if "aux" in line]
        assert ids, f"no image: {self.error or self.text}"
        return str(ids[-1])

    @property
    def cached(self) -> int:
        """How many steps came from the cache."""
        return self.text.count("Using cache")


def context(dockerfile: str, files: Files | None = None) -> bytes:
    """A build context as a tar."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as archive:
        for name, content in {"Dockerfile": dockerfile, **(files or {})}.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    return body.getvalue()


def try_build(engine: Engine, dockerfile: str, files: Files | None = None, **query: object) -> Built:
    """Build; `query` are the parameters of the route, a dictionary or list as JSON, a tuple as several."""
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        for each in value if isinstance(value, tuple) else (value,):
            pairs.append((name, json.dumps(each) if isinstance(each, (dict, list)) else str(each)))
    target = f"/build?{urlencode(pairs, quote_via=quote)}"
    body, kind = context(dockerfile, files), {"Content-Type": "application/x-tar"}
    answer = engine.api("POST", target, body, headers=kind, timeout_seconds=60.0)
    if answer.status != 200:
        return Built(answer.status, [], json.loads(answer.body)["message"])
    return Built(200, [json.loads(line) for line in answer.body.splitlines() if line.strip()])


def build(engine: Engine, dockerfile: str, files: Files | None = None, **query: object) -> Built:
    """Build, and insist that it succeeds."""
    built = try_build(engine, dockerfile, files, **query)
    assert not built.error, f"{built.error}\n{built.text}"
    return built


def printed(built: Built) -> list[str]:
    """What the steps themselves printed: the stream without the builder's own lines."""
    own = ("Step ", " ---> ", "Successfully ", "Removing intermediate", "Removed intermediate", "[Warning]")
    return [line for line in built.text.splitlines() if line and not line.startswith(own)]


def config_of(engine: Engine, built: Built) -> dict[str, Any]:
    """The `Config` of the image."""
    answer = engine.api("GET", f"/images/{built.image}/json")
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json["Config"]
    return found


class BuildStream:
    """A build whose stream is read while it goes on. Closing it is the client's leaving."""

    def __init__(self, engine: Engine, dockerfile: str, files: Files | None = None, **query: str) -> None:
        self._connection = UnixConnection(engine.socket, 60.0)
        target = f"/build?{urlencode(query)}"
        self._connection.request("POST", target, context(dockerfile, files), {"Content-Type": "application/x-tar"})
        self._response: http.client.HTTPResponse | None = None
        self.text = ""

    def until(self, words: str) -> None:
        """Read until the stream has said this."""
        while words not in self.text:
            line = self._line()
            assert line, f"the stream ended without {words!r}: {self.text}"
            self.text += line

    def rest(self) -> str:
        """Read to the end."""
        while line := self._line():
            self.text += line
        return self.text

    def _line(self) -> str:
        if self._response is None:
            self._response = self._connection.getresponse()
        line = self._response.readline()
        document = json.loads(line) if line.strip() else {}
        return str(document.get("stream") or document.get("error") or (" " if document else ""))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
        self._connection.close()


def built(cli: CommandLine, *words: str) -> str:
    """Build by the command, and insist that it succeeds; the steps as plain text."""
    done = cli("build", "--progress", "plain", *words, timeout_seconds=90)
    assert done.code == 0, str(done)
    return done.stdout + done.stderr
