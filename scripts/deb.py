"""Builds carrack_VERSION_ARCH.deb: the tree that `scripts/install` makes, where it makes it, with units, man pages and completions.

The tree is an environment of its own with the exact libraries that were tested, below /opt as FHS has it for add-on packages; dpkg
replaces it whole. Run by scripts/deb. Needs root, for the tree is made at its final place in a mount namespace, and the network.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from carrack import __version__
from carrack.errors import CarrackError
from carrack.setup import install, places, tree

DEBIAN = Path(__file__).parent / "debian"
SCRIPTS = ("preinst", "postinst", "prerm", "postrm")
PYTHON = sys.version_info[:2]


def main() -> int:
    """Prints the path of the package; 1 and a sentence when it cannot be built."""
    parser = argparse.ArgumentParser(prog="scripts/deb", description="Builds a Debian package of this checkout.")
    parser.add_argument("--output", type=Path, default=Path("dist"), metavar="DIR", help="where (default %(default)s)")
    parser.add_argument("--version", default=f"{__version__}-1", help="of the package (default %(default)s)")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        if options.inside:
            return stage(options.inside, options.version)
        print(build(options.output.absolute(), options.version))
    except CarrackError as error:
        print(f"deb: {error.message}", file=sys.stderr)
        return 1
    return 0


def build(output: Path, version: str) -> Path:
    """Stage below a folder that is /opt for who makes it, then pack."""
    architecture = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()
    target = output / f"carrack_{version}_{architecture}.deb"
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="carrack-deb-") as scratch:
        root = Path(scratch, "root")
        (root / "opt").mkdir(parents=True)
        root.chmod(0o755)
        words = [sys.executable, __file__, "--inside", str(root), "--version", version]
        mounted = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0/opt" /opt && exec "$@"', str(root), *words]
        if subprocess.run(mounted, check=False).returncode != 0:
            raise CarrackError("the tree could not be made")
        subprocess.run(["dpkg-deb", "--root-owner-group", "--build", str(root), str(target)], check=True, stdout=subprocess.DEVNULL)
    return target


def stage(root: Path, version: str) -> int:
    """Everything that the package has, below `root`; the tree goes to /opt itself."""
    built = tree.build(tree.find_source())
    (built / places.OF_DEBIAN).touch()
    places.CURRENT.symlink_to(built.name)
    for name in ("carrack", *places.PROGRAMS):
        link = root / "usr/bin" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(places.CURRENT / "bin" / name)
    texts = {
        places.CONFIGURATION: '{\n    "docker-socket": "auto"\n}\n',
        Path("/usr/lib/systemd/system/carrackd.service"): places.SERVICE,
        Path("/usr/lib/systemd/system/carrackd.socket"): places.SOCKET,
        Path("/usr/lib/sysusers.d/carrack.conf"): f"g {places.GROUP} -\n",
        Path("/usr/share/doc/carrack/copyright"): (DEBIAN / "copyright").read_text(),
        **{Path("/usr") / path.relative_to("/usr/local"): text for path, text in install.pages(built)},
    }
    for path, text in texts.items():
        _put(root, path, text)
    _compress(root, places.MAN.relative_to("/usr/local"))
    changes = root / "usr/share/doc/carrack/changelog.gz"
    changes.write_bytes(gzip.compress(Path("CHANGELOG.md").read_bytes(), mtime=0))
    _control(root, version)
    return 0


def _put(root: Path, path: Path, text: str, mode: int = 0o644) -> None:
    target = root / path.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    target.chmod(mode)


def _compress(root: Path, folder: Path) -> None:
    """Man pages, as policy wants them."""
    for page in (root / "usr" / folder).iterdir():
        page.with_name(f"{page.name}.gz").write_bytes(gzip.compress(page.read_bytes(), mtime=0))
        page.unlink()


def _control(root: Path, version: str) -> None:
    kilobytes = _size(root) // 1024
    architecture = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()
    words = {
        "VERSION": version,
        "ARCHITECTURE": architecture,
        "SIZE": str(kilobytes),
        "PYTHON": ".".join(map(str, PYTHON)),
        "NEXT_PYTHON": f"{PYTHON[0]}.{PYTHON[1] + 1}",
    }
    text = (DEBIAN / "control").read_text()
    for name, value in words.items():
        text = text.replace(f"@{name}@", value)
    _put(root, Path("/DEBIAN/control"), text)
    _put(root, Path("/DEBIAN/conffiles"), f"{places.CONFIGURATION}\n")
    for name in SCRIPTS:
        shutil.copy(DEBIAN / name, root / "DEBIAN" / name)
        (root / "DEBIAN" / name).chmod(0o755)


def _size(folder: Path) -> int:
    """Of the files below."""
    return sum(os.lstat(Path(place, name)).st_size for place, _, names in os.walk(folder) for name in names)


if __name__ == "__main__":
    sys.exit(main())
