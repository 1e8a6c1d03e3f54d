"""spec, features: a bundle's first config.json, and what this runtime can do."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import msgspec

from carrack.errors import Conflict
from carrack.oci.runtime_spec import DeviceRule, Process, Resources, Rlimit, Root, RuntimeSpec, SpecMount, User
from carrack.runtime import capabilities, cgroups, defaults, seccomp
from carrack.runtime.command.arguments import Arguments, flag
from carrack.runtime.command.store import Store
from carrack.runtime.mount_options import KNOWN
from carrack.runtime.plan import NAMESPACE_FLAGS

SPEC_FLAGS = (flag("bundle b"), flag("rootless", value=False))

_SPEC_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")


def write_spec(store: Store, arguments: Arguments) -> int:
    """`spec`: an example config.json of a shell on a terminal."""
    path = os.path.join(arguments.text("bundle", "."), "config.json")
    try:
        with open(path, "x", encoding="utf-8") as file:
            json.dump(_complete(json.loads(msgspec.json.encode(example()))), file, indent="\t")
            file.write("\n")
    except FileExistsError:
        raise Conflict(f"File {path} exists. Remove it first") from None
    return 0


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    """What the specification requires and our encoder leaves out because it is our default."""
    document = {"ociVersion": "1.2.0", **document}
    document["process"] = {
        "user": {"uid": 0, "gid": 0},
        "cwd": "/",
        **document["process"],
    }
    document["process"]["user"] = {"uid": 0, "gid": 0}
    return document


def example() -> RuntimeSpec:
    """The configuration that `spec` writes, runc's own."""
    mounts = tuple(
        msgspec.structs.replace(each, options=("nosuid", "noexec", "nodev", "relatime", "ro")) if each.type == "cgroup" else each
        for each in defaults.mounts(shm_bytes=65536 << 10)
        if isinstance(each, SpecMount)
    )
    sets = defaults.capability_sets(_SPEC_CAPABILITIES)
    return RuntimeSpec(
        process=Process(
            terminal=True,
            user=User(0, 0),
            args=("sh",),
            env=(defaults.DEFAULT_PATH, "TERM=xterm"),
            cwd="/",
            capabilities=sets,
            rlimits=(Rlimit("RLIMIT_NOFILE", 1024, 1024),),
            no_new_privileges=True,
        ),
        root=Root("rootfs", readonly=True),
        hostname="carrack",
        mounts=mounts,
        linux=msgspec.structs.replace(
            defaults.linux(cgroup_namespace=cgroups.detect().version == 2),
            resources=Resources(devices=(DeviceRule(allow=False, access="rwm"),)),
        ),
    )


def features(store: Store, arguments: Arguments) -> int:
    """`features`: the runtime-spec's features document."""
    sys.stdout.write(json.dumps(features_document(), indent=2) + "\n")
    return 0


def features_document() -> dict[str, Any]:
    """What this runtime can do (runtime-spec `features.md`)."""
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.0",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": sorted(KNOWN),
        "linux": {
            "namespaces": sorted(NAMESPACE_FLAGS),
            "capabilities": list(capabilities.NAMES),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": True},
            "seccomp": {
                "enabled": True,
                "actions": sorted(seccomp.ACTIONS),
                "operators": sorted(seccomp.OPERATORS),
                "archs": sorted(seccomp.ARCHITECTURES),
                "knownFlags": sorted(seccomp.FLAGS),
                "supportedFlags": sorted(seccomp.FLAGS),
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": False}},
        },
    }
