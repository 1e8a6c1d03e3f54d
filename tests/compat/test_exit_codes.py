"""Exit codes of `run`, `exec` and `start`, and the sentences that go with them."""

import pytest

from tests.rig.engine import CommandLine

pytestmark = pytest.mark.both_clients


@pytest.mark.observes("docker run")
@pytest.mark.parametrize("code", [0, 1, 42, 125, 126, 127, 255])
def test_run_ends_as_the_command_ended(cli: CommandLine, code: int) -> None:
    assert cli.shell(f"exit {code}").code == code


@pytest.mark.observes("docker run", "docker kill")
def test_a_command_that_is_killed_ends_with_137(cli: CommandLine) -> None:
    with cli.pipes("run", "--rm", "--name", "victim", "busybox", "sh", "-c", "echo ready; exec sleep 1000") as running:
        running.expect("ready")
        cli.ok("kill", "victim")
        assert running.wait() == 137


@pytest.mark.observes("docker run")
def test_a_child_killed_by_a_signal_shows_in_the_shells_code(cli: CommandLine) -> None:
    assert cli.shell("sh -c 'kill -SEGV $$'; exit $?").code == 139


@pytest.mark.observes("docker run")
def test_a_command_that_does_not_exist_is_127(cli: CommandLine) -> None:
    ended = cli("run", "--rm", "busybox", "no-such-command")
    assert ended.code == 127
    assert 'exec: "no-such-command": executable file not found in $PATH' in ended.stderr


@pytest.mark.observes("docker run")
def test_a_path_that_does_not_exist_is_127(cli: CommandLine) -> None:
    ended = cli("run", "--rm", "busybox", "/bin/no-such-command")
    assert ended.code == 127
    assert 'exec: "/bin/no-such-command": stat /bin/no-such-command: no such file or directory' in ended.stderr


@pytest.mark.docker_since(23)
@pytest.mark.observes("docker run")
@pytest.mark.parametrize("command", ["/etc/passwd", "/etc"])
def test_what_cannot_be_executed_is_126(cli: CommandLine, command: str) -> None:
    ended = cli("run", "--rm", "busybox", command)
    assert ended.code == 126
    assert f'exec: "{command}": ' in ended.stderr
    assert "permission denied" in ended.stderr or "is a directory" in ended.stderr


@pytest.mark.observes("docker run")
def test_a_failed_start_leaves_a_created_container_that_says_why(cli: CommandLine) -> None:
    assert cli("run", "--name", "stuck", "busybox", "no-such-command").code == 127
    form = "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}"
    status, code, error = cli.ok("inspect", "--format", form, "stuck").split(" ", 2)
    assert (status, code) == ("created", "127")
    assert "executable file not found" in error


@pytest.mark.observes("docker run")
def test_a_missing_working_directory_that_is_a_file_fails_the_start(cli: CommandLine) -> None:
    ended = cli("run", "--rm", "-w", "/etc/passwd", "busybox", "true")
    assert ended.code in {125, 126, 127}
    assert "not a directory" in ended.stderr


@pytest.mark.observes("docker run")
def test_an_unknown_flag_is_125(cli: CommandLine) -> None:
    ended = cli("run", "--no-such-flag", "busybox")
    assert ended.code == 125
    assert "unknown flag: --no-such-flag" in ended.stderr


@pytest.mark.observes("docker run", "GET /images/{name}/json")
def test_an_unknown_image_that_may_not_be_pulled_is_125(cli: CommandLine) -> None:
    ended = cli("run", "--rm", "--pull", "never", "no-such-image:1")
    assert ended.code == 125
    assert "No such image: no-such-image:1" in ended.stderr


@pytest.mark.observes("docker exec")
@pytest.mark.parametrize("code", [0, 7, 255])
def test_exec_ends_as_its_command_ended(cli: CommandLine, code: int) -> None:
    cli.ok("run", "-d", "--name", "host", "busybox", "sleep", "1000")
    assert cli("exec", "host", "sh", "-c", f"exit {code}").code == code


@pytest.mark.observes("docker exec")
def test_exec_of_a_command_that_does_not_exist_is_127(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "host", "busybox", "sleep", "1000")
    ended = cli("exec", "host", "no-such-command")
    assert ended.code == (126 if cli.engine.kind == "dockerd" else 127)  # 126 until engine 23
    assert 'exec: "no-such-command": executable file not found in $PATH' in ended.stderr + ended.stdout


@pytest.mark.observes("docker exec")
def test_exec_of_what_cannot_be_executed_is_126(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "host", "busybox", "sleep", "1000")
    ended = cli("exec", "host", "/etc/passwd")
    assert ended.code == 126
    assert "permission denied" in ended.stderr + ended.stdout


@pytest.mark.observes("docker exec")
def test_exec_in_a_container_that_is_not_running_is_refused(cli: CommandLine) -> None:
    cli.ok("run", "--name", "ended", "busybox", "true")
    ended = cli("exec", "ended", "true")
    assert ended.code == 1
    assert "is not running" in ended.stderr


@pytest.mark.observes("docker start", "docker start --attach")
def test_start_attached_ends_as_the_command_ended(cli: CommandLine) -> None:
    assert cli("run", "--name", "again", "busybox", "sh", "-c", "echo once more; exit 9").code == 9
    ended = cli("start", "-a", "again")
    assert (ended.code, ended.stdout) == (9, "once more\n")


@pytest.mark.observes("docker inspect", "docker rm", "docker start", "docker stop", "docker kill", "docker logs")
@pytest.mark.parametrize("command", ["rm", "start", "stop", "kill", "logs", "restart", "port", "top", "wait"])
def test_an_unknown_container_is_named(cli: CommandLine, command: str) -> None:
    ended = cli(command, "nobody")
    assert ended.code == 1
    assert "No such container: nobody" in ended.stderr


def test_inspect_of_an_unknown_object_is_named(cli: CommandLine) -> None:
    ended = cli("inspect", "nobody")
    assert ended.code == 1
    assert "no such object: nobody" in ended.stderr.lower()
    assert ended.stdout == "[]\n"


@pytest.mark.observes("docker run --rm")
def test_a_failed_start_says_why_once(cli: CommandLine) -> None:
    ended = cli("run", "--rm", "busybox", "no-such-command")
    assert ended.stderr.count("no-such-command") == 1


@pytest.mark.observes("docker run --interactive")
def test_a_command_that_leaves_input_unread_ends_well(cli: CommandLine) -> None:
    ended = cli("run", "--rm", "-i", "busybox", "head", "-c", "1", stdin=b"x" * 3_000_000)
    assert (ended.code, ended.stdout, ended.stderr) == (0, "x", "")
