"""Fixtures for tests that need a whole engine: one daemon per test process, swept clean after each test, and factories for more.

A test that takes ``engine`` runs on Carrack's daemon; with ``--peer dockerd`` it also runs on a real dockerd, which tests the
test. A test that takes ``cli`` drives the engine with the real docker command line, and with ``carrack`` too when its module or
function is marked ``both_clients``.
"""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pytest

from tests.rig.archives import Recipe, busybox_entries, docker_archive, tar
from tests.rig.carrackd import Carrackd
from tests.rig.dockerd import Dockerd
from tests.rig.engine import CommandLine, Engine, carrack_program, docker_major, docker_program
from tests.rig.namespaces import HeldNamespace, Neighbour
from tests.rig.ports import FreePort, free_ports
from tests.rig.slots import slot

MARKERS = (
    "only_full(reason): takes minutes; run with --full alone",
    "both_clients: runs with the docker command line and with carrack",
    "docker_since(major): the docker command line before that release does not offer this; carrack runs it always",
    "peer_lacks(reason): the dockerd we compare with is too old for this",
    "law(number): attempts the breach of that law of docs/architecture.md",
    "observes(*names): API routes (`POST /x`), commands (`docker ps`) and flags (`docker run --init`) whose effect the test sees",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--peer", choices=["dockerd"], help="run engine tests on this engine as well")
    parser.addoption("--engine", choices=["carrackd", "dockerd"], help="run engine tests on this engine only")
    parser.addoption("--client", choices=["docker", "carrack"], help="run tests of both clients with this one only")
    parser.addoption("--full", action="store_true", help="run repeated tests at their stated count")


def pytest_configure(config: pytest.Config) -> None:
    # a run in a shell's background ignores ctrl-c, and so would every client that a test interrupts
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.option.basetemp is None:
        # pytest's own folder is shared by all runs of a user, and each tries to tidy away what the others still use
        folder = tempfile.mkdtemp(prefix="ct-tests-")
        config.option.basetemp = folder
        config.add_cleanup(lambda: remove_tree(folder))
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)


def remove_tree(folder: str) -> None:
    """By rm, which no depth of directories stops."""
    subprocess.run(["rm", "-rf", folder], check=False)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--full"):
        long = [item for item in items if item.get_closest_marker("only_full")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)  # long groups begin first, whoever runs beside


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine_kind" in metafunc.fixturenames:
        peer = metafunc.config.getoption("--peer")
        only = metafunc.config.getoption("--engine")
        kinds = [only] if only else ["carrackd", *([peer] if peer else [])]
        metafunc.parametrize("engine_kind", kinds, scope="session")
    if "client_name" in metafunc.fixturenames:
        both = metafunc.definition.get_closest_marker("both_clients") is not None
        only = metafunc.config.getoption("--client")
        clients = ["docker", "carrack"] if both else ["docker"]
        metafunc.parametrize("client_name", [name for name in clients if only in {None, name}])


def pytest_runtest_setup(item: pytest.Item) -> None:
    call = getattr(item, "callspec", None)
    params = call.params if call is not None else {}
    lacks = item.get_closest_marker("peer_lacks")
    if lacks is not None and params.get("engine_kind") == "dockerd":
        pytest.skip(f"dockerd 20.10: {lacks.args[0]}")
    since = item.get_closest_marker("docker_since")
    if since is not None and params.get("client_name") != "carrack" and docker_major() < since.args[0]:
        pytest.skip(f"the docker command line here is {docker_major()}, this needs {since.args[0]}")


@dataclass(frozen=True)
class Images:
    """Image archives made for this session."""

    rootfs: bytes
    busybox: Recipe

    @property
    def base_archive(self) -> bytes:
        """The archive every engine starts with: busybox:latest."""
        return docker_archive(self.busybox)


@pytest.fixture(scope="session")
def images() -> Images:
    """busybox:latest as a recipe, and its root file system as a tar."""
    rootfs = tar(busybox_entries())
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return Images(rootfs, Recipe((rootfs,), ("busybox:latest",), {"Cmd": ["sh"], "Env": [path]}, ("busybox",)))


