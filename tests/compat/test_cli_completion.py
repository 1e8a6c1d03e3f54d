"""Completion in real shells: bash, zsh and fish are started, the script is loaded, a key is pressed, and the words come."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig.commands import run
from tests.rig.conversation import Terminal
from tests.rig.engine import carrack_program
from tests.rig.recorder import Recorder

CONTAINERS = [
    {"Id": "a" * 64, "Names": ["/web"], "Image": "nginx", "State": "running", "Status": "Up 2 minutes"},
    {"Id": "b" * 64, "Names": ["/worker"], "Image": "busybox", "State": "running", "Status": "Up 1 minute"},
    {"Id": "c" * 64, "Names": ["/old"], "Image": "busybox", "State": "exited", "Status": "Exited (0) 2 days ago"},
    {"Id": "d" * 64, "Names": ["/asleep"], "Image": "busybox", "State": "paused", "Status": "Up 1 hour (Paused)"},
]
ANSWERS: dict[str, Any] = {
    "GET /containers/json": CONTAINERS,
    "GET /images/json": [{"Id": "i", "RepoTags": ["busybox:latest", "nginx:1.27"]}, {"Id": "j", "RepoTags": []}],
    "GET /networks": [{"Name": "front", "Driver": "bridge"}, {"Name": "host", "Driver": "host"}],
    "GET /volumes": {"Volumes": [{"Name": "data", "Driver": "local"}]},
    "GET /services": [{"Spec": {"Name": "api", "Labels": {"com.docker.stack.namespace": "hall"}}}],
    "GET /nodes": [{"ID": "n1", "Description": {"Hostname": "one"}}],
}


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder(answers=ANSWERS) as recording:
        yield recording


def candidates(recorder: Recorder, *words: str) -> tuple[list[str], int]:
    """(the candidates for the last word, the directive)."""
    done = run([carrack_program(), "__completeNoDesc", *words], env=recorder.environment())
    *lines, directive = done.ok().splitlines()
    return lines, int(directive[1:])


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["st"], ["start", "stats", "stop", "stack"]),
        (["network", ""], ["connect", "create", "disconnect", "exposure", "inspect", "ls", "prune", "rm"]),
        (["stop", ""], ["asleep", "web", "worker"]),
        (["stop", "w"], ["web", "worker"]),
        (["stop", "web", "w"], ["worker"]),
        (["start", ""], ["old"]),
        (["unpause", ""], ["asleep"]),
        (["rm", "-f", "o"], ["old"]),
        (["container", "rm", "o"], ["old"]),
        (["rmi", ""], ["busybox", "nginx:1.27"]),
        (["run", "--rm", "-it", "ng"], ["nginx:1.27"]),
        (["run", "--network", ""], ["front", "host"]),
        (["run", "--network=f"], ["--network=front"]),
        (["run", "--restart", "on"], ["on-failure"]),
        (["run", "--volumes-from", "ol"], ["old"]),
        (["run", "-v", "d"], ["data:"]),
        (["run", "--hea"], [f"--health-{name}" for name in "cmd interval retries start-interval start-period timeout".split()]),
        (["-H", "unix:///nowhere", "ps", "--la"], ["--last", "--latest"]),
        (["--log-level", "w"], ["warn"]),
        (["ps", "--filter", "st"], ["status="]),
        (["volume", "rm", ""], ["data"]),
        (["network", "connect", "front", ""], ["asleep", "old", "web", "worker"]),
        (["cp", "o"], ["old:"]),
        (["exec", "web", ""], []),
        (["port", "web", ""], []),
        (["pause", "--", ""], ["asleep", "web", "worker"]),
        (["service", "scale", ""], ["api="]),
        (["stack", "ps", ""], ["hall"]),
        (["node", "inspect", ""], ["one", "self"]),
        (["swarm", "join-token", ""], ["worker", "manager"]),
        (["help", "ru"], ["run"]),
        (["context", "use", ""], ["default"]),
        (["nonsense", ""], []),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_the_next_word_is_known(recorder: Recorder, words: list[str], wanted: list[str]) -> None:
    assert candidates(recorder, *words)[0] == wanted


def test_what_a_candidate_is_stands_behind_it(recorder: Recorder) -> None:
    done = run([carrack_program(), "__complete", "stop", "web"], env=recorder.environment())
    assert done.ok().splitlines() == ["web\tnginx, Up 2 minutes", ":4"]


def test_a_daemon_that_is_away_yields_no_names_and_no_noise(recorder: Recorder) -> None:
    done = run([carrack_program(), "__complete", "stop", ""], env=recorder.environment(DOCKER_HOST="unix:///no/such"))
    assert (done.code, done.stdout, done.stderr) == (0, ":4\n", "")


@pytest.mark.parametrize(("words", "files"), [(["load", "-i", ""], True), (["cp", "./x"], True), (["stop", ""], False)])
def test_files_are_candidates_where_a_file_belongs(recorder: Recorder, words: list[str], files: bool) -> None:
    assert bool(candidates(recorder, *words)[1] & 4) is not files


def environment(recorder: Recorder, folder: Path) -> dict[str, str]:
    """One in which `carrack` is on PATH and nobody's settings are read."""
    (folder / "bin").mkdir(exist_ok=True)
    link = folder / "bin/carrack"
    if not link.exists():
        link.symlink_to(carrack_program())
    return {**recorder.environment(), "PATH": f"{folder}/bin:/usr/bin:/bin", "HOME": str(folder), "TERM": "xterm", "PS1": "$ "}


