"""How a container looks in the list."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from carrack.cli.containers.list import names_of, show_ports
from carrack.cli.render.units import binary_size
from carrack.ui.feed import Reading

COLUMNS = ("", "Name", "Image", "Status", "CPU", "Memory", "Ports")
_MARKS = {
    "running": ("●", "green"),
    "paused": ("‖", "yellow"),
    "restarting": ("↻", "yellow"),
    "created": ("○", "dim"),
    "exited": ("■", "dim"),
    "dead": ("✖", "red"),
    "removing": ("✖", "dim"),
}


def cells(container: dict[str, Any], reading: Reading | None) -> list[Text]:
    """The cells of a row, in the order of COLUMNS."""
    mark, style = _MARKS.get(container["State"], ("?", ""))
    if container["State"] == "exited" and "Exited (0)" not in container["Status"]:
        style = "red"
    cpu = f"{reading.cpu_percent:5.1f}%" if reading else ""
    memory = binary_size(reading.memory_bytes) if reading else ""
    return [
        Text(mark, style),
        Text(names_of(container, truncate=True)),
        Text(str(container["Image"]).partition("@")[0]),
        Text(container["Status"], style if style != "green" else ""),
        Text(cpu, justify="right"),
        Text(memory, justify="right"),
        Text(show_ports(container.get("Ports") or [])),
    ]


def matches(container: dict[str, Any], wanted: str) -> bool:
    """Whether a container's name, image or status has the text in it."""
    text = f"{names_of(container, truncate=False)} {container['Image']} {container['Status']} {container['Id'][:12]}".lower()
    return all(word in text for word in wanted.lower().split())
