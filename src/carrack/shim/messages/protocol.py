"""What every message is: a frozen value with a `type` tag, of one version of the protocol."""

from __future__ import annotations

import msgspec

VERSION = 1


class ProtocolMessage(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type"):
    """One message of the closed list in `carrack.shim.messages`; fields are only ever added, with defaults."""
