"""`Mount`: the one value that snapshots, volumes, images and the runtime hand to each other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mount:
    """One file system to be put somewhere, in mount(8)'s words.

    `type` is a file system name (``overlay``, ``bind``, ``tmpfs``, …); `options` are fstab options, flags and data alike
    (``ro``, ``rbind``, ``nosuid``, ``lowerdir=…``). An overlay's layers travel in `lower` (topmost first) rather than in
    `options`, because their number has no bound that an option string could keep.
    """

    type: str
    source: str
    target: str = ""
    options: tuple[str, ...] = ()
    lower: tuple[str, ...] = ()
