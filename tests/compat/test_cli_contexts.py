"""Contexts: the same story told to `docker` and to `carrack`, what each says and what each keeps on disk compared after every line.

The daemon plays no part but in the last tests, where a context leads to one.
"""

import json
import re
import shlex
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.rig.command_twins import DOCKER
from tests.rig.commands import Result, run
from tests.rig.engine import CommandLine, Engine, carrack_program, docker_major

needs_docker = pytest.mark.skipif(DOCKER is None or docker_major() < 28, reason="no docker command line of release 28 on PATH")

STORY = """
context ls
context show
context inspect
context inspect default
context create
context create one --docker host=unix:///run/one.sock --description 'the first'
context create one --docker host=unix:///run/other.sock
context create two --docker host=tcp://10.0.0.1:2376,ca={folder}/ca.pem,cert={folder}/cert.pem,key={folder}/key.pem
context create three --docker host=ssh://me@far.example
context create four --docker host=tcp://10.0.0.4:2376,skip-tls-verify=true
context create copy --from one
context create copy2 --docker from=one
context create bad --docker host=nonsense
context create bad --docker nonsense
context create bad --docker host=tcp://x,ca=/no/such
context create 'bad name'
context create default
context ls
context ls -q
context ls --format '{{{{.Name}}}} {{{{.Description}}}} {{{{.DockerEndpoint}}}} {{{{.Current}}}}'
context ls --format json
context inspect one
context inspect one two -f '{{{{.Name}}}} {{{{.Endpoints.docker.Host}}}} {{{{.Endpoints.docker.SkipTLSVerify}}}}'
context inspect nope
context use one
context show
context ls
context update one --description 'changed'
context update two --docker host=tcp://10.0.0.2:2376
context update nope --description x
context update one
context inspect one two
context rm one
context rm one -f
context show
context rm nope
context rm -f nope
context rm two copy
context use nope
context use default
context create bad --docker host=tcp://x,ca={folder}/words
context rm default
context export three
context export three
context export nope
context export default
context import again three.dockercontext
context import again three.dockercontext
context import broken {folder}/cert.pem
context import x /no/such
context inspect again
context ls
--context four context show
-c nope context ls
""".strip().splitlines()


