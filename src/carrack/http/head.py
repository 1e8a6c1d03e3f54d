"""A request's head: read by llhttp (through httptools), then held against the rules a server must enforce (RFC 9112).

llhttp judges the characters, the version and the framing fields (a length beside chunks, two lengths); what is added here is the
Host field, the form of the target, and which framing the body has.
"""

from __future__ import annotations

from dataclasses import dataclass

import httptools

from carrack.errors import InvalidParameter
from carrack.http.framing import Body, BrokenFraming, ChunkedBody, LengthBody, NoBody
from carrack.http.headers import Headers, Query, unescape

HEADER_COUNT_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Head:
    """What stands before the body."""

    method: str
    raw_target: str
    path: str
    """Decoded, without the query."""
    query: Query
    headers: Headers
    http_version: str
    """1.1 or 1.0."""
    body: Body
    keep_alive: bool
    """Whether the client would send another request after the answer to this one."""
    expects_continue: bool


def parse_head(text: bytes) -> Head:
    """Read a head that ends in its empty line. Raises BrokenFraming with the reason."""
    reader = _Reader()
    parser = httptools.HttpRequestParser(reader)
    try:
        parser.feed_data(text)
    except httptools.HttpParserUpgrade:
        pass  # llhttp would stop here; what becomes of the connection is the answer's affair
    except httptools.HttpParserError as error:
        raise BrokenFraming(f"malformed HTTP request: {_reason(error)}") from error
    version = parser.get_http_version()
    if not reader.complete or version not in ("1.1", "1.0"):
        raise BrokenFraming("malformed HTTP request")
    headers = Headers(reader.fields)
    if len(hosts := headers.all("host")) != 1 and (hosts or version == "1.1"):
        raise BrokenFraming("missing required Host header" if not hosts else "too many Host headers")
    try:
        raw_target = reader.target.decode("ascii")
        path, query = split_target(raw_target)
    except (UnicodeDecodeError, InvalidParameter) as error:
        raise BrokenFraming(f"malformed HTTP request: {error}") from error
    connection = headers.tokens("connection")
    return Head(
        method=parser.get_method().decode("ascii"),
        raw_target=raw_target,
        path=path,
        query=query,
        headers=headers,
        http_version=version,
        body=_body(headers),
        keep_alive="close" not in connection and (version == "1.1" or "keep-alive" in connection),
        expects_continue=version == "1.1" and headers.get("expect").lower() == "100-continue",
    )


def split_target(target: str) -> tuple[str, Query]:
    """Path (decoded) and query of a request target in origin-form, absolute-form or asterisk-form. Raises InvalidParameter."""
    path, _, query = target.partition("#")[0].partition("?")
    if not path.startswith("/") and "://" in path:
        path = "/" + path.partition("://")[2].partition("/")[2]
    return unescape(path), Query(query)


class _Reader:
    """Collects what the parser calls out."""

    __slots__ = ("complete", "fields", "target")

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, piece: bytes) -> None:
        self.target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))
        if len(self.fields) > HEADER_COUNT_LIMIT:
            raise BrokenFraming("too many header fields")

    def on_headers_complete(self) -> None:
        self.complete = True


def _body(headers: Headers) -> Body:
    coding = headers.get("transfer-encoding")
    if coding:
        if coding.lower() != "chunked" or len(headers.all("transfer-encoding")) > 1:
            raise BrokenFraming(f'unsupported transfer encoding: "{coding}"')
        if "content-length" in headers:
            raise BrokenFraming("both Content-Length and Transfer-Encoding")
        return ChunkedBody()
    lengths = headers.all("content-length")
    if not lengths:
        return NoBody()
    if len(lengths) > 1 or not lengths[0].isdecimal() or not lengths[0].isascii() or len(lengths[0]) > 18:
        raise BrokenFraming(f'bad Content-Length "{lengths[0]}"')
    return LengthBody(int(lengths[0]))


def _reason(error: Exception) -> str:
    if isinstance(error.__context__, BrokenFraming):
        return error.__context__.message
    text = str(error.args[0]) if error.args else ""
    return text[:1].lower() + text[1:]
