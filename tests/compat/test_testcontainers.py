"""Testcontainers starts a real service, waits for it, and its reaper takes away what a killed test run left behind."""

import os
import sys

import pytest

from tests.rig.archives import Entry, tar
from tests.rig.commands import run
from tests.rig.debian import debian_root
from tests.rig.engine import CommandLine
from tests.rig.waiting import until

REAPER = r"""
use IO::Socket::INET; use IO::Socket::UNIX; $| = 1;
my $listener = IO::Socket::INET->new(LocalPort => 8080, Listen => 5, ReuseAddr => 1) or die;
print "reaper Started!\n";
my $client = $listener->accept; my $filter = <$client>; print $client "ACK\n";
while (<$client>) {}
sub ask {
    my $engine = IO::Socket::UNIX->new(Peer => "/var/run/docker.sock") or die;
    print $engine "$_[0] $_[1] HTTP/1.0\r\nHost: docker\r\n\r\n"; local $/; return <$engine>;
}
my ($label) = $filter =~ /^label=(\S+)/;
my $found = ask("GET", "/containers/json?all=1&filters=%7B%22label%22%3A%5B%22$label%22%5D%7D");
ask("DELETE", "/containers/$1?force=1&v=1") while $found =~ /"Id":"([0-9a-f]{64})"/g;
"""

PROGRAM = """
import os, urllib.request
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import HttpWaitStrategy

service = DockerContainer("busybox").with_command("sh -c 'echo served >/index.html; exec httpd -f -p 8000 -h /'")
service = service.with_exposed_ports(8000).waiting_for(HttpWaitStrategy(8000).for_status_code(200)).start()
url = f"http://{service.get_container_host_ip()}:{service.get_exposed_port(8000)}/"
print(urllib.request.urlopen(url, timeout=10).read().decode().strip())
print(service.exec("cat /index.html").output.decode().strip(), flush=True)
os._exit(0)  # killed: nothing cleans up but the reaper
"""


@pytest.mark.observes("docker run --publish-all", "docker import")
def test_a_service_is_waited_for_and_reaped(cli: CommandLine) -> None:
    if cli.engine.kind == "dockerd":
        pytest.skip("its published ports are in a namespace of their own")
    with debian_root().open("rb") as root:
        imported = cli("import", "--change", 'CMD ["perl", "/reaper.pl"]', "-", "base:1", stdin=root.read(), timeout_seconds=120)
    imported.ok()
    cli.ok("create", "--name", "maker", "base:1")
    cli.ok("cp", "-", "maker:/", stdin=tar([Entry("reaper.pl", REAPER.encode())]))
    cli.ok("commit", "maker", "reaper:1")
    cli.ok("rm", "maker")
    settings = {
        "RYUK_CONTAINER_IMAGE": "reaper:1",
        "TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE": str(cli.engine.socket),
        "TC_HOST": "127.0.0.1",
    }
    ended = run([sys.executable, "-c", PROGRAM], env=cli.engine.env() | settings, timeout_seconds=100)
    assert ended.ok().split() == ["served", "served"]
    until(lambda: cli.ok("ps", "-aq") == "", "the reaper to take everything away, itself too", timeout_seconds=30)
    assert os.path.exists(cli.engine.socket)
