"""The body behind a URL, for `docker import URL`."""

from __future__ import annotations

from collections.abc import Iterator

from carrack.errors import InvalidParameter, NotFound, Unavailable

_CHUNK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60


def fetch_url(url: str) -> Iterator[bytes]:
    """What an http or https URL gives, in pieces. Raises InvalidParameter, NotFound, Unavailable."""
    from urllib.error import HTTPError, URLError  # rare: not worth its memory at every start
    from urllib.request import urlopen

    if "://" not in url:
        url = f"http://{url}"
    if not url.startswith(("http://", "https://")):
        raise InvalidParameter(f"unsupported scheme in {url!r}: want http or https")
    try:
        with urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
            while piece := response.read(_CHUNK_BYTES):
                yield piece
    except HTTPError as error:
        error.close()
        raise NotFound(f"got HTTP status {error.code} from {url}") from None
    except (URLError, OSError, ValueError) as error:
        raise Unavailable(f"cannot read {url}: {error}") from error
