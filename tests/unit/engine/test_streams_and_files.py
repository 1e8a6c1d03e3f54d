"""Detach keys, frames, the files under /etc, and log options."""

from pathlib import Path

import pytest

from carrack.engine import etc_files, launch, log_options, streams
from carrack.engine.config import LogConfig
from carrack.errors import InvalidParameter


@pytest.mark.parametrize(
    ("text", "keys"), [("", b"\x10\x11"), ("ctrl-a,x", b"\x01x"), ("ctrl-@", b"\x00"), ("ctrl-[", b"\x1b"), ("a", b"a")]
)
def test_detach_keys_are_the_bytes_a_terminal_sends(text: str, keys: bytes) -> None:
    assert streams.parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ctrl-A", "xy", ",", "ü"])
def test_malformed_detach_keys_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="Invalid detach keys"):
        streams.parse_detach_keys(text)


def test_a_frame_names_stream_and_length() -> None:
    assert streams.frame(2, b"ab") == b"\x02\0\0\0\0\0\0\x02ab"


def test_the_last_chunk_ends_the_body() -> None:
    assert streams.last_chunk(b"{}\n") == b"3\r\n{}\n\r\n0\r\n\r\n"


HOST = "# made by hand\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch a b\nsearch corp\noptions ndots:2\n"


def test_a_container_never_asks_a_loopback_server_of_the_host() -> None:
    text = etc_files.resolv_conf(HOST, servers=[], search=[], options=[], keep_loopback=False)
    assert text.splitlines()[1:] == ["nameserver 10.0.0.1", "search corp", "options ndots:2"]


def test_in_the_hosts_network_the_hosts_servers_stay() -> None:
    assert "nameserver 127.0.0.53" in etc_files.resolv_conf(HOST, servers=[], search=[], options=[], keep_loopback=True)


def test_behind_systemds_stub_are_the_servers_that_it_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stub").write_text("nameserver 127.0.0.53\n")
    (tmp_path / "behind").write_text("nameserver 192.0.2.53\n")
    monkeypatch.setattr(launch, "HOST_RESOLVER", str(tmp_path / "stub"))
    monkeypatch.setattr(launch, "BEHIND_SYSTEMDS_STUB", str(tmp_path / "behind"))
    assert launch.host_resolver("bridge") == "nameserver 192.0.2.53\n"
    assert launch.host_resolver("host") == "nameserver 127.0.0.53\n"
    (tmp_path / "stub").write_text("nameserver 127.0.0.1\n")  # dnsmasq's, or whoever's
    assert launch.host_resolver("bridge") == "nameserver 127.0.0.1\n"


def test_a_dot_means_no_search_domains() -> None:
    assert "search" not in etc_files.resolv_conf(HOST, servers=["1.1.1.1"], search=["."], options=["x"], keep_loopback=False)


def test_the_hosts_file_ends_with_the_containers_own_name() -> None:
    text = etc_files.hosts([("172.17.0.2", etc_files.own_names("web", "corp"))], [("db", "10.0.0.9")])
    assert text.splitlines()[-2:] == ["10.0.0.9\tdb", "172.17.0.2\tweb.corp web"]


@pytest.mark.parametrize(("text", "size"), [("10", 10), ("1k", 1024), ("10M", 10 << 20), ("1.5g", 3 << 29), ("-1", -1)])
def test_sizes_have_binary_units(text: str, size: int) -> None:
    assert log_options.parse_size(text) == size


@pytest.mark.parametrize(
    "config",
    [
        LogConfig("gelf"),
        LogConfig("local", {"colour": "red"}),
        LogConfig("local", {"max-size": "big"}),
        LogConfig("local", {"max-file": "0"}),
        LogConfig("json-file", {"tag": "{{.Colour}}"}),
        LogConfig("json-file", {"labels-regex": "("}),
        LogConfig("local", {"mode": "sometimes"}),
        LogConfig("local", {"max-buffer-size": "1m"}),
    ],
)
def test_log_options_without_meaning_are_refused(config: LogConfig) -> None:
    with pytest.raises(InvalidParameter):
        log_options.check(config)
