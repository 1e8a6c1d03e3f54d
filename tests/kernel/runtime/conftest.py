"""Real containers for tests: a busybox root, an overlay of one's own, a cgroup of one's own, everything gone afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from carrack.oci.runtime_spec import Process, RuntimeSpec, User
from carrack.runtime import capabilities, cgroups, defaults

from .driver import Told

DRIVER = Path(__file__).with_name("driver.py")
SOURCES = Path(__file__).parents[3] / "src"
APPLETS = "sh true false ls cat mount id ps stat sleep grep echo tty stty hostname ip touch mkdir rm ln dd head test readlink mknod"
PASSWD = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/sh\n"
GROUP = "root:x:0:\nwww-data:x:33:\nextra:x:99:www-data\n"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(str(item.fspath)).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.root)
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="needs root"))


def furnish(root: Path) -> None:
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "root"):
        (root / name).mkdir(parents=True)
    (root / "bin" / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (root / "bin" / "busybox").chmod(0o755)
    for applet in APPLETS.split():
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc" / "passwd").write_text(PASSWD)
    (root / "etc" / "group").write_text(GROUP)


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with busybox in it; nobody writes to it."""
    root = tmp_path_factory.mktemp("busybox")
    furnish(root)
    return root


class Box:
    """Makes containers, each in a process of its own."""

    def __init__(self, lower: Path, place: Path) -> None:
        self.lower = lower
        self.place = place
        self.upper = place / "upper"
        self.cgroup = f"/carrack-test-{uuid.uuid4().hex[:12]}"
        for name in ("upper", "work", "image"):
            (place / name).mkdir()

    @property
    def image(self) -> Path:
        """A layer above busybox, for what the image of a test has of its own."""
        return self.place / "image"

    def spec(
        self,
        *args: str,
        user: str = "",
        linux: dict[str, Any] | None = None,
        process: dict[str, Any] | None = None,
        caps: tuple[str, ...] = capabilities.DEFAULT,
        **changes: Any,
    ) -> RuntimeSpec:
        """An ordinary container, as the engine would ask for it, with changes."""
        program = Process(
            args=args,
            env=(defaults.DEFAULT_PATH, "COLOUR=blue"),
            user=User(username=user),
            capabilities=defaults.capability_sets(caps),
        )
        return msgspec.structs.replace(
            RuntimeSpec(
                process=msgspec.structs.replace(program, **(process or {})),
                hostname="box",
                mounts=defaults.mounts(),
                linux=msgspec.structs.replace(defaults.linux(cpus=2), **(linux or {})),
            ),
            **changes,
        )

    def make(self, spec: RuntimeSpec, **how: Any) -> Told:
        """Make the container and tell what came of it."""
        order = {
            "spec": spec,
            "lower": (str(self.image), str(self.lower)),
            "upper": str(self.upper),
            "work": str(self.place / "work"),
            "cgroup": self.cgroup,
            **how,
        }
        run = subprocess.run(
            [sys.executable, str(DRIVER)],
            input=msgspec.json.encode(order),
            capture_output=True,
            timeout=60,
            check=False,
            env={"PYTHONPATH": str(SOURCES), "PATH": os.environ["PATH"]},
        )
        assert run.returncode == 0, run.stderr.decode()
        return msgspec.json.decode(run.stdout, type=Told)

    def run(self, script: str, **changes: Any) -> str:
        """What a shell script prints inside; it must succeed."""
        told = self.make(self.spec("sh", "-c", script, **changes))
        assert told.init.error == ""
        assert told.init.status == 0, told.init.output
        return told.init.output


@pytest.fixture
def box(busybox: Path, tmp_path: Path) -> Iterator[Box]:
    made = Box(busybox, tmp_path)
    yield made
    living = cgroups.open(made.cgroup)
    living.kill()
    living.remove()
