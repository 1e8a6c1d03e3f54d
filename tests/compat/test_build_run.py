"""RUN: its forms, its mounts, its networks, its rights; and that nothing of a step's surroundings stays in the layer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import MakeEngine
from tests.rig.builds import build, printed, try_build
from tests.rig.engine import CommandLine, Engine, carrack_program

BUILDKIT = "this came with BuildKit"
LINKS = "ls /sys/class/net | tr '\\n' ' '; echo"


@pytest.mark.observes("POST /build")
def test_the_exec_form_needs_no_shell_and_expands_nothing(engine: Engine) -> None:
    assert printed(build(engine, 'FROM busybox\nENV A=1\nRUN ["/bin/echo", "$A"]\nRUN echo $A\n')) == ["$A", "1"]


def test_a_line_may_be_continued(engine: Engine) -> None:
    assert printed(build(engine, "FROM busybox\nRUN echo a && \\\n    # a comment\n    echo b\n")) == ["a", "b"]


HEREDOCS = """FROM busybox
RUN <<EOF
X=one
echo $X
EOF
RUN <<'SCRIPT'
#!/bin/sh
echo "$0"
SCRIPT
RUN cat <<A - <<-B
first
A
	second
B
"""


@pytest.mark.peer_lacks(BUILDKIT)
def test_heredocs_are_scripts_of_the_shell_or_of_their_own_interpreter(engine: Engine) -> None:
    assert printed(build(engine, HEREDOCS)) == ["one", "/dev/pipes/SCRIPT", "second"]


@pytest.mark.peer_lacks("the classic builder leaves /etc/hosts and others in the image")
def test_a_step_leaves_nothing_of_its_surroundings(engine: Engine) -> None:
    """/proc, /dev, /sys, /etc/hosts and /etc/resolv.conf are there while it runs, and in no layer."""
    dockerfile = """FROM scratch
COPY --from=busybox /bin/busybox /bin/sh
RUN [ -e /proc/1/status ] && [ -e /etc/hosts ] && [ -e /dev/null ] && [ -d /sys/class ]
"""
    built = build(engine, dockerfile)
    assert len(engine.api("GET", f"/images/{built.image}/json").json["RootFS"]["Layers"]) == 1


@pytest.mark.peer_lacks(BUILDKIT)
def test_a_bind_mount_shows_the_context_and_is_read_only(engine: Engine) -> None:
    dockerfile = """FROM busybox
WORKDIR /w
RUN --mount=type=bind,source=dir/f,target=g cat g; touch g 2>/dev/null || echo read-only
RUN --mount=target=. ls; ls -d /w
RUN ls -A
"""
    assert printed(build(engine, dockerfile, {"dir/f": "hello\n"})) == ["hello", "read-only", "Dockerfile", "dir", "/w"]


@pytest.mark.peer_lacks(BUILDKIT)
def test_what_is_written_to_a_bind_mount_is_thrown_away(engine: Engine) -> None:
    dockerfile = "FROM busybox\nRUN --mount=target=/c,rw echo new > /c/f && cat /c/f\nRUN --mount=target=/c cat /c/f\n"
    assert printed(build(engine, dockerfile, {"f": "old\n"})) == ["new", "old"]


@pytest.mark.peer_lacks(BUILDKIT)
def test_a_bind_mount_takes_files_of_stages_and_images(engine: Engine) -> None:
    dockerfile = """FROM busybox AS s
RUN mkdir /d && echo of-stage > /d/f && ln -s /d/f /link
FROM busybox
RUN --mount=from=s,source=/d,target=/m cat /m/f
RUN --mount=from=s,source=/link,target=/l cat /l
RUN --mount=from=busybox,source=/etc/passwd,target=/pw grep -c ^root /pw
"""
    assert printed(build(engine, dockerfile)) == ["of-stage", "of-stage", "1"]


@pytest.mark.peer_lacks(BUILDKIT)
def test_a_cache_mount_stays_from_build_to_build_and_out_of_the_layer(engine: Engine) -> None:
    dockerfile = """FROM busybox
ARG N
RUN --mount=type=cache,target=/cache echo $N >> /cache/log && cat /cache/log
RUN ls -d /cache || echo gone
"""
    engine.api("POST", "/build/prune?all=1")
    assert printed(build(engine, dockerfile, buildargs={"N": "1"}))[:1] == ["1"]
    assert printed(build(engine, dockerfile, buildargs={"N": "2"}))[:2] == ["1", "2"]
    assert "gone" in build(engine, dockerfile, buildargs={"N": "3"}).text


@pytest.mark.peer_lacks(BUILDKIT)
def test_a_cache_mount_has_an_id_a_mode_and_an_owner(engine: Engine) -> None:
    dockerfile = """FROM busybox
RUN --mount=type=cache,id=an-id,target=/a,mode=0770,uid=7,gid=8 ls -ldn /a | awk '{print $1, $3, $4}'; echo x > /a/x
RUN --mount=type=cache,id=an-id,target=/b cat /b/x
RUN --mount=type=cache,id=an-id,target=/b,readonly touch /b/y 2>/dev/null || echo refused
"""
    engine.api("POST", "/build/prune?all=1")
    assert printed(build(engine, dockerfile)) == ["drwxrwx--- 7 8", "x", "refused"]


@pytest.mark.peer_lacks(BUILDKIT)
def test_a_tmpfs_has_its_size_and_goes_with_the_step(engine: Engine) -> None:
    dockerfile = """FROM busybox
