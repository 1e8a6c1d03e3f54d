"""`carrack images --tree`: each image with the platforms it holds."""

from __future__ import annotations

from carrack.cli.render.table import display_width
from carrack.cli.render.units import human_size, short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.console import Output

UNTAGGED = "<untagged>"


def print_tree(out: Output, images: list[dict[str, Any]], *, show_all: bool) -> None:
    """Prints images by name, their platforms below them. Manifests that are no images (attestations) are left out."""
    lines: list[tuple[str, str, str, str, str]] = []
    for image in sorted(images, key=lambda image: (not image.get("RepoTags"), image.get("RepoTags") or [], image["Id"])):
        parts = [
            part for part in image.get("Manifests") or [] if part.get("Kind") == "image" and (show_all or part.get("Available"))
        ]
        used = (
            "U" if (image.get("Containers") or 0) > 0 or any(part.get("ImageData", {}).get("Containers") for part in parts) else ""
        )
        names = image.get("RepoTags") or [UNTAGGED]
        content = sum([(part.get("Size") or {}).get("Content") or 0 for part in parts])
        lines.extend([(name, "", "", "", "") for name in names[:-1]])
        lines.append(
            (
                names[-1],
                short_id(image["Id"]),
                human_size(image.get("Size") or 0, 3),
                human_size(content, 3) if parts else "N/A",
                used,
            )
        )
        lines.extend(_part_lines(parts))
    headers = ("IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA")
    widths = [max([display_width(line[column]) for line in [headers, *lines]]) for column in range(5)]
    for line in [headers, *lines]:
        cells = [line[0].ljust(widths[0]), line[1].rjust(widths[1]), line[2].rjust(widths[2]), line[3].rjust(widths[3]), line[4]]
        out.line("   ".join(cells).rstrip())


def _part_lines(parts: list[dict[str, Any]]) -> list[tuple[str, str, str, str, str]]:
    lines = []
    for index, part in enumerate(parts):
        platform = part.get("ImageData", {}).get("Platform") or (part.get("Descriptor") or {}).get("platform") or {}
        fields = ("os", "architecture", "variant")
        name = "/".join([platform[field] for field in fields if platform.get(field)]) or "unknown"
        size = part.get("Size") or {}
        branch = "└─ " if index == len(parts) - 1 else "├─ "
        used = "U" if part.get("ImageData", {}).get("Containers") else ""
        lines.append(
            (
                branch + name,
                short_id(part["ID"]),
                human_size(size.get("Total") or 0, 3),
                human_size(size.get("Content") or 0, 3),
                used,
            )
        )
    return lines
