"""A default container beside dockerd's: nothing may be looser than there, but what Docker itself has loosened since 20.10."""

import subprocess

import pytest

from tests.conftest import EnginePool
from tests.rig.confinement import observe, side_by_side
from tests.rig.engine import ROOT

SINCE_20_10 = {
    303: "name_to_handle_at",
    310: "process_vm_readv",
    311: "process_vm_writev",
    329: "pkey_mprotect",
    330: "pkey_alloc",
    331: "pkey_free",
    335: "uretprobe",
    451: "cachestat",
    452: "fchmodat2",
    453: "map_shadow_stack",
    454: "futex_wake",
    455: "futex_wait",
    456: "futex_requeue",
    457: "statmount",
    458: "listmount",
    462: "mseal",
    463: "setxattrat",
    464: "getxattrat",
    465: "listxattrat",
    466: "removexattrat",
}
"""System calls that Docker 28's default profile allows and the peer's does not: newer than it, or thought harmless since."""


@pytest.mark.observes("docker run")
def test_a_default_container_is_held_as_tightly_as_dockerds(engine_pool: EnginePool) -> None:
    if not (ROOT / ".peer/usr/sbin/dockerd").exists():
        subprocess.run([ROOT / "scripts/peer"], check=True, stdout=subprocess.DEVNULL)
    ours, theirs = observe(engine_pool.shared("carrackd")), observe(engine_pool.shared("dockerd"))
    print(side_by_side(ours, theirs, ("carrackd", "dockerd")))
    for name, mask in ours.capabilities.items():
        assert mask & ~theirs.capabilities[name] == 0, name
    assert ours.flags == theirs.flags
    assert ours.allowed_calls - theirs.allowed_calls <= set(SINCE_20_10)
    assert ours.writable <= theirs.writable
    assert ours.devices <= theirs.devices
    assert ours.descriptors <= theirs.descriptors
    assert ours.environment == theirs.environment
    looser = {mount for mount in ours.mounts - theirs.mounts if " rw" in mount}
    assert looser <= {"/proc/interrupts rw,nosuid"}  # Docker 28 hides it behind the null device
    assert {mount.split()[0] for mount in theirs.mounts} <= {mount.split()[0] for mount in ours.mounts}
