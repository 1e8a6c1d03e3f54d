"""Addresses of daemons as people write them, and what is said when nobody answers there."""

import shlex
import subprocess

import pytest

from carrack.client.connection import connect
from carrack.client.endpoint import Endpoint, parse_endpoint
from carrack.client.failure import ConnectionFailed, refusal
from carrack.client.ssh import ssh_arguments
from carrack.errors import Conflict, InvalidParameter, NotFound


@pytest.mark.parametrize(
    ("text", "scheme", "place"),
    [
        ("unix:///x/y.sock", "unix", "/x/y.sock"),
        ("/x/y.sock", "unix", "/x/y.sock"),
        ("unix://", "unix", "/run/carrack/carrack.sock"),
        ("tcp://h:1234", "tcp", "h:1234"),
        ("tcp://h", "tcp", "h:2375"),
        ("h:5", "tcp", "h:5"),
        ("tcp://[::1]:99", "tcp", "::1:99"),
        ("http://h:80/base/", "tcp", "h:80"),
    ],
)
def test_an_address_is_read(text: str, scheme: str, place: str) -> None:
    endpoint = parse_endpoint(text)
    found = endpoint.path if scheme == "unix" else f"{endpoint.host}:{endpoint.port}"
    assert (endpoint.scheme, found) == (scheme, place)


def test_a_base_path_is_kept() -> None:
    assert parse_endpoint("http://h/base/").base_path == "/base"


@pytest.mark.parametrize(
    "text", ["ftp://h", "tcp://h:x", "tcp://h:70000", "tcp://[::1", "ssh://", "ssh://-oProxyCommand=x", "ssh://a:b@h"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_endpoint(text)


def test_ssh_gets_user_and_port_as_options_and_the_host_behind_them() -> None:
    arguments = ssh_arguments(parse_endpoint("ssh://me@far:22/run/x.sock"))
    assert arguments[:5] == ["ssh", "-o", "ConnectTimeout=30", "-T", "-l"]
    assert arguments[-3:-1] == ["--", "far"]
    script = shlex.split(shlex.split(arguments[-1])[2])
    assert script.count("unix:///run/x.sock") == 2


def test_what_an_address_says_stays_one_word_in_the_far_shell() -> None:
    arguments = ssh_arguments(parse_endpoint("ssh://far/run/it's $(here).sock"))
    script = subprocess.run(["sh", "-c", f'set -- {arguments[-1]}; echo "$3"'], capture_output=True, text=True, check=True).stdout
    assert shlex.split(script).count("unix:///run/it's $(here).sock") == 2


def test_an_absent_socket_says_where_nobody_listens_and_what_else_to_try() -> None:
    endpoint = Endpoint("unix:///no/such.sock", "unix", path="/no/such.sock")
    endpoint.hint = "\nTry the other one."
    with pytest.raises(ConnectionFailed) as caught:
        connect(endpoint)
    expected = "Cannot connect to the Carrack daemon at unix:///no/such.sock. Is the carrack daemon running?\nTry the other one."
    assert str(caught.value) == expected


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (409, Conflict), (400, InvalidParameter)])
def test_a_refusal_is_of_the_kind_its_status_stands_for(status: int, kind: type[Exception]) -> None:
    error = refusal(status, "no such thing")
    assert isinstance(error, kind)
    assert str(error) == "Error response from daemon: no such thing"
    assert error.message == "no such thing"
