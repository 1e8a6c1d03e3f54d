"""JSON bodies read as Go's encoding/json reads them and written as Docker writes them.

Docker's clients rely on Go's habits: unknown fields are ignored, null stands for the zero value, keys match in any case, an array
of a fixed length is padded or cut. So a body is decoded to plain values, walked once along a plan made from the type, and only
then converted. Failures speak Go's language, because people and programs know those sentences.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from functools import cache
from typing import TypeVar, cast

import msgspec
from msgspec import inspect

from carrack.errors import InvalidParameter
from carrack.http import Request, Response

BODY_LIMIT_BYTES = 4 << 20
"""Larger than any configuration document; protects the daemon's memory."""

T = TypeVar("T")
_Fit = Callable[[object], object]

_JSON_HEADERS = {"Content-Type": "application/json"}
_MISMATCH = re.compile(r"Expected `(?P<want>.+?)`, got `(?P<got>.+?)`(?: - at `\$\.?(?P<path>.*)`)?")
_MALFORMED = re.compile(r"JSON is malformed: (?P<what>.*?) \(byte (?P<at>\d+)\)")
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_GO_KINDS = {"str": "string", "int": "number", "float": "number", "list": "array", "dict": "object"}
_GO_TYPES = {"str": "string", "float": "float64", "array": "[]string", "object": "map[string]string", "list": "[]string"}


def decode(body: bytes, type: type[T], *, lists: frozenset[str] = frozenset()) -> T:
    """A document as a value of this type. Raises InvalidParameter in the words of Go.

    `lists` names fields (JSON spelling) where a bare string stands for a list of one, as in Docker's older clients.
    """
    if not body.strip():
        raise InvalidParameter("invalid JSON: got EOF while reading request body")
    try:
        document = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise InvalidParameter(_syntax_error(str(error), body)) from error
    except (UnicodeDecodeError, RecursionError) as error:
        text = "exceeded max depth" if isinstance(error, RecursionError) else "invalid UTF-8"
        raise InvalidParameter(f"invalid JSON: {text}") from error
    if b"\\u0000" in body and _NUL.search(body):
        raise InvalidParameter("invalid JSON: a string contains NUL, which no name, path or argument can hold")
    try:
        return msgspec.convert(_plan(cast(Hashable, type), lists)(document), type)
    except msgspec.ValidationError as error:
        raise InvalidParameter(_type_error(str(error), type.__name__)) from error


async def read(
    request: Request,
    type: type[T],
    *,
    lists: frozenset[str] = frozenset(),
    limit_bytes: int = BODY_LIMIT_BYTES,
    required: bool = False,
) -> T:
    """The request's body as a value of this type; an empty one is the zero value, unless it is required.

    Raises InvalidParameter for a body that is not JSON or not said to be.
    """
    has_body = require_json(request)
    body = await request.body(limit_bytes)
    return decode(body if has_body or required else b"{}", type, lists=lists)


def require_json(request: Request) -> bool:
    """Whether a body was announced. Raises InvalidParameter when there is one, or a type, that is not JSON."""
    content_type = request.headers.get("content-type")
    has_body = request.headers.get("content-length") not in ("", "0") or "transfer-encoding" in request.headers
    if not content_type and not has_body:
        return False
    mime = content_type.partition(";")[0].strip().lower()
    if not mime:
        raise InvalidParameter(f"malformed Content-Type header ({content_type}): mime: no media type")
    if mime != "application/json":
        raise InvalidParameter(f"unsupported Content-Type header ({content_type}): must be 'application/json'")
    return has_body


def encode(value: object) -> bytes:
    """One document and a line end, as Go's encoder writes it."""
    return msgspec.json.encode(value) + b"\n"


def reply(value: object, status: int = 200) -> Response:
    """A response that is this document."""
    return Response(status, encode(value), _JSON_HEADERS)


