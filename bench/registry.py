"""The registry server beside Debian's docker-registry 2.8 (Go), in one run, with one client and the same disk.

    bench/registry.py [--peer PATH] [--root DIR] [--rounds N] [--quick]

Blob PUT and GET in MB/s with 1 and 16 clients, small manifests in requests/s with their p99, and the server's resident memory
before and after a 2 GB blob passed both ways. Servers take turns round by round; the ratio is ours to theirs, medians of rounds.
Without `--peer` the program is taken from `apt-get download docker-registry`, unpacked beside the stores.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PIECE = 1 << 20
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@dataclass
class Server:
    """One registry under test."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    figures: dict[str, list[float]] = field(default_factory=dict)

    def note(self, what: str, value: float) -> None:
        self.figures.setdefault(what, []).append(value)

    def resident_mebibytes(self, key: str = "VmRSS") -> float:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("no such process")

    def processor_seconds(self) -> float:
        """Time its threads have spent on a processor (proc(5), stat): what a busy machine does not blur."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Client:
    """A connection that costs the machine as little as can be: sendfile out, MSG_TRUNC in."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.dropped = bytearray(PIECE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, text: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        """One request; the answer's body up to what came with its head."""
        self.sock.sendall(text.encode() + body)
        return self.answer()

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self.sock.recv(65536)
            if not piece:
                raise RuntimeError("connection closed")
            data += piece
        head, _, rest = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        return int(lines[0].split()[1]), headers, rest

    def discard(self, count: int) -> None:
        while count:
            got = self.sock.recv_into(self.dropped, min(count, PIECE), socket.MSG_TRUNC)
            if not got:
                raise RuntimeError("short body")
            count -= got

    def get(self, path: str, accept: str = "*/*") -> int:
        """Bytes of a body that is thrown away."""
        status, headers, rest = self.ask(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n")
        assert status == 200, status
        length = int(headers["content-length"])
        self.discard(length - len(rest))
        return length

    def put_blob(self, repository: str, prefix: bytes, file: Path, digest: str) -> None:
        """POST, then one PUT whose body is `prefix` and the file."""
        status, headers, _ = self.ask(
            f"POST /v2/{repository}/blobs/uploads/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        )
        assert status == 202, status
        location = headers["location"]
        if location.startswith("http"):
            location = "/" + location.split("/", 3)[3]
        location += ("&" if "?" in location else "?") + "digest=" + digest
        size = file.stat().st_size
        self.sock.sendall(
            f"PUT {location} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
            f"Content-Length: {len(prefix) + size}\r\n\r\n".encode()
            + prefix
        )
        with file.open("rb") as source:
            offset = 0
            while offset < size:
                offset += os.sendfile(self.sock.fileno(), source.fileno(), offset, size - offset)
        status, _, _ = self.answer()
        assert status == 201, status


def digest_of(prefix: bytes, file: Path) -> str:
    hasher = hashlib.sha256(prefix)
    with file.open("rb") as source:
        while piece := source.read(PIECE):
            hasher.update(piece)
    return "sha256:" + hasher.hexdigest()


def in_parallel(count: int, work: Callable[[int], None]) -> float:
    """Seconds that `count` threads need together, from a common start."""
    barrier = threading.Barrier(count + 1)
    failures: list[BaseException] = []

    def run(number: int) -> None:
        barrier.wait()
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    barrier.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return time.perf_counter() - started


def bench_blobs(server: Server, clients: int, file: Path, round_number: int) -> None:
    size = file.stat().st_size + 16
    prefixes = [os.urandom(16) for _ in range(clients)]
    digests = [digest_of(prefix, file) for prefix in prefixes]
    connections = [Client(server.port) for _ in range(clients)]
    repository = f"bench/{clients}-{round_number}"
    began = server.processor_seconds()
    seconds = in_parallel(clients, lambda n: connections[n].put_blob(repository, prefixes[n], file, digests[n]))
    server.note(f"blob PUT, {clients} clients, CPU s/GB", (server.processor_seconds() - began) / (clients * size / 1e9))
    server.note(f"blob PUT, {clients} clients, MB/s", clients * size / 1e6 / seconds)
    for what in ("first GET", "GET"):
        began = server.processor_seconds()
        seconds = in_parallel(clients, lambda n: (connections[n].get(f"/v2/{repository}/blobs/{digests[n]}"), None)[1])
        if what == "GET":
            server.note(f"blob GET, {clients} clients, MB/s", clients * size / 1e6 / seconds)
            server.note(f"blob GET, {clients} clients, CPU s/GB", (server.processor_seconds() - began) / (clients * size / 1e9))


def push_manifest(server: Server) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    config = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
    digest = "sha256:" + hashlib.sha256(config).hexdigest()
    connection.request("POST", "/v2/bench/small/blobs/uploads/")
    location = connection.getresponse()
    location.read()
    target = location.headers["Location"]
    target = "/" + target.split("/", 3)[3] if target.startswith("http") else target
    connection.request("PUT", target + ("&" if "?" in target else "?") + "digest=" + digest, config)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 201, answer.status
    part = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": len(config)}
    document = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": part, "layers": [], "annotations": {"pad": "x" * 1200}}
    connection.request("PUT", "/v2/bench/small/manifests/latest", json.dumps(document), {"Content-Type": MANIFEST_TYPE})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 201, answer.status
    return "/v2/bench/small/manifests/latest"


def bench_manifests(server: Server, clients: int, seconds: float) -> None:
    path = push_manifest(server)
    times: list[list[float]] = [[] for _ in range(clients)]
    connections = [Client(server.port) for _ in range(clients)]

    def work(number: int) -> None:
        mine, connection = times[number], connections[number]
        end = time.perf_counter() + seconds
        while (started := time.perf_counter()) < end:
            connection.get(path, MANIFEST_TYPE)
            mine.append(time.perf_counter() - started)

    began = server.processor_seconds()
    took = in_parallel(clients, work)
    together = sorted(value for mine in times for value in mine)
    server.note(f"manifest GET, {clients} clients, requests/s", len(together) / took)
    spent = (server.processor_seconds() - began) / len(together)
    server.note(f"manifest GET, {clients} clients, CPU us", spent * 1e6)
    server.note(f"manifest GET, {clients} clients, p99 ms", together[int(len(together) * 0.99)] * 1000)


def bench_memory(server: Server, directory: Path, size: int) -> None:
    file = directory / "large"
    with file.open("wb") as target:
        target.truncate(size)
    prefix = os.urandom(16)
    digest = digest_of(prefix, file)
    server.note("memory before, MiB", server.resident_mebibytes())
    server.note("memory, highest with 16 clients, MiB", server.resident_mebibytes("VmHWM"))
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # proc(5): forget the high-water mark
    client = Client(server.port)
    client.put_blob("bench/large", prefix, file, digest)
    server.note("memory after PUT of 2 GB, MiB", server.resident_mebibytes())
    client.get(f"/v2/bench/large/blobs/{digest}")
    server.note("memory after GET of 2 GB, MiB", server.resident_mebibytes())
    server.note("memory, highest with 2 GB, MiB", server.resident_mebibytes("VmHWM"))
    file.unlink()


def start_ours(root: Path) -> Server:
    read, write = os.pipe()
    command = [sys.executable, "-m", "carrack.registry", "serve", "--root", str(root), "--listen", "127.0.0.1:0"]
    command += ["--access-log", str(root) + ".log", "--ready-fd", str(write)]
    process = subprocess.Popen(command, pass_fds=(write,), stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as ready:
        port = int(ready.readline().rpartition(":")[2])
    return Server("carrack", port, process)


def start_theirs(program: str, root: Path) -> Server:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = root.with_suffix(".yml")
    config.write_text(
        json.dumps(
            {
                "version": "0.1",
                "log": {"accesslog": {"disabled": False}, "level": "info"},
                "storage": {"filesystem": {"rootdirectory": str(root)}, "delete": {"enabled": True}},
                "http": {"addr": f"127.0.0.1:{port}"},
            }
        )
    )
    with open(str(root) + ".log", "wb") as log:
        process = subprocess.Popen([program, "serve", str(config)], stdout=log, stderr=log)
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.05)
    return Server("docker-registry", port, process)


def find_peer(given: str, directory: Path) -> str:
    if given:
        return given
    subprocess.run(["apt-get", "download", "-qq", "docker-registry"], cwd=directory, check=True, stderr=subprocess.DEVNULL)
    package = next(directory.glob("docker-registry_*.deb"))
    subprocess.run(["dpkg", "-x", str(package), str(directory / "peer")], check=True)
    return str(directory / "peer/usr/bin/docker-registry")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--peer", default="", help="path of a docker-registry program")
    parser.add_argument("--root", default=None, help="where both stores live (default: the temporary directory)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small blobs, one round: does it work at all")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="carrack-bench-registry-", dir=options.root))
    servers: list[Server] = []
    try:
        servers.append(start_ours(directory / "ours"))
        servers.append(start_theirs(find_peer(options.peer, directory), directory / "theirs"))
        scale = 16 if options.quick else 1
        for clients, size in ((1, 256 << 20), (16, 32 << 20)):
            file = directory / f"blob-{clients}"
            with file.open("wb") as target:
                for _ in range(max(1, size // scale // PIECE)):
                    target.write(os.urandom(PIECE))
        for round_number in range(1 if options.quick else options.rounds):
            for server in servers if round_number % 2 == 0 else reversed(servers):
                for clients in (1, 16):
                    bench_blobs(server, clients, directory / f"blob-{clients}", round_number)
                    os.sync()  # what one leaves dirty must not be the other's burden
                for clients in (1, 16):
                    bench_manifests(server, clients, 0.5 if options.quick else 3.0)
        for server in servers:
            bench_memory(server, directory, (2 << 30) // scale)
            os.sync()
        report(*servers)
    finally:
        for server in servers:
            server.process.kill()
            server.process.wait()
        shutil.rmtree(directory)


def report(ours: Server, theirs: Server) -> None:
    # Ratios of MB/s and requests/s are good above 1, all others below.
    print(f"{'':44}{ours.name:>12}{theirs.name:>17}{'ratio':>8}")
    for what, values in ours.figures.items():
        mine, other = statistics.median(values), statistics.median(theirs.figures[what])
        print(f"{what:44}{mine:12.2f}{other:17.2f}{mine / other:8.2f}")


if __name__ == "__main__":
    main()
