"""The table's text as a function of the networks."""

from __future__ import annotations

from carrack.networks.ruleset import BridgeRules, Forwarding, Ruleset, render

PORT = Forwarding("tcp", "0.0.0.0", 8080, "172.17.0.2", 80)


def test_what_is_ours_is_replaced_and_the_users_chain_is_not() -> None:
    text = render("carrack_x", Ruleset())
    assert "flush chain inet carrack_x forward\n" in text
    assert "chain user { }" in text
    assert "flush chain inet carrack_x user" not in text
    assert "delete table" not in text


def test_the_users_chain_is_asked_first() -> None:
    assert render("t", Ruleset()).rpartition("chain forward {")[2].split()[:2] == ["jump", "user"]


def test_a_port_on_every_address_and_one_on_an_address_stand_in_different_maps() -> None:
    assert PORT.elements()[0] == ("ports4_any", "tcp . 8080 : 172.17.0.2 . 80")
    other = Forwarding("udp", "10.0.0.1", 53, "172.17.0.2", 53)
    assert other.elements()[0] == ("ports4", "10.0.0.1 . udp . 53 : 172.17.0.2 . 53")


def test_without_the_guard_nothing_foreign_is_dropped() -> None:
    chain = render("t", Ruleset()).rpartition("chain forward {")[2].split("}")[0]
    assert chain.strip().endswith("iifname @bridges accept")


def test_the_guard_of_one_version_leaves_the_other_alone() -> None:
    chain = render("t", Ruleset(guard4=True)).rpartition("chain forward {")[2].split("}")[0]
    assert "meta nfproto ipv4 drop" in chain
    assert "ipv6 drop" not in chain


def test_the_loopback_guard_comes_before_connection_tracking() -> None:
    assert "type filter hook prerouting priority -300" in render("t", Ruleset()).split("chain prerouting")[0]


def test_the_text_does_not_depend_on_the_order_in_which_networks_came() -> None:
    first, second = BridgeRules("a", "10.0.0.0/24"), BridgeRules("b", "10.1.0.0/24", internal=True)
    assert render("t", Ruleset(networks={"1": first, "2": second})) == render("t", Ruleset(networks={"2": second, "1": first}))
