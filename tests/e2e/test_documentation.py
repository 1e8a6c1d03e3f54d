"""Every command in the pages for users does what the page says: run here, or (what installs) in a machine by test_installed.py."""

import os
import re
import shlex

import pytest

from tests.rig.commands import run
from tests.rig.conversation import Terminal
from tests.rig.engine import ROOT, CommandLine, Engine, carrack_program
from tests.rig.ports import FreePort
from tests.rig.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.peer_lacks("the pages are Carrack's")]

ELSEWHERE = {
    "scripts/install": "tests/e2e/test_installed.py",
    "scripts/deb --output /tmp/packages": "tests/e2e/test_debian_package.py",
    "apt install /tmp/packages/carrack_0.1.0-1_amd64.deb": "tests/e2e/test_debian_package.py",
    "carrack system uninstall": "tests/e2e/test_installed.py",
    "carrack system uninstall --purge": "tests/e2e/test_installed.py",
    "carrack system migrate-from-docker --dry-run": "tests/compat/test_migration.py",
    "carrack system migrate-from-docker": "tests/compat/test_migration.py",
    "carrack build -t carrack .": "tests/e2e/test_own_image.py",
    "carrack run -d --privileged --name inner -v inner:/var/lib/carrack carrack": "tests/e2e/test_own_image.py",
    "carrack -H ssh://user@host ps": "tests/compat/test_ssh.py",
    "carrack system certs --host build.example": "tests/compat/test_tls.py",
    "carrackd -H fd:// -H tcp://0.0.0.0:2376 --tlsverify": "tests/compat/test_tls.py",
    "DOCKER_HOST=tcp://build.example:2376 DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=client docker ps": "tests/compat/test_tls.py",
}
"""Commands that this machine must not run, and the tests that run them."""
PAGES = ("install.md", "first-steps.md", "remote.md")


def commands(page: str) -> list[str]:
    """The indented lines of a page, without their comments."""
    lines = (ROOT / "docs" / page).read_text().splitlines()
    return [line.strip().partition("  #")[0].strip() for line in lines if line.startswith("    ")]


@pytest.mark.parametrize("page", PAGES)
def test_each_command_of_a_page_is_run_by_a_test(page: str) -> None:
    assert commands(page)
    for command in commands(page):
        there = ELSEWHERE.get(command)
        assert page == "first-steps.md" or there or command == "carrack doctor", f"{page}: no test runs {command}"
        assert there is None or (ROOT / there).exists(), there


def test_the_first_steps_lead_where_they_say(engine: Engine, free_port: FreePort) -> None:
    cli = CommandLine(engine, [carrack_program()])
    port = str(free_port())
    for step in commands("first-steps.md"):
        words = [word.replace("8080", port) for word in shlex.split(step)]
        assert words.pop(0) == "carrack", step
        if "-it" in words:
            with Terminal([*cli.program, *words], env=engine.env()) as screen:
                screen.expect("#")
                screen.send_line("exit 0")
                assert screen.wait() == 0, step
        elif "wget" in words:
            until(lambda words=words: cli(*words).text == "hello", step)  # type: ignore[misc]
        elif words == ["doctor"]:
            assert "kernel" in cli(*words).stdout
        else:
            cli.ok(*words)


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_links_between_pages_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / "docs" / page).read_text()):
        assert os.path.exists(ROOT / "docs" / target), f"{page}: {target}"


def test_the_troubleshooting_page_repeats_what_the_programs_say() -> None:
    said = run(["grep", "-rhoE", '"[^"]+"', str(ROOT / "src/carrack"), "--include=*.py"]).stdout
    for sentence in (
        "permission denied while trying to connect",
        "carrackd needs Linux 5.12 or later",
        "needs Python 3.11 or later",
    ):
        assert sentence in said
        assert sentence in (ROOT / "docs/troubleshooting.md").read_text()
