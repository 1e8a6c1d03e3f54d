"""Values of flags: Go's rules and Go's words."""

import pytest

from carrack.cli import values
from carrack.cli.containers.mounts import read_gpus, read_mount, read_network
from carrack.cli.containers.ports import read_ports
from carrack.cli.images.names import parse_any, parse_name
from carrack.cli.times import api_timestamp


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1024", 1024),
        ("1k", 1024),
        ("1.5m", 1572864),
        ("2GiB", 2 << 30),
        ("3 MB", 3 << 20),
        ("1kb", 1024),
        ("1b", 1),
        (".5k", 512),
    ],
)
def test_sizes_are_binary(text: str, size: int) -> None:
    assert values.read_bytes(text) == size


@pytest.mark.parametrize("text", ["", "x", "1x", "1kbb", "-1", "1 k k", "1ii", "k"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid|ParseFloat"):
        values.read_bytes(text)


def test_minus_one_is_swap_without_end() -> None:
    assert values.read_swap_bytes("-1") == -1


@pytest.mark.parametrize(
    ("text", "billionths"), [("1", 10**9), (".5", 5 * 10**8), ("1/3000", None), ("1/4", 25 * 10**7), ("0.123456789", 123456789)]
)
def test_cpus_are_counted_in_billionths(text: str, billionths: int | None) -> None:
    if billionths is None:
        with pytest.raises(ValueError, match="value is too precise"):
            values.read_decimal(text)
    else:
        assert values.read_decimal(text) == billionths


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("0", 0), ("1s", 10**9), ("1h15m", 4500 * 10**9), ("1.5ms", 1500000), ("-2s", -2 * 10**9), ("1us", 1000)],
)
def test_durations_are_gos(text: str, nanoseconds: int) -> None:
    assert values.read_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'time: invalid duration ""'),
        ("5", 'time: missing unit in duration "5"'),
        ("5x", 'time: unknown unit "x" in duration "5x"'),
    ],
)
def test_what_is_no_duration_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        values.read_duration(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(("text", "number"), [("12", 12), ("-3", -3), ("0x10", 16), ("010", 8), ("0b11", 3), ("1_000", 1000)])
def test_numbers_have_gos_bases(text: str, number: int) -> None:
    assert values.read_int(text) == number


def test_a_number_out_of_range_is_named_so() -> None:
    with pytest.raises(ValueError) as caught:
        values.read_uint16("70000")
    assert str(caught.value) == 'strconv.ParseUint: parsing "70000": value out of range'


def test_a_limit_may_be_soft_and_hard() -> None:
    assert values.read_ulimit("nofile=5:8") == {"Name": "nofile", "Soft": 5, "Hard": 8}
    assert values.read_ulimit("core=-1") == {"Name": "core", "Soft": -1, "Hard": -1}


@pytest.mark.parametrize("text", ["x", "what=1", "nofile=5:3", "nofile=1:2:3", "nofile="])
def test_a_limit_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="ulimit|limit|ParseInt"):
        values.read_ulimit(text)


@pytest.mark.parametrize(
    ("text", "quoted"), [("a", '"a"'), ('a"b', '"a\\"b"'), ("a\n\x01", '"a\\n\\x01"'), ("ä…", '"ä…"'), ("\udcff", '"\\xff"')]
)
def test_text_is_quoted_as_go_quotes_it(text: str, quoted: str) -> None:
    assert values.go_quote(text) == quoted


# -- ports


def test_a_range_of_ports_becomes_a_port_each() -> None:
    exposed, bindings = read_ports(["127.0.0.1:8000-8001:80-81/udp"], ["9000-9001"])
    assert sorted(exposed) == ["80/udp", "81/udp", "9000/tcp", "9001/tcp"]
    assert bindings["81/udp"] == [{"HostIp": "127.0.0.1", "HostPort": "8001"}]


def test_one_port_may_be_given_a_range_to_choose_from() -> None:
    assert read_ports(["8000-8010:80"], [])[1] == {"80/tcp": [{"HostIp": "", "HostPort": "8000-8010"}]}


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert read_ports(["[::1]:80:90"], [])[1] == {"90/tcp": [{"HostIp": "::1", "HostPort": "80"}]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "invalid containerPort: x"),
        ("99999:1", "invalid hostPort: 99999"),
        ("80/foo", "invalid proto: foo"),
        ("1.2.3:80:80", "invalid IP address: 1.2.3"),
        ("1-3:1-2", "invalid ranges specified for container and host Ports: 1-2 and 1-3"),
    ],
)
def test_a_port_that_cannot_be_is_refused_in_dockers_words(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_ports([text], [])
    assert str(caught.value) == message


# -- mounts, networks, GPUs


def test_a_mount_names_its_options() -> None:
    mount = read_mount("type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave")
    assert mount == {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True, "BindOptions": {"Propagation": "rslave"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=bind", "target is required"),
        ("type=bind,dst=/a,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
        ("dst=/a,foo=1", "unexpected key 'foo' in 'foo=1'"),
        ("dst=/a,foo", "invalid field 'foo' must be a key=value pair"),
        ("type=tmpfs,dst=/a,tmpfs-mode=9", "invalid value for tmpfs-mode: 9"),
        ("dst=/a,readonly=maybe", "invalid value for readonly: maybe"),
    ],
)
def test_a_mount_that_cannot_be_is_refused_in_dockers_words(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_mount(text)
    assert str(caught.value) == message


def test_a_network_may_be_a_name_or_a_list_of_settings() -> None:
    assert read_network("front").target == "front"
    choice = read_network("name=front,alias=a,alias=b,ip=10.0.0.9,driver-opt=x=y,gw-priority=3")
    assert (choice.target, choice.aliases, choice.ipv4, choice.driver_options, choice.gateway_priority) == (
        "front",
        ["a", "b"],
        "10.0.0.9",
        {"x": "y"},
        3,
    )


def test_all_gpus_are_counted_minus_one() -> None:
    assert read_gpus("all")["Count"] == -1
    assert read_gpus("device=0")["DeviceIDs"] == ["0"]


# -- names and times


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("busybox", "docker.io/library/busybox", "busybox"),
        ("a/b:1", "docker.io/a/b", "a/b:1"),
        ("ghcr.io/a/b@sha256:" + "0" * 64, "ghcr.io/a/b", "ghcr.io/a/b@sha256:" + "0" * 64),
        ("localhost:5000/x:2", "localhost:5000/x", "localhost:5000/x:2"),
        ("index.docker.io/x", "docker.io/library/x", "x"),
    ],
)
def test_a_name_is_completed_and_shortened(text: str, full: str, familiar: str) -> None:
    name = parse_name(text)
    assert (name.full_name, name.familiar) == (full, familiar)


@pytest.mark.parametrize(
    "text", ["", "A", "a:", "a:b:c", "a//b", "a@x", "-a", "a..b", "a/b/", ":x", "a b", "host:port:x/y", "a:" + "x" * 129]
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid reference format"):
        parse_name(text)


def test_an_id_is_no_name() -> None:
    assert parse_any("f" * 64) is None
    assert parse_any("sha256:" + "f" * 64) is None


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        ("2013-01-02T13:23:37Z", "1357133017.000000000"),
        ("2013-01-02T13:23:37.5+01:00", "1357129417.500000000"),
        ("1357133017", "1357133017"),
    ],
)
def test_a_moment_becomes_seconds(text: str, stamp: str) -> None:
    assert api_timestamp(text) == stamp


def test_what_is_no_moment_is_refused() -> None:
    with pytest.raises(ValueError, match='failed to parse value as time or duration: "yesterday"'):
        api_timestamp("yesterday")
