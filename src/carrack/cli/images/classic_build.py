"""A build in Docker's own way: the whole context in one tar to POST /build, and its progress messages."""

from __future__ import annotations

from carrack.cli.failure import CommandFailure
from carrack.cli.images.build_query import build_query
from carrack.cli.images.context import BuildContext, open_context
from carrack.cli.logins import all_logins
from carrack.cli.render.progress import ProgressDisplay
from carrack.cli.render.units import human_size
from carrack.client.codec import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from carrack.cli.console import Output
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session


def build_classic(session: Session, parsed: Parsed, context: BuildContext | None) -> str:
    """Build; the image's id, or "" when the daemon names none. `context` is what stdin has begun to give. Raises CommandFailure."""
    context = context or open_context(parsed.arguments[0], parsed.text("file"), session.input.fd)
    try:
        return _send(session, parsed, context)
    finally:
        context.close()


def _send(session: Session, parsed: Parsed, context: BuildContext) -> str:
    quiet = parsed.flag("quiet")
    headers = credentials(session)
    pieces = _count(context.pieces, None if quiet else session.out)
    if parsed.flag("compress"):
        pieces = _compressed(pieces)
    identity: list[str] = []
    kept = _Kept()
    out: Any = kept if quiet else session.out
    display = ProgressDisplay(out, on_aux=lambda aux: identity.append(str(aux.get("ID") or "")))
    query = build_query(session, parsed, context.dockerfile)
    with session.engine.request(
        "POST", "/build", query, content=pieces, media_type="application/x-tar", headers=headers
    ) as response:
        try:
            display.show_all(response.documents())
        except CommandFailure:
            if quiet:
                session.err.write("".join(kept.pieces))
            raise
    if quiet:
        text = "".join(kept.pieces)
        session.out.write(text)
        return text.strip()
    return identity[-1] if identity else ""


class _Kept:
    """Output held back until the end of a quiet build."""

    is_terminal = False

    def __init__(self) -> None:
        self.pieces: list[str] = []

    def write(self, text: str) -> None:
        self.pieces.append(text)

    def flush(self) -> None:
        """Nothing: it is held back."""

    def size(self) -> tuple[int, int]:
        return 0, 0


def credentials(session: Session) -> dict[str, str]:
    """The header that carries every login: a build may pull from any registry."""
    from binascii import b2a_base64

    logins = encode(all_logins(session.config)).encode()
    return {"X-Registry-Config": b2a_base64(logins, newline=False).decode().replace("+", "-").replace("/", "_")}


def _count(pieces: Iterator[bytes], out: Output | None) -> Iterator[bytes]:
    """Passes the context on and says how much it was, live on a terminal."""
    total = shown = 0
    for data in pieces:
        total += len(data)
        if out is not None and out.is_terminal and total - shown > 1 << 19:
            shown = total
            out.write(f"\x1b[2K\rSending build context to Carrack daemon  {human_size(total)}\r")
            out.flush()
        yield data
    if out is not None:
        out.write(("\x1b[2K\r" if out.is_terminal else "") + f"Sending build context to Carrack daemon  {human_size(total)}\n")
        out.flush()


def _compressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    import zlib

    squeezer = zlib.compressobj(wbits=31)
    for data in pieces:
        yield squeezer.compress(data)
    yield squeezer.flush()
