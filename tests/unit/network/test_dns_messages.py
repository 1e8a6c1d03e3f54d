"""DNS messages and the table of names, without a socket."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrack.networks.dns import message
from carrack.networks.dns.message import Malformed, Query
from carrack.networks.dns.table import ContainerNames, EndpointNames, NameTable


def question(name: str, kind: int = message.A, *, flags: int = 0x0100, edns: int = 0) -> bytes:
    body = message.encode_name(name) + struct.pack(">HH", kind, 1)
    extra = b"\0" + struct.pack(">HHIH", message.OPT, edns, 0, 0) if edns else b""
    return struct.pack(">HHHHHH", 7, flags, 1, 0, 0, bool(edns)) + body + extra


@given(st.binary(max_size=600))
def test_whatever_a_container_sends_is_read_or_refused(data: bytes) -> None:
    try:
        message.parse(data)
    except Malformed:
        message.refuse_malformed(data)


@given(st.binary(max_size=80))
def test_whatever_follows_a_sound_header_is_read_or_refused(tail: bytes) -> None:
    try:
        message.parse(struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 1) + tail)
    except Malformed:
        pass


def test_a_name_is_read_in_lower_case() -> None:
    assert message.parse(question("WWW.Example.ORG")).name == "www.example.org"


def test_an_answer_is_no_question() -> None:
    with pytest.raises(Malformed):
        message.parse(question("a", flags=0x8180))


def test_an_answer_is_never_answered() -> None:
    assert message.refuse_malformed(question("a", flags=0x8180)) is None


def test_a_compressed_name_in_a_question_is_refused() -> None:
    with pytest.raises(Malformed):
        message.parse(struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + b"\xc0\x0c\x00\x01\x00\x01")


@pytest.mark.parametrize(("edns", "limit"), [(0, 512), (100, 512), (1232, 1232), (65535, 4096)])
def test_the_asker_says_how_much_it_can_take(edns: int, limit: int) -> None:
    assert message.parse(question("a", edns=edns)).limit == limit


def test_an_answer_that_is_too_long_is_cut_and_says_so() -> None:
    query = message.parse(question("app"))
    answer = message.respond(query, message.NO_ERROR, [(message.A, bytes(4))] * 100)
    flags, count = struct.unpack_from(">H2xH", answer, 2)
    assert len(answer) <= 512
    assert flags & 0x0200
    assert count == (512 - 12 - len(query.question)) // 16


def test_by_stream_nothing_is_cut() -> None:
    query = message.parse(question("app"))
    answer = message.respond(query, message.NO_ERROR, [(message.A, bytes(4))] * 100, limit=65535)
    assert struct.unpack_from(">H", answer, 6)[0] == 100


def test_reverse_names_are_addresses() -> None:
    assert message.pointer_address("2.0.18.172.in-addr.arpa") == ip_address("172.18.0.2")
    six = ip_address("fd00::12")
    assert message.pointer_address(six.reverse_pointer) == six


@pytest.mark.parametrize("name", ["in-addr.arpa", "1.2.3.in-addr.arpa", "999.0.0.1.in-addr.arpa", "x.ip6.arpa", "example.org"])
def test_other_names_are_no_addresses(name: str) -> None:
    assert message.pointer_address(name) is None


def container(identifier: str, *names: str, network: str = "n1", ipv4: str = "172.18.0.2") -> ContainerNames:
    return ContainerNames(identifier, (EndpointNames(network, "red", names, ipv4, gateway="172.18.0.1"),))


def test_a_dropped_container_leaves_nothing() -> None:
    table = NameTable()
    table.put(container("a", "web", "api"))
    asker = container("b", "client", ipv4="172.18.0.3")
    table.put(asker)
    table.drop("a")
    assert table.find(asker, "web", 4) is None
    assert table.name_of(asker, ip_address("172.18.0.2")) == ""
    table.drop("b")
    assert (table._names, table._addresses, len(table)) == ({}, {}, 0)


def test_a_container_that_is_put_again_has_its_new_names_only() -> None:
    table = NameTable()
    table.put(container("a", "old"))
    asker = container("b", "client", ipv4="172.18.0.3")
    table.put(container("a", "new"))
    assert table.find(asker, "old", 4) is None
    assert table.find(asker, "new", 4) == [ip_address("172.18.0.2")]


def test_a_name_of_one_network_does_not_hide_that_of_the_next() -> None:
    table = NameTable()
    table.put(container("a", "web", network="n1", ipv4="172.18.0.2"))
    table.put(container("b", "db", network="n2", ipv4="172.19.0.2"))
    both = ContainerNames("c", (EndpointNames("n1", "red", ("c",)), EndpointNames("n2", "blue", ("c",))))
    assert table.find(both, "db", 4) == [ip_address("172.19.0.2")]
    assert table.find(both, "db.blue", 4) == [ip_address("172.19.0.2")]


def test_only_those_retained_are_known() -> None:
    table = NameTable()
    for number in range(3):
        table.put(container(str(number), f"c{number}", ipv4=f"172.18.0.{number + 2}"))
    table.retain(["1"])
    assert [table.get(str(number)) is not None for number in range(3)] == [False, True, False]


def test_an_answer_repeats_what_was_asked() -> None:
    query = message.parse(question("WeB"))
    assert isinstance(query, Query)
    answer = message.respond(query, message.NO_ERROR, [(message.A, b"\x01\x02\x03\x04")])
    assert answer[:2] == b"\0\x07"
    assert b"\x03WeB\0" in answer
