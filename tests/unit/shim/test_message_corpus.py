"""The frozen corpus: every message of each released version, as its bytes were, must be read for ever.

A line of `corpus/v<N>.jsonl` is never changed. A new field (with a default) leaves it valid; a new message adds a line.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from carrack.shim import messages as m
from carrack.shim import wire

CORPUS = Path(__file__).parent / "corpus"
LINES = [line for file in sorted(CORPUS.glob("v*.jsonl")) for line in file.read_bytes().splitlines()]
KINDS = {kind.__struct_config__.tag for kind in get_args(m.Message)}


@pytest.mark.parametrize("line", LINES, ids=lambda line: msgspec.json.decode(line)["type"])
def test_a_recorded_message_is_still_read_with_every_field(line: bytes) -> None:
    recorded = msgspec.json.decode(line)
    again = msgspec.json.decode(wire.encode(wire.decode(line)))
    assert {key: again.get(key) for key in recorded} == recorded


def test_every_message_stands_in_the_corpus() -> None:
    assert {msgspec.json.decode(line)["type"] for line in LINES} == KINDS
