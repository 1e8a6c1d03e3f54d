"""`update`: what changes of a container's limits and restart policy, and putting it in force in its cgroup."""

from __future__ import annotations

import msgspec

from carrack.engine import request, resources, specification
from carrack.engine.config import HostConfig, UpdateRequest
from carrack.engine.resources import Machine
from carrack.errors import InvalidParameter, SystemFailure
from carrack.runtime.cgroups import Cgroup

_ONLY_AT_CREATE = ("cgroup_parent", "devices", "device_cgroup_rules", "device_requests", "ulimits", "oom_kill_disable")
"""Resources that `create` takes and `update` leaves as they are, as with dockerd."""
_OF_DEVICES = (
    "blkio_weight_device",
    "blkio_device_read_bps",
    "blkio_device_write_bps",
    "blkio_device_read_iops",
    "blkio_device_write_iops",
)
"""Lists of which null (or nothing) keeps what there is, and an empty one ends it."""


def changed(host: HostConfig, wanted: UpdateRequest, machine: Machine) -> tuple[HostConfig, list[str]]:
    """The configuration after the update, and warnings. Raises InvalidParameter; `host` stays as it is."""
    warnings = resources.check(wanted, machine, update=True)
    resources.check_change(host, wanted)
    after = msgspec.structs.replace(host)
    for field in UpdateRequest.__struct_fields__:
        value = getattr(wanted, field)
        if field != "restart_policy" and field not in _ONLY_AT_CREATE and value not in (0, "", None, []):
            setattr(after, field, value)
    for field in _OF_DEVICES:
        if getattr(wanted, field) == []:
            setattr(after, field, None)
    if wanted.pids_limit == 0:
        after.pids_limit = None
    if wanted.restart_policy.name:
        if host.auto_remove and wanted.restart_policy.name != "no":
            raise InvalidParameter("Restart policy cannot be updated because AutoRemove is enabled for the container")
        request.check_restart_policy(wanted.restart_policy, host.auto_remove)
        after.restart_policy = wanted.restart_policy
    resources.check(after, machine)
    return after, warnings


def apply(cgroup: Cgroup, before: HostConfig, after: HostConfig) -> None:
    """Put the limits in force; what the kernel refuses leaves those before. Raises SystemFailure. Blocking."""
    try:
        cgroup.update(specification.limits(_explicit(after, before)))
    except OSError as error:
        try:
            cgroup.update(specification.limits(_explicit(before, after)))
        except OSError:
            pass  # the refusal is what the user can act on
        raise SystemFailure(f"cannot update the container: {error.filename or 'cgroup'}: {error.strerror or error}") from error


def _explicit(host: HostConfig, other: HostConfig) -> HostConfig:
    """With what is no limit said as such, where there may have been one: of processes, of the devices that only `other` names."""
    said = msgspec.structs.replace(host, pids_limit=host.pids_limit or -1)
    for field in _OF_DEVICES:
        mine = getattr(host, field) or []
        kept = {device.path for device in mine}
        gone = [type(device)(device.path) for device in getattr(other, field) or [] if device.path not in kept]
        setattr(said, field, [*gone, *mine])
    return said