def _syntax_error(text: str, body: bytes) -> str:
    match = _MALFORMED.search(text)
    if match is None:
        return "invalid JSON: unexpected EOF" if "truncated" in text else f"invalid JSON: {text}"
    at = int(match["at"])
    if "trailing" in match["what"]:
        return "unexpected content after JSON"
    if at >= len(body):
        return "invalid JSON: unexpected EOF"
    return f"invalid JSON: invalid character {chr(body[at])!r} looking for beginning of value"


def _type_error(text: str, name: str) -> str:
    match = _MISMATCH.search(text)
    if match is None:
        return f"invalid JSON: json: {text}"
    got = _GO_KINDS.get(match["got"], match["got"])
    want = match["want"].split(" | ")[0]
    if not match["path"]:
        return f"invalid JSON: json: cannot unmarshal {got} into Go value of type {name}"
    field = f"{name}.{match['path']} of type {_GO_TYPES.get(want, want)}"
    return f"invalid JSON: json: cannot unmarshal {got} into Go struct field {field}"


@cache
def _plan(type: Hashable, lists: frozenset[str]) -> _Fit:
    return _fit_for(inspect.type_info(type), lists)[0]


def _fit_for(info: inspect.Type, lists: frozenset[str]) -> tuple[_Fit, object]:
    """How a value of this type is put right, and its zero value (a callable makes a fresh one)."""
    if isinstance(info, inspect.UnionType):
        inner = [member for member in info.types if not isinstance(member, inspect.NoneType)]
        fit, zero = _fit_for(inner[0], lists) if len(inner) == 1 else (_as_it_is, None)
        return fit, None if info.includes_none else zero
    if isinstance(info, inspect.StructType):
        return _fit_struct(info, lists), dict
    if isinstance(info, inspect.DictType):
        return _fit_dict(*_fit_for(info.value_type, lists)), dict
    if isinstance(info, inspect.ListType):
        return _fit_list(*_fit_for(info.item_type, lists)), list
    if isinstance(info, inspect.TupleType):
        zeros = [_fit_for(item, lists)[1] for item in info.item_types]
        return _fit_tuple(zeros), zeros
    if isinstance(info, inspect.IntType):
        return _within_int64, 0
    zeros_by_kind: dict[type, object] = {inspect.StrType: "", inspect.BoolType: False, inspect.FloatType: 0.0}
    return _as_it_is, zeros_by_kind.get(info.__class__)


def _fit_struct(info: inspect.StructType, lists: frozenset[str]) -> _Fit:
    fields: dict[str, tuple[str, _Fit, bool]] = {}

    def fit(value: object) -> object:
        if value is None:
            return {}
        if not isinstance(value, dict):
            return value
        if not fields:  # made on first use: a struct may hold itself
            for field in info.fields:
                fields[field.encode_name.lower()] = (
                    field.encode_name,
                    _fit_for(field.type, lists)[0],
                    field.encode_name in lists,
                )
        fitted: dict[str, object] = {}
        for key, item in value.items():
            known = fields.get(key) or fields.get(key.lower())
            if known is None or item is None:
                continue
            name, inner, is_list = known
            fitted[name] = inner([item] if is_list and isinstance(item, str) else item)
        return fitted

    return fit


def _fit_dict(fit_item: _Fit, zero: object) -> _Fit:
    def fit(value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {key: _fresh(zero) if item is None else fit_item(item) for key, item in value.items()}

    return fit


def _fit_list(fit_item: _Fit, zero: object) -> _Fit:
    def fit(value: object) -> object:
        if not isinstance(value, list):
            return value
        return [_fresh(zero) if item is None else fit_item(item) for item in value]

    return fit


def _fit_tuple(zeros: list[object]) -> _Fit:
    def fit(value: object) -> object:
        if not isinstance(value, list):
            return value
        return [zero if item is None else item for item, zero in zip((*value, *zeros[len(value) :]), zeros, strict=False)]

    return fit


def _within_int64(value: object) -> object:
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise InvalidParameter(f"invalid JSON: json: cannot unmarshal number {value} into Go value of type int64")
    return value


def _as_it_is(value: object) -> object:
    return value


def _fresh(zero: object) -> object:
    return zero() if callable(zero) else zero
