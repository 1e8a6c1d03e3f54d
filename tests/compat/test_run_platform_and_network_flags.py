"""Images for other machines, addresses of one's own choice, the daemon's socket inside, pausing."""

import base64
import json
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.archives import Entry, Recipe, docker_archive, tar
from tests.rig.commands import run
from tests.rig.engine import CommandLine, Engine, carrack_program
from tests.rig.waiting import until

RISCV = 243
FOREIGN = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHI", 2, RISCV, 1) + bytes(40)
"""The first bytes of a RISC-V program: enough for the kernel to find its interpreter by."""


@pytest.fixture
def carrack(engine: Engine) -> CommandLine:
    """Our own client: the older docker command line has not all of these flags."""
    return CommandLine(engine, [carrack_program()])


@pytest.fixture
def foreign_image(engine: Engine) -> str:
    """An image for RISC-V, whose program only an emulator can run."""
    recipe = Recipe(
        (tar([Entry("hello", FOREIGN, 0o755)]),), ("foreign:latest",), {"Cmd": ["/hello", "there"]}, architecture="riscv64"
    )
    loaded = engine.api("POST", "/images/load", docker_archive(recipe), headers={"Content-Type": "application/x-tar"})
    assert loaded.status == 200
    return "foreign:latest"


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[None]:
    """What binfmt_misc knows of RISC-V: an interpreter that prints what it is to run. It is busybox under the name of `echo`."""
    place, program = tmp_path / "binfmt", tmp_path / "echo"
    place.mkdir()
    shutil.copy("/bin/busybox", program)
    run(["mount", "-t", "binfmt_misc", "none", str(place)]).ok()
    magic, mask = FOREIGN[:20], b"\xff" * 4 + bytes(14) + b"\xff\xff"
    name = f"carrack-test-{os.getpid()}"
    escaped = ["".join(f"\\x{byte:02x}" for byte in text) for text in (magic, mask)]
    try:
        (place / "register").write_text(f":{name}:M::{escaped[0]}:{escaped[1]}:{program}:F")
        yield
    finally:
        if (place / name).exists():
            (place / name).write_text("-1")
        run(["umount", str(place)])


@pytest.mark.usefixtures("emulator")
@pytest.mark.peer_lacks("it takes --platform for an experiment")
@pytest.mark.observes("docker run --platform", "docker create --platform")
def test_an_image_for_another_machine_runs_where_binfmt_knows_it(carrack: CommandLine, foreign_image: str) -> None:
    assert carrack.ok("run", "--rm", "--platform", "linux/riscv64", foreign_image) == "/hello there"
    warned = carrack("run", "--rm", foreign_image)
    assert warned.stdout == "/hello there\n"
    assert "The requested image's platform (linux/riscv64) does not match the detected host platform" in warned.stderr


@pytest.mark.peer_lacks("it takes --platform for an experiment")
@pytest.mark.observes("docker run --platform")
def test_another_platform_than_the_images_is_refused(carrack: CommandLine) -> None:
    ended = carrack("run", "--rm", "--pull", "never", "--platform", "linux/s390x", "busybox", "true")
    assert ended.code == 125
    assert "does not match the specified platform (linux/s390x)" in ended.stderr


def test_without_an_emulator_the_kernels_refusal_is_told(carrack: CommandLine, foreign_image: str) -> None:
    ended = carrack("run", "--rm", "--platform", "linux/riscv64", foreign_image)
    assert ended.code == (255 if carrack.engine.kind == "carrackd" else 1)  # as runc of today has it, and of then
    assert "exec format error" in ended.stderr


@pytest.mark.peer_lacks("its API is too old for a hardware address on a network")
@pytest.mark.observes("docker run --mac-address", "docker run --ip", "docker run --ip6", "docker run --link-local-ip")
def test_addresses_of_ones_own_choice_are_the_interfaces(carrack: CommandLine) -> None:
    engine = carrack.engine
    net = int(engine.token.encode().hex(), 16) % 200
    subnet4, subnet6 = f"10.251.{net}.0/24", f"fd00:251:{net:x}::/64"
    carrack.ok("network", "create", "--ipv6", "--subnet", subnet4, "--subnet", subnet6, "ours")
    four, six = f"10.251.{net}.77", f"fd00:251:{net:x}::77"
    flags = (
        "--network",
        "ours",
        "--ip",
        four,
        "--ip6",
        six,
        "--link-local-ip",
        "169.254.77.1",
        "--mac-address",
        "02:42:0a:fb:00:4d",
    )
    seen = carrack.shell("ip addr show eth0", *flags).ok()
    assert "link/ether 02:42:0a:fb:00:4d" in seen
    assert f"inet {four}/24" in seen
    assert f"inet6 {six}/64" in seen
    assert "inet 169.254.77.1/" in seen


@pytest.mark.observes("docker run --mac-address")
@pytest.mark.parametrize("address", ["nonsense", "01:02"])
def test_a_malformed_hardware_address_is_refused(docker_cli: CommandLine, address: str) -> None:
    ended = docker_cli("run", "--rm", "--mac-address", address, "busybox", "true")
    assert ended.code == 125
    assert "not a valid mac address" in ended.stderr


@pytest.mark.peer_lacks("its API is too old for the logins to be put there by this client")
@pytest.mark.observes("docker run --use-api-socket")
def test_the_daemons_socket_and_the_users_logins_can_be_inside(carrack: CommandLine) -> None:
    home = Path(carrack.engine.env()["DOCKER_CONFIG"])
    login = base64.b64encode(b"ann:secret").decode()
    (home / "config.json").write_text(json.dumps({"auths": {"registry.example": {"auth": login}}}))
    try:
        seen = carrack.shell("stat -c %i /var/run/docker.sock; cat $DOCKER_CONFIG/config.json", "--use-api-socket").ok()
    finally:
        (home / "config.json").unlink()
    inode, document = seen.split("\n", 1)
    assert int(inode) == os.stat(carrack.engine.socket).st_ino
    assert json.loads(document)["auths"]["registry.example"]["auth"] == login


@pytest.mark.observes("docker run --disable-content-trust", "docker create --disable-content-trust")
def test_content_trust_is_off_and_cannot_be_asked_for(carrack: CommandLine) -> None:
    assert carrack.ok("run", "--rm", "--disable-content-trust", "busybox", "echo", "run") == "run"
    ended = carrack("run", "--rm", "--disable-content-trust=false", "busybox", "true")
    assert ended.code == 125
    assert "content trust is not supported" in ended.stderr


@pytest.mark.observes("POST /containers/{id}/pause", "POST /containers/{id}/unpause", "docker pause", "docker unpause")
def test_a_paused_container_stands_still_and_goes_on(docker_cli: CommandLine) -> None:
    script = "n=0; while :; do n=$((n+1)); echo $n > /n; sleep 0.01; done"
    docker_cli.ok("run", "-d", "--name", "counter", "busybox", "sh", "-c", script)
    pid = int(docker_cli.ok("inspect", "-f", "{{.State.Pid}}", "counter"))
    file = Path(f"/proc/{pid}/root/n")
    until(lambda: file.exists() and file.read_text().strip() not in ("", "0"), "it to count")
    docker_cli.ok("pause", "counter")
    stands = file.read_text()
    assert docker_cli.ok("ps", "--format", "{{.Status}}").endswith("(Paused)")
    assert "is paused" in docker_cli("exec", "counter", "true").stderr
    assert file.read_text() == stands
    docker_cli.ok("unpause", "counter")
    until(lambda: file.read_text() != stands, "it to go on")