class Home:
    """One program with settings of its own."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program = program
        self.folder = folder
        folder.mkdir()

    def __call__(self, *words: str, **variables: str) -> Result:
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "PWD": str(self.folder), **variables}
        script = f"cd {self.folder} && exec {shlex.join([self.program, *words])}"
        return run(["sh", "-c", script], env=environment)

    def kept(self) -> dict[str, Any]:
        """The files of its settings: JSON read, anything else as it is."""
        found: dict[str, Any] = {}
        for path in sorted(self.folder.glob(".docker/**/*")):
            if path.is_file():
                text = path.read_text()
                found[str(path.relative_to(self.folder))] = json.loads(text) if text.startswith("{") else text
        return found


def said(home: Home, result: Result) -> tuple[int, str, str]:
    def plain(text: str) -> str:
        text = text.replace(str(home.folder), "<home>").replace("carrack", "docker").replace("Carrack", "Docker")
        return re.sub(r"unix:///(var/)?run/docker(/docker)?\.sock", "<default socket>", text)

    return result.code, re.sub(r" +", " ", plain(result.stdout)), plain(result.stderr)


@pytest.fixture
def homes(tmp_path: Path) -> list[Home]:
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", "2"]
    run([*request, "-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]).ok()
    (tmp_path / "words").write_text("no certificate\n")
    shutil.copy(tmp_path / "cert.pem", tmp_path / "ca.pem")
    return [Home(str(DOCKER), tmp_path / "theirs"), Home(carrack_program(), tmp_path / "ours")]


@needs_docker
@pytest.mark.observes(
    "docker context create",
    "docker context create --description",
    "docker context create --docker",
    "docker context create --from",
    "docker context export",
    "docker context import",
    "docker context inspect",
    "docker context inspect --format",
    "docker context ls",
    "docker context ls --format",
    "docker context ls --quiet",
    "docker context rm",
    "docker context rm --force",
    "docker context show",
    "docker context update",
    "docker context update --description",
    "docker context update --docker",
    "docker context use",
)
def test_a_story_of_contexts_is_told_alike_and_kept_alike(homes: list[Home], tmp_path: Path) -> None:
    theirs, ours = homes
    for line in STORY:
        words = shlex.split(line.format(folder=tmp_path))
        assert said(ours, ours(*words)) == said(theirs, theirs(*words)), line
        assert ours.kept() == theirs.kept(), line


@needs_docker
def test_an_exported_context_is_imported_by_the_other_program(homes: list[Home], tmp_path: Path) -> None:
    theirs, ours = homes
    tls = f"ca={tmp_path}/ca.pem,cert={tmp_path}/cert.pem,key={tmp_path}/key.pem"
    for here, there in ((theirs, ours), (ours, theirs)):
        here("context", "create", "far", "--docker", f"host=tcp://10.1.1.1:2376,{tls}", "--description", "text").ok()
        here("context", "export", "far", str(tmp_path / "far.tar")).ok()
        there("context", "import", "landed", str(tmp_path / "far.tar")).ok()
        shown = json.loads(there("context", "inspect", "landed").ok())[0]
        assert shown["Metadata"] == {"Description": "text"}
        assert shown["Endpoints"]["docker"]["Host"] == "tcp://10.1.1.1:2376"
        assert shown["TLSMaterial"] == {"docker": ["ca.pem", "cert.pem", "key.pem"]}
        (tmp_path / "far.tar").unlink()


def test_a_zip_archive_is_imported_too(homes: list[Home], tmp_path: Path) -> None:
    document = {"Name": "z", "Metadata": {}, "Endpoints": {"docker": {"Host": "tcp://10.2.2.2:2376", "SkipTLSVerify": False}}}
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("meta.json", json.dumps(document))
    for home in homes[1:] if DOCKER is None else homes:
        home("context", "import", "zipped", str(tmp_path / "z.zip")).ok()
        assert home("context", "inspect", "-f", "{{.Endpoints.docker.Host}}", "zipped").ok() == "tcp://10.2.2.2:2376"


@pytest.mark.parametrize("evil", ["../../escape", "/etc/escape", "tls/docker/../../../escape"])
def test_an_archive_cannot_write_outside_the_store(homes: list[Home], tmp_path: Path, evil: str) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo(evil))
    done = homes[1]("context", "import", "evil", str(tmp_path / "evil.tar"))
    assert done.code == 1
    assert not list(tmp_path.rglob("*escape*"))


@pytest.fixture
def led(engine: Engine, tmp_path: Path) -> Home:
    """A home with a context `here` that leads to the engine."""
    home = Home(carrack_program(), tmp_path / "home")
    home("context", "create", "here", "--docker", f"host=unix://{engine.socket}").ok()
    return home


@pytest.mark.observes("docker context use")
def test_a_context_leads_to_its_daemon_by_flag_variable_and_use(led: Home, cli: CommandLine) -> None:
    cli.ok("create", "--name", "seen", "busybox")
    listing = ("ps", "-a", "--format", "{{.Names}}")
    assert led("--context", "here", *listing).ok() == "seen"
    assert led(*listing, DOCKER_CONTEXT="here").ok() == "seen"
    led("context", "use", "here").ok()
    assert led(*listing).ok() == "seen"


def test_a_host_wins_over_a_context_and_both_flags_conflict(led: Home, engine: Engine) -> None:
    led("context", "create", "nowhere", "--docker", "host=unix:///no/such.sock").ok()
    led("context", "use", "nowhere").ok()
    assert led("version", "--format", "{{.Server.Os}}", DOCKER_HOST=f"unix://{engine.socket}").ok() == "linux"
    assert led("-H", f"unix://{engine.socket}", "version", "--format", "{{.Server.Os}}").ok() == "linux"
    refused = led("-H", f"unix://{engine.socket}", "--context", "nowhere", "ps")
    assert (refused.code, refused.stderr) == (1, "conflicting options: cannot specify both --host and --context\n")
