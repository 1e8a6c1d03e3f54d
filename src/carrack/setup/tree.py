"""One version of Carrack below /opt/carrack: a Python environment with the libraries it needs and the package itself, complete or
not there at all. Independent of the checkout or the environment it was made from.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import carrack
from carrack.cli.launcher import write_launcher
from carrack.errors import SystemFailure
from carrack.setup.places import PREFIX, PROGRAMS, program_text

_COMPLETE = ".complete"
_REQUIREMENTS = "carrack.requirements"


@dataclass(frozen=True, slots=True)
class Source:
    """What a tree is made from."""

    package: Path
    requirements: tuple[str, ...]
    constraints: tuple[str, ...]
    """The exact releases it was tested with."""

    @property
    def name(self) -> str:
        """Version, and eight digits of what is in it: two builds of one version lie beside each other."""
        digest = hashlib.sha256("\n".join((*self.requirements, *self.constraints)).encode())
        for path in _files(self.package):
            digest.update(str(path.relative_to(self.package)).encode() + b"\0" + path.read_bytes())
        version = re.search(r'__version__ = "([^"]+)"', (self.package / "__init__.py").read_text(encoding="utf-8"))
        return f"{version[1] if version else carrack.__version__}-{digest.hexdigest()[:8]}"


def find_source() -> Source:
    """The checkout this runs from, else the installation. Raises SystemFailure when the package lies there without its record."""
    package = Path(carrack.__file__).parent
    checkout = package.parent.parent
    if (checkout / "pyproject.toml").exists() and package.parent.name == "src":
        project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        lock = tomllib.loads((checkout / "uv.lock").read_text(encoding="utf-8"))
        pins = (f"{each['name']}=={each['version']}" for each in lock["package"] if each["name"] != "carrack")
        return Source(package, tuple(project["dependencies"]), tuple(sorted(pins)))
    record = package.parent / _REQUIREMENTS
    if record.exists():  # a tree of our own
        requirements, _, constraints = record.read_text(encoding="utf-8").partition("\n--\n")
        return Source(package, tuple(requirements.splitlines()), tuple(constraints.splitlines()))
    try:
        requirements_ = tuple(each for each in metadata.requires("carrack") or () if "extra ==" not in each)
    except metadata.PackageNotFoundError:
        raise SystemFailure(
            f"{package} is neither a checkout nor an installed package: run scripts/install of a checkout"
        ) from None
    pins_ = (f"{each.name}=={each.version}" for each in metadata.distributions() if each.name.lower() != "carrack")
    return Source(package, requirements_, tuple(sorted(set(pins_))))


def is_built(source: Source) -> bool:
    """Whether `build` has nothing to do."""
    return (PREFIX / source.name / _COMPLETE).exists()


def build(source: Source, *, wheels: Path | None = None) -> Path:
    """The tree of that source, made now unless it is there. `wheels`: take libraries from this folder, not from the network.

    Raises SystemFailure with what to do.
    """
    target = PREFIX / source.name
    if is_built(source):
        return target
    shutil.rmtree(target, ignore_errors=True)  # of an installation that was cut short
    PREFIX.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        _fill(target, source, wheels)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return target


def built_at(tree: Path) -> float:
    """When a tree was completed, in seconds of the epoch."""
    return (tree / _COMPLETE).stat().st_mtime


def _fill(target: Path, source: Source, wheels: Path | None) -> None:
    record = "\n".join(source.requirements) + "\n--\n" + "\n".join(source.constraints) + "\n"
    twin = _with_the_same_libraries(target, record)
    pip = [] if twin is None else ["--without-pip"]
    _run([_system_python(), "-m", "venv", *pip, str(target)], "cannot make a Python environment: is python3-venv installed?")
    python = target / "bin/python3"
    site = next((target / "lib").glob("python3.*/site-packages"))
    if twin is not None:
        _share(twin, site)
    else:
        _download(python, target, source, wheels)
    shutil.copytree(source.package, site / "carrack", ignore=shutil.ignore_patterns("__pycache__"))
    (site / _REQUIREMENTS).write_text(record, encoding="utf-8")
    _run([str(python), "-m", "compileall", "-q", str(site / "carrack")], "")
    write_launcher(str(target / "bin/carrack"), source=str(site))
    for name, module in PROGRAMS.items():
        path = target / "bin" / name
        path.write_text(program_text(str(python), module), encoding="utf-8")
        path.chmod(0o755)
    (target / _COMPLETE).touch()


def _with_the_same_libraries(target: Path, record: str) -> Path | None:
    """The libraries of another complete tree that was made of the same releases for the same Python."""
    release = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for other in PREFIX.iterdir():
        site = other / "lib" / release / "site-packages"
        written = site / _REQUIREMENTS
        is_whole = other != target and not other.is_symlink() and (other / _COMPLETE).exists() and written.exists()
        if is_whole and written.read_text(encoding="utf-8") == record:
            return site
    return None


def _share(theirs: Path, ours: Path) -> None:
    """An upgrade that changes no library takes no time and no room: nobody writes to these files, so two trees may have them."""
    for path in theirs.iterdir():
        if path.name in ("carrack", _REQUIREMENTS):
            continue
        if path.is_dir():
            shutil.copytree(path, ours / path.name, copy_function=os.link, symlinks=True)
        else:
            os.link(path, ours / path.name)


def _download(python: Path, target: Path, source: Source, wheels: Path | None) -> None:
    constraints = target / "constraints.txt"
    constraints.write_text("\n".join(source.constraints) + "\n", encoding="utf-8")
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--only-binary=:all:"]
    where = ["--no-index", "--find-links", str(wheels)] if wheels else []
    _run(
        [*install, *where, "--constraint", str(constraints), *source.requirements],
        "cannot get the Python libraries: behind a proxy set HTTPS_PROXY, behind your own authority PIP_CERT, without a network "
        "give --wheels",
    )
    _run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", "--disable-pip-version-check", "pip", "setuptools"], "")


def _system_python() -> str:
    """The Python to build on: not one that lies in an environment which may go."""
    return "/usr/bin/python3" if os.path.samefile(sys.base_prefix, "/usr") else os.path.realpath(sys.executable)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)


def _run(argv: list[str], advice: str) -> None:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise SystemFailure(f"{advice or argv[2]} ({said[-1].strip() if said else f'exit code {done.returncode}'})")
