"""Aligned columns by the rules of Go's text/tabwriter, with Docker's measures: at least 10 wide, 3 apart.

A cell ends with a tab; a column is a run of lines that have a cell in the same place; the last text of a line belongs to none.
"""

from __future__ import annotations

MINIMUM_WIDTH = 10
PADDING = 3


def display_width(text: str) -> int:
    """How many places a terminal gives the text: two for East Asian wide characters."""
    if text.isascii():
        return len(text)
    from unicodedata import east_asian_width

    return sum([2 if east_asian_width(character) in "WF" else 1 for character in text])


def align(text: str, *, minimum: int = MINIMUM_WIDTH, padding: int = PADDING) -> str:
    """Replaces the tabs in whole lines of text with the spaces that align their cells."""
    lines = [line.split("\t") for line in text.split("\n")]
    output: list[str] = []
    _format(lines, 0, len(lines), [], output, minimum, padding)
    return "".join(output)[:-1]  # the split adds one line after the last line break


def _format(lines: list[list[str]], start: int, end: int, widths: list[int], output: list[str], minimum: int, padding: int) -> None:
    column = len(widths)
    at = start
    while at < end:
        if column >= len(lines[at]) - 1:
            at += 1
            continue
        for line in lines[start:at]:
            output.append(_line(line, widths))
        block_end = at
        width = minimum
        while block_end < end and column < len(lines[block_end]) - 1:
            width = max(width, display_width(lines[block_end][column]) + padding)
            block_end += 1
        _format(lines, at, block_end, [*widths, width], output, minimum, padding)
        start = at = block_end
    for line in lines[start:end]:
        output.append(_line(line, widths))


def _line(cells: list[str], widths: list[int]) -> str:
    pieces: list[str] = []
    for index, cell in enumerate(cells):
        pieces.append(cell)
        if index < len(widths) and index < len(cells) - 1:
            pieces.append(" " * (widths[index] - display_width(cell)))
    return "".join(pieces) + "\n"
