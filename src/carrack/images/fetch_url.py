"""The body behind a URL, for `docker import URL`."""

from __future__ import annotations

from collections.abc import Iterator

from carrack.errors import InvalidParameter, NotFound, Unavailable


def fetch_url(url: str) -> Iterator[bytes]:
    """What an http or https URL gives, in pieces. Raises InvalidParameter, NotFound, Unavailable."""
    from carrack.distribution.transport import Transport  # rare: not worth its memory at every start

    if "://" not in url:
        url = f"http://{url}"
    if not url.startswith(("http://", "https://")):
        raise InvalidParameter(f"unsupported scheme in {url!r}: want http or https")
    transport = Transport()
    try:
        answer = transport.request("GET", url, {}, to_plain=True)
        if answer.status != 200:
            answer.close()
            raise NotFound(f"got HTTP status {answer.status} from {url}")
        yield from answer.pieces()
    except Unavailable as error:
        raise Unavailable(f"cannot read {error.message}") from error
    finally:
        transport.close()
