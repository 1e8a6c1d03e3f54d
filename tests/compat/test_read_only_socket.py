"""`--read-only-socket`: who looks need not be root."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.conftest import MakeEngine
from tests.rig.commands import run
from tests.rig.engine import CommandLine, Engine, docker_program
from tests.rig.unix_http import ask

pytestmark = pytest.mark.peer_lacks("dockerd has one kind of socket")

CHANGES = (
    ("POST", "/containers/create", {"Image": "busybox"}),
    ("POST", "/containers/seen/stop", None),
    ("POST", "/containers/seen/exec", {"Cmd": ["true"]}),
    ("POST", "/containers/seen/attach?stream=1&stdin=1", None),
    ("DELETE", "/containers/seen?force=1", None),
    ("PUT", "/containers/seen/archive?path=/", b""),
    ("GET", "/containers/seen/archive?path=/etc/shadow", None),
    ("HEAD", "/containers/seen/archive?path=/etc/shadow", None),
    ("GET", "/containers/seen/export", None),
    ("GET", "/containers/seen/attach/ws?stream=1&stdin=1", None),
    ("GET", "/images/busybox/get", None),
    ("GET", "/debug/pprof/goroutine", None),
    ("POST", "/build", b""),
    ("POST", "/session", None),
    ("POST", "/grpc", None),
    ("DELETE", "/v1.41/images/busybox?force=1", None),
    ("POST", "/volumes/prune", None),
)


@pytest.fixture
def watched(make_engine: MakeEngine) -> Iterator[tuple[Engine, Path]]:
    """An engine with a container, and the path of the socket that only tells, which is for the group nogroup."""
    with TemporaryDirectory(prefix="ct-look-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "look.sock"
        engine = make_engine("--read-only-socket", str(path), "--read-only-group", "nogroup")
        CommandLine(engine, [docker_program()]).ok("run", "-d", "--name", "seen", "busybox", "sh", "-c", "echo said; sleep 1000")
        yield engine, path


def test_a_user_of_its_group_looks_and_has_no_other_way(watched: tuple[Engine, Path]) -> None:
    engine, path = watched
    engine.folder.chmod(0o755)
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", docker_program()]
    look, change = [*nobody, "-H", f"unix://{path}"], [*nobody, "-H", f"unix://{engine.socket}"]
    for words, expected in (
        (("ps", "--format", "{{.Names}}"), "seen"),
        (("logs", "seen"), "said"),
        (("inspect", "-f", "{{.State.Status}}", "seen"), "running"),
        (("images", "-q"), engine.api("GET", "/images/busybox/json").json["Id"][7:19]),
        (("stats", "--no-stream", "--format", "{{.Name}}"), "seen"),
        (("events", "--since", "1", "--until", "2"), ""),
        (("system", "df", "--format", "{{.Type}}"), "Images\nContainers\nLocal Volumes\nBuild Cache"),
        (("info", "-f", "{{.ContainersRunning}}"), "1"),
        (("network", "ls", "-qf", "name=host"), engine.api("GET", "/networks/host").json["Id"][:12]),
    ):
        assert run([*look, *words]).ok() == expected, words
    refused = run([*look, "exec", "seen", "true"])
    assert refused.code != 0
    assert "this socket only tells: POST" in refused.stderr
    assert "permission denied" in run([*change, "ps"]).stderr


def test_every_change_and_every_file_is_refused(watched: tuple[Engine, Path]) -> None:
    engine, path = watched
    before = [engine.api("GET", target).json for target in ("/containers/json?all=1", "/images/json", "/volumes")]
    for method, target, body in CHANGES:
        assert ask(path, method, target, body).status == 403, (method, target)
    now = [engine.api("GET", target).json for target in ("/containers/json?all=1", "/images/json", "/volumes")]
    assert [len(str(each)) for each in now] == [len(str(each)) for each in before]
