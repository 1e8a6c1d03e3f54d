"""diff, export and commit: what a container made of its image, told, packed, and kept as an image."""

import io
import json
import subprocess
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import MakeEngine
from tests.rig.engine import CommandLine, Engine, docker_program
from tests.rig.waiting import until

CHANGES = "mkdir /new; echo a >/new/file; rm /etc/group; rm -r /home; chmod 600 /etc/passwd; ln -s /new /link"


@pytest.fixture
def changed(cli: CommandLine) -> CommandLine:
    """A container called `work` that has changed files of its image and ended."""
    assert cli("run", "--name", "work", "-v", "/vol", "busybox", "sh", "-c", CHANGES).code == 0
    return cli


def tree(content: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {entry.name: entry for entry in archive}


def layers(engine: Engine, image: str) -> list[str]:
    found = engine.api("GET", f"/images/{image}/json").json["RootFS"]["Layers"]
    assert isinstance(found, list)
    return found


# ── diff ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.both_clients
@pytest.mark.observes("docker diff", "GET /containers/{id}/changes")
def test_diff_tells_what_was_changed_added_and_deleted(changed: CommandLine) -> None:
    wanted = {"C /etc", "C /etc/passwd", "D /etc/group", "D /home", "A /new", "A /new/file", "A /link", "A /vol"}
    assert set(changed.ok("diff", "work").splitlines()) == wanted


@pytest.mark.observes("GET /containers/{id}/changes")
def test_a_start_alone_changes_nothing(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "still", "busybox", "sleep", "1000")
    assert cli.ok("diff", "still") == ""
    assert cli.engine.api("GET", "/containers/still/changes").json in (None, [])
    assert cli.engine.api("GET", "/containers/nobody/changes").status == 404


@pytest.mark.observes("GET /containers/{id}/changes")
def test_a_file_in_place_of_a_directory_and_a_directory_made_anew(cli: CommandLine) -> None:
    script = "rm -r /home; echo >/home; rm -r /var; mkdir /var; echo >/var/own; echo x >>/etc/shadow"
    cli.ok("run", "--name", "odd", "busybox", "sh", "-c", script)
    found = set(cli.ok("diff", "odd").splitlines())
    assert {"C /home", "A /var/own", "C /etc/shadow"} <= found
    assert {"C /var", "D /var"} & found


@pytest.mark.observes("docker diff")
def test_a_running_container_can_be_compared(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "live", "busybox", "sleep", "1000")
    cli.ok("exec", "live", "touch", "/tmp/now")
    assert set(cli.ok("diff", "live").splitlines()) == {"C /tmp", "A /tmp/now"}


# ── export ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.both_clients
@pytest.mark.observes("docker export", "docker export --output", "GET /containers/{id}/export")
def test_export_is_the_whole_root_as_it_is(changed: CommandLine, tmp_path: object) -> None:
    content = changed.output("export", "work")
    found = tree(content)
    assert {"bin/busybox", "new/file", "link", "etc/passwd"} <= set(found)
    assert not {"etc/group", "home"} & set(found)
    assert found["etc/passwd"].mode & 0o777 == 0o600
    assert found[".dockerenv"].isfile()
    changed.ok("export", "-o", f"{tmp_path}/root.tar", "work")
    with open(f"{tmp_path}/root.tar", "rb") as file:
        assert set(tree(file.read())) == set(found)


@pytest.mark.observes("GET /containers/{id}/export")
def test_what_is_mounted_is_not_exported(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "live", "-v", "/vol", "--tmpfs", "/tmp", "busybox", "sleep", "1000")
    cli.ok("exec", "live", "sh", "-c", "touch /vol/in-volume /tmp/in-memory /in-root; echo x >>/etc/hosts")
    found = tree(cli.output("export", "live"))
    assert "in-root" in found
    assert "vol" in found
    assert not {"vol/in-volume", "tmp/in-memory", "proc/cpuinfo", "sys/kernel"} & set(found)
    assert found["etc/hosts"].size == 0


@pytest.mark.observes("docker export", "docker import")
def test_an_export_can_be_imported_again(changed: CommandLine) -> None:
    changed.ok("import", "-", "flat:1", stdin=changed.output("export", "work"))
    assert changed.ok("run", "--rm", "flat:1", "cat", "/new/file") == "a"


# ── commit ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.both_clients
@pytest.mark.observes("docker commit", "POST /commit")
def test_commit_keeps_the_files_in_one_more_layer(changed: CommandLine) -> None:
    identity = changed.ok("commit", "work", "kept:1")
    assert identity.startswith("sha256:")
    script = "cat /new/file; ls -d /home /etc/group 2>/dev/null; stat -c %a /etc/passwd; cat /etc/hostname"
    shown = changed.ok("run", "--rm", "--hostname", "fresh", "kept:1", "sh", "-c", script)
    assert shown.split() == ["a", "600", "fresh"]
    before, after = layers(changed.engine, "busybox"), layers(changed.engine, "kept:1")
    assert after[: len(before)] == before
    assert len(after) == len(before) + 1


@pytest.mark.both_clients
@pytest.mark.observes("docker commit --author", "docker commit --message", "docker commit --change", "docker history")
def test_commit_says_who_why_and_how_to_run(cli: CommandLine) -> None:
    cli.ok("run", "--name", "work", "-e", "A=1", "-w", "/tmp", "--label", "own=yes", "busybox", "sh", "-c", "echo >/made")
    change = ["--change", 'CMD ["echo", "changed"]', "-c", "ENV B=2", "-c", "LABEL new=too", "-c", "EXPOSE 80", "-c", "USER 1000"]
    cli.ok("commit", "-a", "Grace <g@example.com>", "-m", "a reason", *change, "work", "kept:1")
    image = cli.engine.api("GET", "/images/kept:1/json").json
    assert image["Author"] == "Grace <g@example.com>"
    config = image["Config"]
    assert {"A=1", "B=2"} <= set(config["Env"])
    assert config["Labels"] == {"own": "yes", "new": "too"}
    assert (config["WorkingDir"], config["User"], list(config["ExposedPorts"])) == ("/tmp", "1000", ["80/tcp"])
    assert cli.ok("run", "--rm", "kept:1") == "changed"
    newest = cli.engine.api("GET", "/images/kept:1/history").json[0]
    assert (newest["Comment"], newest["CreatedBy"]) == ("a reason", "sh -c echo >/made")
    assert newest["Size"] == 1


@pytest.mark.observes("POST /commit")
def test_commit_takes_a_configuration_and_defaults_to_the_containers(cli: CommandLine) -> None:
    cli.ok("create", "--name", "work", "--entrypoint", "echo", "busybox", "mine")
    identity = cli.engine.api("POST", "/commit?container=work", {"Labels": {"a": "b"}, "Env": ["X=y"]}).json["Id"]
    config = cli.engine.api("GET", f"/images/{identity}/json").json["Config"]
    assert (config["Entrypoint"], config["Cmd"], config["Labels"]) == (["echo"], ["mine"], {"a": "b"})
    assert "X=y" in config["Env"]
    assert layers(cli.engine, identity) == layers(cli.engine, "busybox")


@pytest.mark.both_clients
@pytest.mark.observes("docker commit --pause")
def test_a_running_container_is_paused_meanwhile_unless_that_is_not_wanted(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "live", "busybox", "sleep", "1000")
    begun = time.time()
    cli.ok("commit", "--pause=false", "live", "kept:1")
    between = time.time()
    cli.ok("commit", "live", "kept:2")
    assert cli.ok("inspect", "-f", "{{.State.Status}}", "live") == "running"

    def actions(since: float, until: float) -> list[str]:
        reply = cli.engine.api("GET", f"/events?since={since:.6f}&until={until:.6f}")
        return [event["Action"] for event in map(json.loads, reply.body.splitlines()) if event["Type"] == "container"]

    assert actions(begun, between) == ["commit"]
    assert sorted(actions(between, time.time() + 0.01)) == ["commit", "pause", "unpause"]


@pytest.mark.observes("POST /commit", "docker events")
def test_a_commit_is_an_event_with_its_image(changed: CommandLine) -> None:
    begun = time.time()
    identity = changed.ok("commit", "-m", "why", "work", "kept:1")
    reply = changed.engine.api("GET", f"/events?since={begun:.6f}&until={time.time() + 0.01:.6f}")
    told = [event for event in map(json.loads, reply.body.splitlines()) if event["Action"] == "commit"]
    attributes = told[0]["Actor"]["Attributes"]
    assert (attributes["comment"], attributes["imageID"], attributes["name"]) == ("why", identity, "work")
    assert attributes["imageRef"].endswith("kept:1")


@pytest.mark.peer_lacks("it keeps the image of a commit that it refuses")
@pytest.mark.observes("POST /commit")
def test_a_commit_that_cannot_be_meant_makes_nothing(changed: CommandLine) -> None:
    before = changed.ok("images", "-aq")
    api = changed.engine.api
    assert api("POST", "/commit?container=nobody").status == 404
    refused = api("POST", "/commit?container=work&repo=UPPER").status
    assert refused == 400 or (changed.engine.kind == "dockerd" and refused == 500)
    assert api("POST", "/commit?container=work&changes=FROM%20scratch").status == 400
    assert changed.ok("images", "-aq") == before


@pytest.mark.observes("POST /commit")
def test_an_image_committed_twice_over_keeps_its_history(changed: CommandLine) -> None:
    changed.ok("commit", "work", "first:1")
    assert changed("run", "--name", "again", "first:1", "sh", "-c", "rm /new/file; echo b >/other").code == 0
    changed.ok("commit", "again", "second:1")
    assert changed.ok("run", "--rm", "second:1", "sh", "-c", "ls /new; cat /other") == "b"
    assert len(layers(changed.engine, "second:1")) == len(layers(changed.engine, "busybox")) + 2
    saved = tree(changed.output("save", "second:1"))
    assert any(name.endswith("manifest.json") for name in saved)


@pytest.mark.observes("POST /commit", "GET /containers/{id}/changes")
def test_full_copies_are_compared_and_committed_too(make_engine: MakeEngine) -> None:
    cli = CommandLine(make_engine("--storage-driver", "vfs"), [docker_program()])
    assert cli("run", "--name", "work", "busybox", "sh", "-c", CHANGES).code == 0
    wanted = {"C /etc", "C /etc/passwd", "D /etc/group", "D /home", "A /new", "A /new/file", "A /link"}
    assert wanted <= set(cli.ok("diff", "work").splitlines())
    cli.ok("commit", "work", "kept:1")
    assert cli.ok("run", "--rm", "kept:1", "sh", "-c", "cat /new/file; ls -d /home /etc/group 2>/dev/null; true") == "a"


@pytest.mark.peer_lacks("a container stays paused when it is killed in the midst of a commit")
def test_a_container_goes_on_when_the_daemon_is_killed_in_the_midst_of_a_commit(make_engine: MakeEngine) -> None:
    engine = make_engine()
    cli = CommandLine(engine, [docker_program()])
    script = "head -c 400000000 /dev/urandom > /big; i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.02; done"
    cli.ok("run", "-d", "--name", "busy", "busybox", "sh", "-c", script)
    until(lambda: cli("exec", "busy", "test", "-e", "/count").code == 0, "the big file")
    commit = subprocess.Popen(
        [*cli.program, "commit", "busy", "half"], env=engine.env(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until(lambda: engine.api("GET", "/containers/busy/json").json["State"]["Paused"], "the commit's pause")
    engine.kill()
    commit.wait(30)
    assert commit.returncode != 0, "the commit was done before the daemon was killed"
    engine.start()
    assert engine.api("GET", "/containers/busy/json").json["State"]["Status"] == "running"
    before = cli.ok("exec", "busy", "cat", "/count")
    until(lambda: cli.ok("exec", "busy", "cat", "/count") != before, "the container to go on")
    assert cli("image", "inspect", "half").code != 0
    cli.ok("pause", "busy")
    engine.kill()
    engine.start()
    assert engine.api("GET", "/containers/busy/json").json["State"]["Status"] == "paused", "a user's pause is the user's"


@pytest.mark.observes("POST /commit")
def test_a_commit_that_races_a_removal_is_a_conflict_or_an_image(engine: Engine) -> None:
    seen = set()
    with ThreadPoolExecutor(2) as pool:
        for number in range(12):
            engine.api("POST", f"/containers/create?name=racing{number}", {"Image": "busybox", "Cmd": ["true"]})
            removal = pool.submit(engine.api, "DELETE", f"/containers/racing{number}?force=1")
            seen.add(engine.api("POST", f"/commit?container=racing{number}", {}).status)
            assert removal.result().status == 204
    assert seen <= {201, 404, 409}
