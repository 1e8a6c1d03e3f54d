"""Dockerfiles as people write them, built with real packages: apt, a compiler, pip, npm, nginx.

The base is a Debian by debootstrap. How this machine reaches the package archives (certificates, pip's and npm's settings) comes in
as secrets at run time.
"""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path

import pytest

from tests.rig.debian import debian_root
from tests.rig.engine import CommandLine, Engine, carrack_program
from tests.rig.ports import FreePort
from tests.rig.waiting import until

pytestmark = [pytest.mark.peer_lacks("cache mounts and secrets are BuildKit's"), pytest.mark.timeout(600)]

APT = "--mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt,sharing=locked"
INSTALL = "DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends"
COMPILED = f"""FROM debian:bookworm AS tools
RUN rm -f /etc/apt/apt.conf.d/docker-clean; echo 'Binary::apt::APT::Keep-Downloaded-Packages "true";' > /etc/apt/apt.conf.d/keep
RUN {APT} apt-get update -q && {INSTALL} gcc libc6-dev
FROM tools AS build
WORKDIR /src
COPY hello.c .
RUN gcc -static -O2 -o hello hello.c
FROM scratch
COPY --from=build /src/hello /hello
ENTRYPOINT ["/hello"]
"""
PROGRAM = '#include <stdio.h>\nint main(void) { puts("compiled in one stage, run in another"); return 0; }\n'
PYTHON = f"""FROM debian:bookworm
RUN {APT} apt-get update -q && {INSTALL} python3 python3-venv ca-certificates
WORKDIR /app
COPY requirements.txt .
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=ca --mount=type=secret,id=pip,target=/etc/pip.conf \\
    python3 -m venv /venv && PIP_CERT=/run/secrets/ca /venv/bin/pip install -r requirements.txt
COPY app.py .
CMD ["/venv/bin/python", "app.py"]
"""
NODE = f"""FROM debian:bookworm AS deps
RUN {APT} apt-get update -q && {INSTALL} nodejs npm ca-certificates
WORKDIR /app
COPY package.json ./
RUN --mount=type=cache,target=/root/.npm --mount=type=secret,id=ca --mount=type=secret,id=npm,target=/root/.npmrc \\
    NODE_EXTRA_CA_CERTS=/run/secrets/ca npm install --omit=dev
FROM debian:bookworm
RUN {APT} apt-get update -q && {INSTALL} nodejs
WORKDIR /app
COPY --from=deps /app/node_modules node_modules
COPY server.js .
CMD ["node", "server.js"]
"""
NGINX = f"""FROM debian:bookworm
RUN {APT} apt-get update -q && {INSTALL} nginx-light
COPY <<-PAGE /var/www/html/index.html
	built here
PAGE
EXPOSE 80
STOPSIGNAL SIGQUIT
CMD ["nginx", "-g", "daemon off;"]
"""


@pytest.fixture
def carrack(engine: Engine) -> CommandLine:
    """`carrack` on a daemon that has a Debian."""
    cli = CommandLine(engine, [carrack_program()])
    cli.ok("import", str(debian_root()), "debian:bookworm", timeout_seconds=120)
    return cli


def secrets(tmp_path: Path) -> list[str]:
    """This machine's own way to the archives."""
    words = ["--secret", f"id=ca,src={os.environ.get('SSL_CERT_FILE', '/etc/ssl/certs/ca-certificates.crt')}"]
    for name, places in {"pip": ("/etc/pip.conf",), "npm": (os.path.expanduser("~/.npmrc"),)}.items():
        found = next((place for place in places if os.path.exists(place)), "")
        content = Path(found).read_text() if found else ""
        kept = [line for line in content.splitlines() if not line.startswith(("cert", "nodedir"))]
        (tmp_path / name).write_text("\n".join(kept) + "\n")
        words += ["--secret", f"id={name},src={tmp_path / name}"]
    return words


def build(cli: CommandLine, tmp_path: Path, name: str, dockerfile: str, **files: str) -> str:
    folder = tmp_path / "context"
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(dockerfile)
    for file, content in files.items():
        (folder / file.replace("_", ".")).write_text(content)
    words = ["build", "--progress", "plain", "-t", name, *secrets(tmp_path), str(folder)]
    done = cli(*words, timeout_seconds=500)
    assert done.code == 0, done.stderr[-5000:]
    return done.stdout + done.stderr


def compiled(carrack: CommandLine, tmp_path: Path, port: int) -> None:
    """A C program compiled in one stage runs in the next, from scratch."""
    build(carrack, tmp_path, "hello:1", COMPILED, hello_c=PROGRAM)
    assert carrack.ok("run", "--rm", "hello:1") == "compiled in one stage, run in another"
    again = build(carrack, tmp_path, "hello:2", COMPILED, hello_c=PROGRAM.replace("run in", "executed in"))
    assert "Unpacking" not in again
    assert carrack.ok("run", "--rm", "hello:2") == "compiled in one stage, executed in another"


def python(carrack: CommandLine, tmp_path: Path, port: int) -> None:
    app = "import idna\nprint(idna.encode('bücher.example').decode())\n"
    build(carrack, tmp_path, "python:1", PYTHON, requirements_txt="idna\n", app_py=app)
    assert carrack.ok("run", "--rm", "python:1") == "xn--bcher-kva.example"


def node(carrack: CommandLine, tmp_path: Path, port: int) -> None:
    package = '{"name": "app", "version": "1.0.0", "dependencies": {"left-pad": "1.3.0"}}'
    server = "console.log(require('left-pad')('node', 8, '.'));\n"
    build(carrack, tmp_path, "node:1", NODE, package_json=package, server_js=server)
    assert carrack.ok("run", "--rm", "node:1") == "....node"


def nginx(carrack: CommandLine, tmp_path: Path, port: int) -> None:
    build(carrack, tmp_path, "web:1", NGINX)
    carrack.ok("run", "-d", "--name", "web", "-p", f"{port}:80", "web:1")
    until(lambda: page(port) == "built here\n", "nginx to serve its page")


CASES = {"compiled": compiled, "python": python, "node": node, "nginx": nginx}


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.observes("docker build --tag")
def test_a_dockerfile_as_people_write_it(carrack: CommandLine, tmp_path: Path, free_port: FreePort, case: str) -> None:
    CASES[case](carrack, tmp_path, free_port())


def page(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""
