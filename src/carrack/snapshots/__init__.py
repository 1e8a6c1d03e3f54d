"""Layers as directories, and the writable snapshots that containers run in."""

from carrack.snapshots.layers import LayerStore
from carrack.snapshots.native import Native
from carrack.snapshots.overlay import Overlay
from carrack.snapshots.snapshotter import Layer, Snapshotter
from carrack.snapshots.trash import Trash

__all__ = ["Layer", "LayerStore", "Native", "Overlay", "Snapshotter", "Trash"]
