"""What a shim itself reads of its StartOrder; the rest, environment and mounts, only its maker sees (`maker.py`)."""

from __future__ import annotations

import msgspec

from carrack.oci.runtime_spec import Hook
from carrack.shim.messages import Attach, ForeignRuntime, LogPlan, Wait


class AfterTheEnd(msgspec.Struct, frozen=True, rename="camel"):
    """Of a specification's hooks those that only the shim lives to run."""

    poststop: tuple[Hook, ...] = ()


class ShimSpec(msgspec.Struct, frozen=True, rename="camel"):
    """Of the specification what those hooks are told."""

    oci_version: str = "1.2.0"
    hooks: AfterTheEnd | None = None
    annotations: dict[str, str] | None = None


class ShimOrder(msgspec.Struct, frozen=True, tag_field="type", tag="start"):
    """The same names as in StartOrder, with the same meaning."""

    container_id: str
    cgroup: str
    socket_path: str
    state_directory: str
    log: LogPlan
    spec: ShimSpec = ShimSpec()
    seccomp: bytes = b""
    stdin_once: bool = False
    held_ports: int = 0
    attached: tuple[Attach, ...] = ()
    waiting: tuple[Wait, ...] = ()
    trace: bool = False
    tied: bool = False
    runtime: ForeignRuntime | None = None
    idle_seconds: float = 10.0
    version: int = 1


shim_orders: msgspec.json.Decoder[ShimOrder] = msgspec.json.Decoder(ShimOrder)
