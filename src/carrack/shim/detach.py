"""The detach keys: bytes of a client's input that end the client and leave the container running."""

from __future__ import annotations


class DetachKeys:
    """Watches input for one sequence, also when it arrives in several packets.

    A begun sequence is held back until it is completed or broken; broken, its bytes go on to the container, and the byte that
    broke it may begin the sequence anew (`^P ^P ^Q` detaches with the first ^P passed on).
    """

    def __init__(self, sequence: bytes) -> None:
        self._sequence = sequence
        self._matched = 0

    def feed(self, content: bytes) -> tuple[bytes, bool]:
        """(what goes on to the container, whether the sequence is complete). Bytes after a complete sequence are dropped."""
        sequence = self._sequence
        if not sequence or (not self._matched and sequence[0] not in content):
            return content, False
        passed = bytearray()
        for byte in content:
            while self._matched and byte != sequence[self._matched]:
                passed += self._give_up_one()
            if byte != sequence[self._matched]:
                passed.append(byte)
                continue
            self._matched += 1
            if self._matched == len(sequence):
                self._matched = 0
                return bytes(passed), True
        return bytes(passed), False

    def rest(self) -> bytes:
        """What is held back; at the end of input it belongs to the container after all."""
        held, self._matched = self._sequence[: self._matched], 0
        return held

    def _give_up_one(self) -> bytes:
        """Shift the match to the next place where the held bytes could begin the sequence; returns the bytes let go."""
        held = self._sequence[: self._matched]
        for start in range(1, len(held) + 1):
            if self._sequence.startswith(held[start:]):
                self._matched = len(held) - start
                return held[:start]
        raise AssertionError("the empty suffix always matches")
