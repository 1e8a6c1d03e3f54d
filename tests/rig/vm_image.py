"""The parts a virtual machine boots from, made once and kept: Debian's cloud kernel (unpacked, never installed) with its modules,
and a Debian 12 root with systemd. About a minute on a fresh machine; afterwards a look at a file.

Kept in /var/cache/carrack-tests (`CARRACK_TEST_CACHE` names another place) under the digest of this file.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.rig.engine import ROOT

GUEST = Path(__file__).parent / "guest"
MIRROR = "http://deb.debian.org/debian"
KERNEL = "linux-image-cloud-amd64"
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "udev", "kmod", "procps", "iproute2", "nftables", "apparmor", "iptables"),
    *("python3", "python3-venv", "libseccomp2", "libnftables1", "busybox-static", "tini", "openssl", "ca-certificates", "curl"),
)
"""What a fresh Debian server has, and what Carrack needs."""

MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "virtio_net", "squashfs", "overlay")
SIZE_BYTES = 6 << 30
"""Of the sparse file system; on disk it takes what is in it."""

_UNUSED_SECONDS = 3 * 86400


@dataclass(frozen=True, slots=True)
class Parts:
    """Where they are."""

    kernel: Path
    modules: Path
    """What the initramfs loads, and the file `order`."""
    root: Path

    def make_initramfs(self, target: Path) -> None:
        """busybox, the modules and the agent as it is in this checkout: a moment's work, so it is made for each machine."""
        with tempfile.TemporaryDirectory() as scratch:
            tree = Path(scratch)
            (tree / "bin").mkdir()
            shutil.copy("/bin/busybox", tree / "bin/busybox")
            shutil.copytree(self.modules, tree / "modules")
            shutil.copytree(GUEST, tree / "guest", ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copy(GUEST / "initramfs-init", tree / "init")
            names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
            with target.open("wb") as archive:
                subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], input=names.encode(), stdout=archive, cwd=tree, check=True)


def parts() -> Parts:
    """The parts, made now if nobody made them before. Raises CalledProcessError with what the failing program said."""
    cache = Path(os.environ.get("CARRACK_TEST_CACHE", "/var/cache/carrack-tests"))
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"vm-{_key()}"
    found = Parts(folder / "vmlinuz", folder / "modules", folder / "root.ext4")
    with _locked(cache / "vm.lock"):
        if not folder.exists():
            for older in cache.glob("vm-*"):
                if older.is_dir() and older.stat().st_mtime < time.time() - _UNUSED_SECONDS:
                    shutil.rmtree(older)
            with tempfile.TemporaryDirectory(prefix="making-", dir=cache) as scratch:
                _make(Path(scratch))
                Path(scratch, "parts").rename(folder)
        os.utime(folder)
    return found


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _key() -> str:
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]


def _make(scratch: Path) -> None:
    scratch.chmod(0o755)  # apt lowers its privileges to read what it downloads into
    done = scratch / "parts"
    done.mkdir()
    root = scratch / "root"
    kernel = scratch / "kernel"
    _unpack_kernel(scratch, kernel)
    version = next((kernel / "lib/modules").iterdir()).name
    _run("depmod", "-b", str(kernel), version)
    shutil.copy(kernel / f"boot/vmlinuz-{version}", done / "vmlinuz")
    _collect_modules(kernel / "lib/modules" / version, done / "modules")
    # debootstrap mounts /proc below its target: in a mount namespace that ends with it
    command = ("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", "bookworm", str(root), MIRROR)
    _run("unshare", "--mount", *command)
    _furnish(root)
    shutil.copytree(kernel / "lib/modules", root / "lib/modules", symlinks=True)
    with (done / "root.ext4").open("wb") as image:
        image.truncate(SIZE_BYTES)
    _run("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", str(root), str(done / "root.ext4"))


def _unpack_kernel(scratch: Path, kernel: Path) -> None:
    described = _run("apt-cache", "depends", KERNEL)
    match = re.search(r"Depends: (linux-image-\S+)", described)
    if match is None:
        _run("apt-get", "update", "-qq")
        match = re.search(r"Depends: (linux-image-\S+)", _run("apt-cache", "depends", KERNEL))
    assert match is not None, f"apt knows no {KERNEL}"
    _run("apt-get", "download", "-qq", match[1], cwd=scratch)
    (package,) = scratch.glob("linux-image-*.deb")
    _run("dpkg-deb", "-x", str(package), str(kernel))


def _collect_modules(modules: Path, target: Path) -> None:
    target.mkdir()
    order = _in_order(modules)
    for module in order:
        shutil.copy(modules / module, target / Path(module).name)
    (target / "order").write_text("".join(f"{Path(module).name}\n" for module in order))


def _in_order(modules: Path) -> list[str]:
    """The files of MODULES with all they need, what is needed first."""
    needs = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[Path(path).name.partition(".ko")[0]] = (path, rest.split())
    order: list[str] = []

    def add(name: str) -> None:
        path, needed = needs[name]
        for each in reversed(needed):
            add(Path(each).name.partition(".ko")[0])
        if path not in order:
            order.append(path)

    for name in MODULES:
        add(name)
    return order


def _furnish(root: Path) -> None:
    """The little that makes it this machine: a name, a network, our mirror's certificates. The agent comes with the initramfs."""
    (root / "etc/hostname").write_text("carrack-vm\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 carrack-vm\n")
    (root / "etc/resolv.conf").write_text("nameserver 10.0.2.3\n")
    (root / "etc/fstab").write_text("/dev/vda / ext4 rw,noatime 0 0\n")
    (root / "etc/machine-id").write_text("uninitialized\n")
    network = root / "etc/systemd/network/10-eth0.network"
    network.write_text("[Match]\nName=eth0\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\nDNS=10.0.2.3\n")
    wants = root / "etc/systemd/system/multi-user.target.wants"
    (wants / "systemd-networkd.service").symlink_to("/lib/systemd/system/systemd-networkd.service")
    # what only costs time here
    for unit in ("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer"):
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    for unit in ("getty@tty1.service", "systemd-networkd-wait-online.service", "systemd-timesyncd.service"):
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    for path in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"):
        shutil.rmtree(root / path, ignore_errors=True)
        (root / path).mkdir(parents=True)
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    if certificates.exists():  # a mirror inside a company's network has a certificate of that company
        shutil.copy(certificates, root / "etc/ssl/certs/ca-certificates.crt")


def _run(*argv: str, cwd: Path = ROOT) -> str:
    env = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(argv, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(argv)}: exit code {done.returncode}\n{done.stdout[-3000:]}")
    return done.stdout
