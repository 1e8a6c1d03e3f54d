"""A small world for network tests: an outside host, the machine, containers; each its own network namespace, with real traffic.

The test's own thread stands in the machine's namespace, so that everything under test runs there as it would on a real host. The
namespaces live by their descriptors and vanish with them.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

from carrack.kernel import netns, process, sysctl
from carrack.kernel.netlink import Netlink
from carrack.kernel.nftables import Nftables
from carrack.networks.endpoint import Endpoint, EndpointWish, HeldPort, PortBinding
from carrack.networks.networks import Networks
from carrack.networks.options import NetworkOptions
from carrack.shim import zygote_process
from carrack.state.database import Database

MACHINE4, OUTSIDE4 = "198.51.100.1", "198.51.100.2"
MACHINE6, OUTSIDE6 = "2001:db8:1::1", "2001:db8:1::2"
SECOND4 = "198.51.100.77"
"""One more address of the machine."""
PATIENCE_SECONDS = 15.0
SILENCE_SECONDS = 0.4
"""How long nothing must come before we say that nothing comes; each such test has a positive one beside it."""


class Echo:
    """A server that tells each caller the address it saw. Its socket stands in the namespace of `place`."""

    def __init__(self, place: int | None, address: str, port: int, kind: str = "tcp") -> None:
        self.kind = kind
        self._socket = socket_in(place, socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((address, port))
        if kind == "tcp":
            self._socket.listen(64)
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        try:
            while True:
                if self.kind == "udp":
                    _, peer = self._socket.recvfrom(2048)
                    if not peer:
                        return  # shut down
                    self._socket.sendto(peer[0].encode(), peer)
                else:
                    connection, peer = self._socket.accept()
                    with connection:
                        connection.sendall(peer[0].encode())
        except OSError:
            return

    def close(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        except OSError:
            pass
        self._socket.close()


def socket_in(place: int | None, family: int, kind: str) -> socket.socket:
    """A socket that stands in a namespace; None: where the caller stands."""
    number = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[kind]
    if place is None:
        return socket.socket(family, number)
    return netns.inside(place, lambda: socket.socket(family, number))


def reach(place: int | None, address: str, port: int, kind: str = "tcp", *, source: str = "") -> str:
    """Ask the echo at an address; return the address it saw us come from. Raises OSError (refused, unreachable, TimeoutError)."""
    with socket_in(place, socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as caller:
        caller.settimeout(PATIENCE_SECONDS)
        if source:
            caller.bind((source, 0))
        caller.connect((address, port))
        if kind == "udp":
            caller.send(b"?")
        answer = caller.recv(100).decode()
        if not answer:
            raise ConnectionResetError(f"{address}:{port} closed without a word")
        return answer


def silent(attempts: Sequence[tuple[int | None, str, int, str]]) -> bool:
    """Whether none of several (place, address, port, kind) answers: refused, unreachable or no word within the silence."""
    poll = select.poll()
    callers = []
    for place, address, port, kind in attempts:
        caller = socket_in(place, socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        callers.append(caller)
        caller.setblocking(False)
        if caller.connect_ex((address, port)) not in (0, 115):
            continue
        if kind == "udp":
            try:
                caller.send(b"?")
            except OSError:
                continue
        poll.register(caller, select.POLLIN)
    answered = []
    by_fd = {caller.fileno(): caller for caller in callers}
    for fd, _ in poll.poll(SILENCE_SECONDS * 1000):
        try:
            answered.append(by_fd[fd].recv(100))
        except OSError:
            continue
    for caller in callers:
        caller.close()
    return not any(answered)


@dataclass
class Box:
    """A container, as far as networks know one."""

    place: int
    id: str
    endpoint: Endpoint
    held: list[HeldPort] = field(default_factory=list)

    def end(self) -> None:
        """What the end of a container does: its ports are closed, its namespace goes."""
        for port in self.held:
            port.close()
        if self.place >= 0:
            os.close(self.place)
            self.place = -1


class Lab:
    """The world. Make it in a thread of your own; `close` puts that thread back where it was."""

    def __init__(self, directory: Path, *, forwarding: bool = True) -> None:
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.machine = netns.new()
        self.outside = netns.new()
        self.events: list[tuple[str, str, str, dict[str, str]]] = []
        self.boxes: list[Box] = []
        self._echoes: list[Echo] = []
        self._opened: list[tuple[Networks, Database]] = []
        self._directory = directory
        self._zygote = ""
        self.init = os.pidfd_open(os.getpid())
        """What stands for the init of every container: it outlives the test."""
        process.setns(self.machine, netns.CLONE_NEWNET)
        self.kernel = Netlink()
        self.nft = Nftables()
        try:
            self._wire()
            sysctl.write(int(forwarding), "net", "ipv4", "ip_forward")
            sysctl.write(0, "net", "ipv6", "conf", "all", "forwarding")
        except BaseException:
            self.close()
            raise

    def _wire(self) -> None:
        self.kernel.set_link(1, up=True)
        self.kernel.add_veth("uplink", "wire", peer_namespace_fd=self.outside)
        link = self.kernel.get_link("uplink")
        self.kernel.set_link(link.index, up=True)
        for address in (f"{MACHINE4}/24", f"{SECOND4}/24", f"{MACHINE6}/64"):
            self.kernel.add_address(link.index, ip_interface(address))
        with netns.inside(self.outside, Netlink) as far:
            far.set_link(1, up=True)
            wire = far.get_link("wire")
            far.set_link(wire.index, up=True)
            for address in (f"{OUTSIDE4}/24", f"{OUTSIDE6}/64"):
                far.add_address(wire.index, ip_interface(address))

    def route_outside_through_machine(self, subnet: str) -> None:
        """What an attacker on the same wire does: send to the containers' addresses by way of the machine."""
        with netns.inside(self.outside, Netlink) as far:
            gateway = MACHINE6 if ":" in subnet else MACHINE4
            far.add_route(ip_network(subnet), gateway=ip_address(gateway))

    def open(self, options: NetworkOptions | None = None, instance: str = "carrack") -> Networks:
        """A daemon's networks, on this instance's own database."""
        root = self._directory / instance
        root.mkdir(exist_ok=True)
        database = Database(root / "state.db")
        options = options or NetworkOptions()
        networks = Networks(database, instance, options, lambda *event: self.events.append(event), self._begin_names)
        self._opened.append((networks, database))
        networks.open()
        return networks

    def _begin_names(self, path: str, listener_fd: int, conversation_fd: int) -> None:
        """By a zygote, as the daemon does; it stands in the machine, because the test's thread does."""
        if not self._zygote:
            self._zygote = zygote_process.spawn_zygote(str(self._directory)).socket_path
        zygote_process.order_names(self._zygote, path, listener_fd, conversation_fd)

    def shut(self, networks: Networks, *, keep: bool) -> None:
        """End a daemon's hold on its networks."""
        for each in list(self._opened):
            if each[0] is networks:
                self._opened.remove(each)
                networks.close(keep=keep)
                each[1].close()

    def start(
        self,
        networks: Networks,
        name: str,
        network: str = "bridge",
        ports: Sequence[PortBinding] = (),
        wish: EndpointWish | None = None,
    ) -> Box:
        """A container in a network, with published ports."""
        wish = wish or EndpointWish(container_name=name)
        box = Box(netns.new(), f"id-of-{name}", networks.allocate(networks.get(network), f"id-of-{name}", wish))
        self.boxes.append(box)
        networks.plug(box.endpoint, box.place, pidfd=self.init)
        if ports:
            box.held = list(networks.hold(ports, box.id))
            networks.publish(box.endpoint, box.held, pidfd=self.init)
        return box

    def echo(self, place: int | None, port: int, kind: str = "tcp", address: str = "0.0.0.0") -> Echo:
        """A server at a place of this world."""
        echo = Echo(place, address, port, kind)
        self._echoes.append(echo)
        return echo

    def close(self) -> None:
        for echo in self._echoes:
            echo.close()
        try:
            for networks, database in self._opened:
                # The namespaces take everything with them; only the process of a name server has to be told.
                networks.close(keep=networks.options.run_directory is None)
                database.close()
        finally:
            for box in self.boxes:
                box.end()
            if self._zygote:
                zygote_process.dismiss_zygote(self._zygote)
            self.kernel.close()
            self.nft.close()
            process.setns(self._home, netns.CLONE_NEWNET)
            for fd in (self.machine, self.outside, self._home, self.init):
                os.close(fd)
