"""Bodies are read as Go reads them, and refused in Go's words."""

from __future__ import annotations

import msgspec
import pytest

from carrack.api.json import decode
from carrack.engine.config import CreateRequest, ExecConfig, HostConfig
from carrack.errors import InvalidParameter

LISTS = frozenset(("Cmd", "Entrypoint"))


def test_unknown_fields_are_ignored() -> None:
    assert decode(b'{"Cmd": ["a"], "Nonsense": {"x": 1}}', ExecConfig) == ExecConfig(cmd=["a"])


def test_keys_match_in_any_case() -> None:
    assert decode(b'{"cmd": ["a"], "TTY": true, "hostconfig": {"autoremove": true}}', CreateRequest) == CreateRequest(
        cmd=["a"], tty=True, host_config=HostConfig(auto_remove=True)
    )


def test_null_is_the_zero_value_at_every_depth() -> None:
    body = b'{"Tty": null, "Cmd": ["a", null], "Volumes": {"/v": null}, "HostConfig": null, "Healthcheck": null}'
    assert decode(body, CreateRequest) == CreateRequest(cmd=["a", ""], volumes={"/v": {}})


def test_null_in_a_map_of_optional_lists_stays_null() -> None:
    assert decode(b'{"PortBindings": {"80/tcp": null}}', HostConfig).port_bindings == {"80/tcp": None}


def test_a_null_document_is_the_zero_value() -> None:
    assert decode(b"null", ExecConfig) == ExecConfig()


def test_a_bare_string_is_a_list_of_one_where_docker_says_so() -> None:
    assert decode(b'{"Cmd": "true"}', CreateRequest, lists=LISTS).cmd == ["true"]
    with pytest.raises(InvalidParameter, match="cannot unmarshal string"):
        decode(b'{"Env": "A=1"}', CreateRequest, lists=LISTS)


@pytest.mark.parametrize(("text", "size"), [("[24]", (24, 0)), ("[24, 80, 9]", (24, 80)), ("null", (0, 0)), ("[null, 3]", (0, 3))])
def test_an_array_of_fixed_length_is_padded_or_cut(text: str, size: tuple[int, int]) -> None:
    assert decode(b'{"ConsoleSize": %s}' % text.encode(), HostConfig).console_size == size


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "invalid JSON: got EOF while reading request body"),
        (b"  \n", "invalid JSON: got EOF while reading request body"),
        (b'{"Tty": tru', "invalid JSON: unexpected EOF"),
        (b"{]", "invalid JSON: invalid character ']' looking for beginning of value"),
        (b"hello", "invalid JSON: invalid character 'h' looking for beginning of value"),
        (b"{} {}", "unexpected content after JSON"),
        (b'{"Tty": "yes"}', "invalid JSON: json: cannot unmarshal string into Go struct field ExecConfig.Tty of type bool"),
        (b'{"Cmd": "ls"}', "invalid JSON: json: cannot unmarshal string into Go struct field ExecConfig.Cmd of type []string"),
        (b"[]", "invalid JSON: json: cannot unmarshal array into Go value of type ExecConfig"),
        (b'{"User": "\xff"}', "invalid JSON: invalid UTF-8"),
    ],
)
def test_what_is_wrong_is_said_in_gos_words(body: bytes, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        decode(body, ExecConfig)
    assert caught.value.message == message


def test_a_deeply_nested_document_is_refused() -> None:
    with pytest.raises(InvalidParameter):
        decode(b'{"Cmd":' + b"[" * 100000, ExecConfig)


def test_every_field_survives_its_own_spelling() -> None:
    request = CreateRequest(hostname="h", env=["A=1"], host_config=HostConfig(memory=1 << 40, binds=["/a:/b"]))
    assert decode(msgspec.json.encode(request), CreateRequest) == request


@pytest.mark.parametrize("text", [r'"a\u0000b"', r'"\\\u0000"'])
def test_a_string_with_nul_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="NUL"):
        decode(b'{"a": %s}' % text.encode(), dict[str, str])


def test_a_backslash_before_the_letters_is_no_nul() -> None:
    assert decode(rb'{"a": "\\u0000"}', dict[str, str]) == {"a": r"\u0000"}