class EnginePool:
    """The engines of one test process. Those that tests share are kept to the end; the others belong to one test."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._shared: dict[str, Engine] = {}
        self._count = 0

    def build(self, kind: str, flags: Sequence[str] = (), *, token: str = "", host: HeldNamespace | None = None) -> Engine:
        """An engine with private paths, names and addresses, not started."""
        self._count += 1
        token = token or f"t{os.getpid():x}-{self._count}"
        if kind == "dockerd":
            return Dockerd(token, flags=flags)
        return Carrackd(token, bip=f"10.{130 + slot()}.{self._count % 250}.1/24", flags=flags, host=host)

    def start(self, engine: Engine) -> None:
        """Start an engine and give it busybox:latest."""
        engine.start()
        loaded = engine.api(
            "POST", "/images/load?quiet=1", self._images.base_archive, headers={"Content-Type": "application/x-tar"}
        )
        assert loaded.status == 200, loaded.body
        assert engine.api("GET", "/images/busybox:latest/json").status == 200, loaded.body

    def shared(self, kind: str) -> Engine:
        """The engine of this kind that tests share; a new one when a test has broken it."""
        engine = self._shared.get(kind)
        if engine is not None and not _healthy(engine):
            self._shared.pop(kind).close()
            engine = None
        if engine is None:
            engine = self.build(kind)
            try:
                self.start(engine)
            except BaseException:
                engine.close()
                raise
            self._shared[kind] = engine
        return engine

    def close(self) -> None:
        """Close those that are shared."""
        for engine in self._shared.values():
            engine.close()


def _healthy(engine: Engine) -> bool:
    try:
        return engine.answers() and engine.api("GET", "/images/busybox:latest/json").status == 200
    except AssertionError:
        return False


@pytest.fixture(scope="session")
def engine_pool(images: Images) -> Iterator[EnginePool]:
    """Every engine this test process starts."""
    if os.geteuid() != 0:
        pytest.skip("a daemon needs root")
    pool = EnginePool(images)
    yield pool
    pool.close()


@pytest.fixture
def engine(engine_pool: EnginePool, engine_kind: str, images: Images) -> Iterator[Engine]:
    """A running engine that holds busybox:latest and nothing else, here and after the test."""
    engine = engine_pool.shared(engine_kind)
    yield engine
    if engine.process is not None and engine.process.poll() is None:
        engine.sweep(frozenset({images.busybox.image_id}))


class MakeEngine(Protocol):
    """Starts one more engine of the kind under test; it ends with the test."""

    def __call__(self, *flags: str, start: bool = True, token: str = "") -> Engine: ...


@pytest.fixture
def make_engine(engine_pool: EnginePool, engine_kind: str) -> Iterator[MakeEngine]:
    """A factory of private engines, for tests that kill, restart or configure one."""
    made: list[Engine] = []

    def make(*flags: str, start: bool = True, token: str = "") -> Engine:
        engine = engine_pool.build(engine_kind, flags, token=token)
        made.append(engine)
        if start:
            engine_pool.start(engine)
        return engine

    yield make
    for engine in made:
        engine.close()


@pytest.fixture
def cli(engine: Engine, client_name: str) -> CommandLine:
    """The client command line, bound to the engine."""
    return CommandLine(engine, [docker_program() if client_name == "docker" else carrack_program()])


@pytest.fixture
def docker_cli(engine: Engine) -> CommandLine:
    """The real docker command line, bound to the engine."""
    return CommandLine(engine, [docker_program()])


@pytest.fixture(scope="session")
def free_port() -> FreePort:
    """A function that gives a free host port, another one each time."""
    ports = free_ports()
    return lambda: next(ports)


@pytest.fixture
def neighbour(engine: Engine) -> Iterator[Neighbour]:
    """A machine next to the engine's host."""
    with Neighbour(engine.host_prefix(), number=slot()) as machine:
        yield machine
