"""The `json-file` format, byte for byte Docker's: one JSON object per line with `log`, `stream`, `attrs` and `time`.

Strings are escaped as Go's encoder with HTML escaping does, times are RFC3339Nano. A whole read of many lines is escaped and
stamped by a handful of replacements over the block, never line by line.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from carrack.errors import DataCorrupt
from carrack.shim.framing import STDERR, STDOUT
from carrack.shim.logs.record import PARTIAL_BYTES, Batch, format_time_trimmed, parse_time

_NAMES = {STDOUT: b"stdout", STDERR: b"stderr"}
_CONTROLS = bytes([*range(0x0A), *range(0x0B, 0x20)])
_CONTROL_NAMES = {0x0D: b"\\r"} | {code: b"\\u%04x" % code for code in _CONTROLS if code != 0x0D}
_TAIL_BLOCK_BYTES = 128 * 1024


class _Line(msgspec.Struct):
    log: str = ""
    stream: str = "stdout"
    time: str = ""
    attrs: dict[str, str] | None = None


_decoder = msgspec.json.Decoder(_Line)


def attributes_member(attributes: dict[str, str]) -> bytes:
    """The `attrs` member, keys sorted as Go sorts a map's; empty without attributes."""
    if not attributes:
        return b""
    pairs = b",".join(b'"%b":"%b"' % (_escape_all(key), _escape_all(attributes[key])) for key in sorted(attributes))
    return b'"attrs":{%b},' % pairs


def encode_lines(lines: bytes, stream: int, time_nanoseconds: int, attributes: bytes = b"") -> bytes:
    """Whole lines (and perhaps a last one without line feed) as records of one time; overlong lines are cut into parts."""
    closing = b'","stream":"%b",%b"time":"%b"}\n' % (_NAMES[stream], attributes, format_time_trimmed(time_nanoseconds))
    if len(lines) >= PARTIAL_BYTES and (parts := _cut_overlong(lines)) is not None:
        return b"".join(_encode_block(part, closing) for part in parts)
    return _encode_block(lines, closing)


def _encode_block(lines: bytes, closing: bytes) -> bytes:
    opening = b'{"log":"'
    escaped = escape(lines)
    if escaped.endswith(b"\n"):
        return opening + escaped[:-1].replace(b"\n", b"\\n" + closing + opening) + b"\\n" + closing
    return opening + escaped.replace(b"\n", b"\\n" + closing + opening) + closing


def _cut_overlong(lines: bytes) -> list[bytes] | None:
    """The block cut so that no part holds a line of more than PARTIAL_BYTES before its end; None when there is no such line."""
    position, parts, begun = 0, [], 0
    while len(lines) - position > PARTIAL_BYTES:
        feed = lines.rfind(b"\n", position, position + PARTIAL_BYTES)
        if feed >= 0:
            position = feed + 1
            continue
        if position > begun:
            parts.append(lines[begun:position])
        parts.append(lines[position : position + PARTIAL_BYTES])
        position = begun = position + PARTIAL_BYTES
    if not parts:
        return None
    if begun < len(lines):
        parts.append(lines[begun:])
    return parts


def escape(content: bytes) -> bytes:
    """The inside of a JSON string as Go writes it, but with line feeds left as they are."""
    content = content.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    content = content.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")
    if len(content.translate(None, _CONTROLS)) != len(content):
        for code, name in _CONTROL_NAMES.items():
            content = content.replace(bytes((code,)), name)
    if content.isascii():
        return content
    try:
        content.decode()
    except UnicodeDecodeError:
        content = _replace_invalid(content)
    return content.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")


def _replace_invalid(content: bytes) -> bytes:
    """Each byte that belongs to no valid UTF-8 sequence becomes ``\\ufffd``, one by one as Go decodes."""
    text = content.decode("utf-8", "surrogateescape")
    return b"".join(b"\\ufffd" if "\udc80" <= c <= "\udcff" else c.encode() for c in text)


def _escape_all(text: str) -> bytes:
    return escape(text.encode()).replace(b"\n", b"\\n")


class Parser:
    """Takes a file's bytes in any portions, gives a batch for each line. Without `times` they are all 0, which is faster."""

    def __init__(self, *, times: bool = True) -> None:
        self._pending = b""
        self._times = times

    def feed(self, content: bytes) -> list[Batch]:
        """Raises DataCorrupt for a line that is no record; a last line without its end waits."""
        content = self._pending + content
        end = content.rfind(b"\n") + 1
        self._pending = content[end:]
        return [_parse(line, self._times) for line in content[:end].split(b"\n") if line]


def _parse(line: bytes, times: bool) -> Batch:
    try:
        decoded = _decoder.decode(line)
        time_nanoseconds = parse_time(decoded.time) if times else 0
    except (msgspec.MsgspecError, ValueError, IndexError) as error:
        raise DataCorrupt(f"a log record of the json-file driver is damaged: {error}") from None
    stream = STDERR if decoded.stream == "stderr" else STDOUT
    return Batch(stream, time_nanoseconds, [decoded.log.encode("utf-8", "surrogatepass")], decoded.attrs or {})


def complete_bytes(fd: int) -> int:
    """How much of the file is whole lines."""
    end = os.fstat(fd).st_size
    while end > 0:
        start = max(0, end - _TAIL_BLOCK_BYTES)
        feed = os.pread(fd, end - start, start).rfind(b"\n")
        if feed >= 0:
            return start + feed + 1
        end = start
    return 0


def find_tail(fd: int, size: int, lines: int, wanted: Callable[[int], bool]) -> tuple[int, int, int]:
    """Where the last `lines` records of the wanted streams begin: (offset of a line, 0, records found)"""
    found, end, block_bytes = 0, size, _TAIL_BLOCK_BYTES
    while found < lines and end > 0:
        start = max(0, end - block_bytes)
        block = os.pread(fd, end - start, start)
        begin = block.find(b"\n") + 1 if start else 0
        if start and begin in (0, len(block)):
            block_bytes *= 2
            continue
        position = len(block)
        while position > begin and found < lines:
            line_start = max(begin, block.rfind(b"\n", begin, position - 1) + 1)
            found += wanted(_stream_of(block[line_start:position]))
            position = line_start
        end = start + position
    return end, 0, found


def _stream_of(line: bytes) -> int:
    """Quotes inside the text are escaped, so the member's own spelling cannot occur in it."""
    return STDERR if b'"stream":"stderr"' in line else STDOUT