@pytest.mark.parametrize(
    ("typed", "becomes"),
    [
        ("carrack stop we", "carrack stop web "),
        ("carrack run --network=fr", "carrack run --network=front "),
        ("carrack run -v da", "carrack run -v data:"),
        ("carrack rmi nginx:1", "carrack rmi nginx:1.27 "),
        ("carrack container sto", "carrack container stop "),
    ],
)
def test_a_tab_in_bash_ends_the_word(recorder: Recorder, tmp_path: Path, typed: str, becomes: str) -> None:
    settings = tmp_path / "rc"
    settings.write_text(
        "source <(carrack completion bash)\nbind 'set enable-bracketed-paste off'\nPS1='$ '\n"
        "show() { printf '<%s>\\n' \"$READLINE_LINE\"; }\nbind -x '\"\\C-g\": show'\n"
    )
    with Terminal(["bash", "--noprofile", "--rcfile", str(settings), "-i"], env=environment(recorder, tmp_path)) as shell:
        shell.expect(r"\$ ")
        shell.send(f"{typed}\t\x07")
        assert shell.expect(r"<(.*)>").group(1) == becomes


@pytest.mark.parametrize(
    ("typed", "becomes"), [("carrack stop we", "carrack stop web "), ("carrack container sto", "carrack container stop ")]
)
def test_a_tab_in_zsh_ends_the_word(recorder: Recorder, tmp_path: Path, typed: str, becomes: str) -> None:
    zsh = shutil.which("zsh")
    assert zsh is not None, "run scripts/test, which installs it"
    (tmp_path / ".zshrc").write_text(
        "autoload -Uz compinit; compinit -u -D; source <(carrack completion zsh)\nPS1='$ '\nunsetopt zle_bracketed_paste\n"
        "show() { print -r -- \"<$BUFFER>\" }; zle -N show; bindkey '^G' show\n"
    )
    with Terminal([zsh, "-i"], env={**environment(recorder, tmp_path), "ZDOTDIR": str(tmp_path)}) as shell:
        shell.expect(r"\$ ")
        shell.send(f"{typed}\t\x07")
        assert shell.expect(r"<(carrack .*)>").group(1) == becomes


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("carrack stop w", ["web\tnginx, Up 2 minutes", "worker\tbusybox, Up 1 minute"]),
        ("carrack run --restart on", ["on-failure"]),
        ("carrack network disc", ["disconnect\tDisconnect a container from a network"]),
    ],
)
def test_fish_offers_the_words(recorder: Recorder, tmp_path: Path, typed: str, offered: list[str]) -> None:
    fish = shutil.which("fish")
    assert fish is not None, "run scripts/test, which installs it"
    script = f"carrack completion fish | source; complete -C {json.dumps(typed)}"
    done = run([fish, "--no-config", "-c", script], env=environment(recorder, tmp_path))
    assert done.ok().splitlines() == offered
