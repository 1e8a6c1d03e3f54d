"""Clients that do random things with an engine and keep a ledger of what it acknowledged, whoever kills what meanwhile.

A client works on things of its own, so that it knows what must be there: `kept` was acknowledged and must be found, `gone` was
acknowledged as removed and must not, and of `unsure` the answer was lost, so that either is right.
"""

from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from typing import Any

from tests.rig.builds import context
from tests.rig.engine import Engine
from tests.rig.unix_http import Reply, UnixConnection

PATHS = {"container": "/containers/{}/json", "volume": "/volumes/{}", "network": "/networks/{}", "image": "/images/{}/json"}
_LEFT = (OSError, HTTPException, ValueError)
"""What a client sees of an engine that dies: no connection, half an answer."""


class Lost(Exception):
    """The answer did not come."""


class Client(threading.Thread):
    """One client with its ledger, at work until `stop`."""

    def __init__(self, engine: Engine, number: int, seed: int, registry: str, stop: threading.Event) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self.engine = engine
        self.number = number
        self.chance = random.Random(seed * 1000 + number)
        self.registry = registry
        self.stop = stop
        self.kept: set[tuple[str, str]] = set()
        self.gone: set[tuple[str, str]] = set()
        self.unsure: set[tuple[str, str]] = set()
        self.faults: list[str] = []
        self.refusals: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self._count = 0
        self._works: list[Callable[[], None]] = [
            self.run_container,
            self.run_container,
            self.use_container,
            self.use_container,
            self.remove_container,
            self.remove_container,
            self.make_volume,
            self.remove_volume,
            self.make_network,
            self.remove_network,
            self.build,
            self.load,
            self.tag,
            self.commit,
            self.remove_image,
            self.transfer,
            self.leave_a_stream,
            self.leave_a_stream,
        ]

    def run(self) -> None:
        while not self.stop.is_set():
            work = self.chance.choice(self._works)
            try:
                work()
                self.done[work.__name__] += 1
            except Lost:
                self.stop.wait(0.05)
            except Exception as error:  # what a client did not expect is a finding  # noqa: BLE001
                self.faults.append(f"{work.__name__}: {error!r}")

    # ── asking ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, method: str, target: str, body: object = None, *, kind: str = "application/json") -> Reply:
        try:
            reply = self.engine.api(method, target, body, headers={"Content-Type": kind}, timeout_seconds=60)
        except _LEFT as error:
            raise Lost(f"{method} {target}: {error!r}") from error
        if reply.status >= 500:
            self.refusals[f"{method} {target.partition('?')[0]}: {reply.status} {reply.body[:300]!r}"] += 1
        return reply

    def make(self, thing: tuple[str, str], order: Callable[[], bool]) -> bool:
        """Have something made, and note what became of it."""
        self.unsure.add(thing)
        if order():
            self.unsure.discard(thing)
            self.gone.discard(thing)
            self.kept.add(thing)
            return True
        return False

    def remove(self, thing: tuple[str, str], target: str) -> None:
        self.kept.discard(thing)
        self.unsure.add(thing)
        reply = self.ask("DELETE", target)
        if reply.status in (200, 204, 404):
            self.unsure.discard(thing)
            self.gone.add(thing)

    def new_name(self) -> str:
        self._count += 1
        return f"c{self.number}-{self._count}"

    def one(self, kind: str) -> str:
        names = sorted(name for each, name in self.kept if each == kind)
        return self.chance.choice(names) if names else ""

    # ── works ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def run_container(self) -> None:
        if sum(kind == "container" for kind, _ in self.kept) > 4:
            return self.remove_container()
        name, network, volume = self.new_name(), self.one("network"), self.one("volume")
        host: dict[str, object] = {"AutoRemove": False}
        pick = self.chance.randrange(6)
        if network and pick < 3:
            host["NetworkMode"] = network
        elif pick == 3:
            host["NetworkMode"] = "none"
        elif pick == 4:
            host["PortBindings"] = {"80/tcp": [{"HostPort": "0"}]}
        if volume and self.chance.random() < 0.5:
            host["Binds"] = [f"{volume}:/v"]
        script = self.chance.choice(["sleep 1000", "echo hello; exit 3", "while :; do echo line; sleep 0.2; done", "exec sleep 1"])
        health = {"Test": ["CMD", "true"], "Interval": 300_000_000} if pick == 5 else None
        wish = {"Image": "busybox", "Cmd": ["sh", "-c", script], "HostConfig": host, "Tty": pick == 2, "Healthcheck": health}
        if self.make(("container", name), lambda: self.ask("POST", f"/containers/create?name={name}", wish).status == 201):
            self.ask("POST", f"/containers/{name}/start")
        return None

    def use_container(self) -> None:
        name = self.one("container")
        if not name:
            return
        way = self.chance.randrange(8)
        if way == 0:
            made = self.ask("POST", f"/containers/{name}/exec", {"Cmd": ["echo", "x"], "AttachStdout": True})
            if made.status == 201:
                self.ask("POST", f"/exec/{made.json['Id']}/start", {"Detach": self.chance.random() < 0.5})
        elif way == 1:
            self.ask("POST", f"/containers/{name}/restart?t=0")
        elif way == 2:
            self.ask("POST", f"/containers/{name}/stop?t=0")
        elif way == 3:
            self.ask("GET", f"/containers/{name}/logs?stdout=1")
        elif way == 4:
            self.ask("PUT", f"/containers/{name}/archive?path=/tmp", context("x"), kind="application/x-tar")
        elif way == 5:
            self.ask("GET", f"/containers/{name}/archive?path=/bin")
        elif way == 6:
            network = self.one("network")
            if network:
                self.ask("POST", f"/networks/{network}/connect", {"Container": name})
        else:
            self.ask("POST", f"/containers/{name}/start")

    def remove_container(self) -> None:
        if name := self.one("container"):
            self.remove(("container", name), f"/containers/{name}?force=1&v=1")

    def make_volume(self) -> None:
        name = self.new_name()
        self.make(("volume", name), lambda: self.ask("POST", "/volumes/create", {"Name": name}).status == 201)

    def remove_volume(self) -> None:
        if name := self.one("volume"):
            reply = self._try_remove(("volume", name), f"/volumes/{name}")
            assert reply.status in (204, 404, 409) or reply.status >= 500, reply

    def make_network(self) -> None:
        if sum(kind == "network" for kind, _ in self.kept) > 2:
            return
        name = self.new_name()
        self.make(("network", name), lambda: self.ask("POST", "/networks/create", {"Name": name}).status == 201)

    def remove_network(self) -> None:
        if name := self.one("network"):
            self._try_remove(("network", name), f"/networks/{name}")

    def _try_remove(self, thing: tuple[str, str], target: str) -> Reply:
        """Of what may be in use: a refusal leaves it."""
        self.kept.discard(thing)
        self.unsure.add(thing)
        reply = self.ask("DELETE", target)
        if reply.status in (200, 204, 404):
            self.unsure.discard(thing)
            self.gone.add(thing)
        elif reply.status in (403, 409):
            self.unsure.discard(thing)
            self.kept.add(thing)
        return reply

    def build(self) -> None:
        name = self.new_name()
        lines = f"FROM busybox\nCOPY f /f\nRUN echo {self.chance.randrange(6)} > /g\nLABEL n={name}\n"
        body = context(lines, {"f": str(self.chance.randrange(4)) * 1000})

        def order() -> bool:
            reply = self.ask("POST", f"/build?t={name}:1", body, kind="application/x-tar")
            return reply.status == 200 and b"Successfully tagged" in reply.body

        self.make(("image", f"{name}:1"), order)

    def load(self) -> None:
        name = self.one("image")
        if name:
            content = self.ask("GET", f"/images/{name}/get")
            if content.status == 200:
                self.ask("POST", "/images/load?quiet=1", content.body, kind="application/x-tar")

    def tag(self) -> None:
        name = self.new_name()
        target = f"/images/busybox/tag?repo={name}&tag=2"
        self.make(("image", f"{name}:2"), lambda: self.ask("POST", target).status == 201)

    def commit(self) -> None:
        container = self.one("container")
        if container:
            name = self.new_name()
            target = f"/commit?container={container}&repo={name}&tag=3"
            self.make(("image", f"{name}:3"), lambda: self.ask("POST", target, {}).status == 201)

    def remove_image(self) -> None:
        if name := self.one("image"):
            self._try_remove(("image", name), f"/images/{name}")

    def transfer(self) -> None:
        name = f"{self.registry}/r{self.number}"
        if self.ask("POST", f"/images/busybox/tag?repo={name}&tag=p").status != 201:
            return
        pushed = self.ask("POST", f"/images/{name}/push?tag=p")
        self.ask("DELETE", f"/images/{name}:p")
        if pushed.status == 200 and b"errorDetail" not in pushed.body:
            self.ask("POST", f"/images/create?fromImage={name}&tag=p")
            self.ask("DELETE", f"/images/{name}:p")

    def leave_a_stream(self) -> None:
        """Begin something long, and go away in the middle."""
        name = self.one("container") or "nobody"
        target = self.chance.choice(
            [
                ("GET", "/events"),
                ("GET", f"/containers/{name}/logs?follow=1&stdout=1"),
                ("GET", f"/containers/{name}/stats"),
                ("POST", f"/containers/{name}/wait"),
                ("POST", f"/containers/{name}/attach?stream=1&stdout=1&stdin=1"),
                ("GET", f"/containers/{name}/export"),
                ("GET", "/images/busybox/get"),
                ("POST", "/build"),
                ("POST", "/images/load"),
            ]
        )
        connection = UnixConnection(self.engine.socket, 5)
        with suppress(*_LEFT):
            if target in (("POST", "/build"), ("POST", "/images/load")):
                connection.connect()
                head = f"POST {target[1]} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\nContent-Length: 100000\r\n\r\n"
                connection.sock.sendall(head.encode() + context("FROM busybox\nRUN sleep 10\n")[:5000])
            else:
                connection.request(*target)
            connection.sock.settimeout(self.chance.uniform(0.01, 0.4))
            with suppress(TimeoutError):
                while connection.sock.recv(65536):
                    if self.chance.random() < 0.3:
                        break
            connection.sock.shutdown(self.chance.choice([socket.SHUT_WR, socket.SHUT_RDWR]))
        connection.close()

    # ── the account ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def account(self) -> list[str]:
        """What the engine has lost, or has not lost."""
        found: list[str] = []
        for things, wanted in ((self.kept, 200), (self.gone - self.kept - self.unsure, 404)):
            for kind, name in sorted(things):
                status = self.engine.api("GET", PATHS[kind].format(name)).status
                if status != wanted:
                    found.append(f"client {self.number}: {kind} {name}: {status} where {wanted} was acknowledged")
        return found + self.faults


def totals(clients: list[Client]) -> dict[str, Any]:
    """What was done in all, and what was answered with a 5xx."""
    done: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    for client in clients:
        done += client.done
        refusals += client.refusals
    return {"done": dict(done), "refusals": refusals}