RUN --mount=type=tmpfs,target=/t,size=1m df -k /t | tail -1 | awk '{print $2}'; touch /t/x
RUN ls -d /t 2>/dev/null || echo gone
"""
    assert printed(build(engine, dockerfile)) == ["1024", "gone"]


@pytest.mark.peer_lacks(BUILDKIT)
def test_a_secret_that_is_not_given_is_absent_or_refused(engine: Engine) -> None:
    absent = "FROM busybox\nRUN --mount=type=secret,id=s [ -e /run/secrets/s ] || echo absent\n"
    assert printed(build(engine, absent)) == ["absent"]
    assert "secret s: not found" in try_build(engine, "FROM busybox\nRUN --mount=type=secret,id=s,required true\n").error


@pytest.mark.peer_lacks(BUILDKIT)
def test_networks_of_a_step(engine: Engine) -> None:
    assert printed(build(engine, f"FROM busybox\nRUN {LINKS}\nRUN --network=none {LINKS}\n")) == ["eth0 lo ", "lo "]
    assert "network.host is not allowed" in try_build(engine, "FROM busybox\nRUN --network=host true\n").error


def test_the_network_of_the_build(engine: Engine) -> None:
    assert printed(build(engine, f"FROM busybox\nRUN {LINKS}\n", networkmode="none")) == ["lo "]
    here = printed(build(engine, "FROM busybox\nRUN readlink /proc/self/ns/net\n", networkmode="host"))
    assert here == [engine.on_host("readlink", "/proc/self/ns/net").text]


@pytest.mark.peer_lacks(BUILDKIT)
def test_rights_beyond_a_containers_are_not_given(engine: Engine) -> None:
    assert "security.insecure is not allowed" in try_build(engine, "FROM busybox\nRUN --security=insecure true\n").error


def test_extra_hosts_limits_and_shared_memory_reach_the_step(engine: Engine) -> None:
    dockerfile = """FROM busybox
RUN grep somehost /etc/hosts | tr '\\t' ' '; ulimit -n; df -k /dev/shm | tail -1 | awk '{print $2}'
"""
    limits = [{"Name": "nofile", "Soft": 777, "Hard": 777}]
    built = build(engine, dockerfile, extrahosts="somehost:192.0.2.7", ulimits=limits, shmsize=1 << 20)
    assert printed(built) == ["192.0.2.7 somehost", "777", "1024"]


def test_a_program_that_is_not_there_fails_the_build(engine: Engine) -> None:
    assert "/nope" in try_build(engine, 'FROM busybox\nRUN ["/nope"]\n').error


def test_a_step_that_runs_out_of_memory_fails(engine: Engine) -> None:
    dockerfile = "FROM busybox\nRUN head -c 200m /dev/zero | tail -c 200m > /dev/null\n"
    assert try_build(engine, dockerfile, memory=32 << 20, memswap=32 << 20).error


@pytest.mark.observes("docker build --quiet", "docker build --no-cache", "docker build --build-arg", "docker build --label")
def test_flags_of_the_command_line(
    cli: CommandLine, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_BUILDKIT", "0")
    folder = tmp_path_factory.mktemp("context")
    (folder / "Other").write_text("FROM busybox\nARG A\nRUN echo $A > /a\n")
    words = ["build", "-f", str(folder / "Other"), "--build-arg", "A=1", "--label", "l=v", str(folder)]
    image = cli.ok(*words, "-q")
    assert image.startswith("sha256:")
    assert json.loads(cli.ok("image", "inspect", image))[0]["Config"]["Labels"] == {"l": "v"}
    assert "Using cache" in cli.ok(*words)
    assert "Using cache" not in cli.ok(*words, "--no-cache")


@pytest.mark.peer_lacks(BUILDKIT)
def test_a_device_is_there_when_it_is_described_and_allowed(make_engine: MakeEngine, tmp_path: Path) -> None:
    described = {
        "cdiVersion": "0.6.0",
        "kind": "example.org/thing",
        "devices": [{"name": "one", "containerEdits": {"env": ["THING=one"], "deviceNodes": [{"path": "/dev/zero"}]}}],
    }
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi" / "thing.json").write_text(json.dumps(described))
    carrack = CommandLine(make_engine("--cdi-spec-dir", str(tmp_path / "cdi")), [carrack_program()])
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(
        "FROM busybox\n"
        "RUN --device=example.org/thing=one,required echo has-$THING\n"
        "RUN --device=example.org/thing=two echo has-[$THING]\n"
    )
    words = ["build", "--progress", "plain", str(folder)]
    refused = carrack(*words)
    assert "device is not allowed" in refused.stderr
    shown = carrack(*words, "--allow", "device")
    assert shown.code == 0, str(shown)
    assert "has-one" in shown.stderr
    assert "has-[]" in shown.stderr
