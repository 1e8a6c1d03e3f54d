"""`carrack doctor` on this machine, and on one that lacks what it needs. It leaves nothing behind."""

import json
import os
from pathlib import Path

from tests.rig.commands import Result, run
from tests.rig.engine import carrack_program

_TREES = [name for name in os.listdir("/") if Path("/", name).is_dir() and name not in ("tmp", "mnt", "lost+found")]
"""What a chroot on this machine is made of."""


def doctor(*flags: str, prefix: tuple[str, ...] = ()) -> Result:
    return run([*prefix, carrack_program(), "doctor", *flags])


def findings(*flags: str, prefix: tuple[str, ...] = ()) -> dict[str, dict[str, str]]:
    lines = doctor("--json", *flags, prefix=prefix).stdout.splitlines()
    return {finding["subject"]: finding for finding in map(json.loads, lines)}


def test_a_machine_that_runs_containers_passes(tmp_path: Path) -> None:
    done = doctor("--data-root", str(tmp_path))
    assert done.code == 0, done
    for subject in ("kernel", "namespaces", "mounts", "cgroups", "seccomp", "bridge and veth", "nftables"):
        assert f"ok   {subject}: " in done.stdout
    assert done.stdout.splitlines()[-1].startswith("Containers run here")


def test_what_is_lacking_comes_with_what_to_do(tmp_path: Path) -> None:
    for finding in findings("--data-root", str(tmp_path)).values():
        assert bool(finding["advice"]) == (finding["verdict"] != "ok"), finding


def test_it_leaves_nothing_behind(tmp_path: Path) -> None:
    def traces() -> tuple[list[str], list[str], list[str]]:
        # Other tests mount, and make and remove groups, meanwhile: only what is the doctor's own counts.
        groups = sorted(place for place, *_ in os.walk("/sys/fs/cgroup") if "carrack-doctor" in place)
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        own = [line for line in mounts if "carrack-doctor" in line or str(tmp_path) in line]
        return own, groups, sorted(os.listdir(tmp_path))

    before = traces()
    doctor("--data-root", str(tmp_path))
    assert traces() == before


def test_without_root_it_says_so_and_fails() -> None:
    done = doctor(prefix=("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"))
    assert done.code == 1
    assert "FAIL privileges: user 65534\n       → run carrack doctor, and carrackd, as root" in done.stdout


def test_a_missing_capability_is_named_with_what_it_spoils(tmp_path: Path) -> None:
    without = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    found = findings("--data-root", str(tmp_path), prefix=without)
    assert found["privileges"]["verdict"] == "failure"
    assert "CAP_NET_ADMIN" in found["privileges"]["fact"]


def test_a_chroot_is_told_apart_from_a_policy(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    folders = " ".join(f"mkdir {tmp_path}/root/{name} && mount --rbind /{name} {tmp_path}/root/{name};" for name in _TREES)
    script = f"mount --make-rprivate /; {folders} exec chroot {tmp_path}/root {carrack_program()} doctor --json"
    lines = run(["unshare", "--mount", "sh", "-c", script]).stdout.splitlines()
    mounts = next(finding for finding in map(json.loads, lines) if finding["subject"] == "mounts")
    assert (mounts["verdict"], mounts["fact"]) == ("failure", "/ is no mount point, as in a chroot")


def test_a_full_disk_is_a_warning(tmp_path: Path) -> None:
    script = f"mount -t tmpfs -o size=1m none {tmp_path} && exec {carrack_program()} doctor --json --data-root {tmp_path}"
    lines = run(["unshare", "--mount", "sh", "-c", script]).stdout.splitlines()
    disk = next(finding for finding in map(json.loads, lines) if finding["subject"] == "disk")
    assert disk["verdict"] == "warning"
    assert "tmpfs" in disk["fact"]
    assert "prune" in disk["advice"]


def test_a_data_root_that_cannot_hold_an_overlay_is_a_warning() -> None:
    found = findings("--data-root", "/proc/carrack")
    assert found["overlay"]["verdict"] != "ok"
    assert "--data-root" in found["overlay"]["advice"]


def test_a_host_that_drops_forwarded_packets_is_noticed(tmp_path: Path) -> None:
    rules = "add table ip other; add chain ip other FORWARD { type filter hook forward priority 0; policy drop; }"
    script = f"nft '{rules}' && exec {carrack_program()} doctor --json --data-root {tmp_path}"
    lines = run(["unshare", "--net", "sh", "-c", script]).stdout.splitlines()
    firewalls = next(finding for finding in map(json.loads, lines) if finding["subject"] == "other firewalls")
    assert firewalls["fact"] == "forwarded packets are dropped by ip other FORWARD"
