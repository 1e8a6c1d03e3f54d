"""The OpenAPI description is that of the routes, all of them, and of Docker's list of operations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from carrack.api import openapi
from carrack.api.openapi import describe, plain
from carrack.api.operations import operations
from scripts.scope import served_list

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def document() -> Any:
    served = served_list()
    return json.loads(json.dumps(describe((*served, *openapi.routes(served, "1")), "1")))


def test_every_route_that_is_served_is_described_and_nothing_else(document: Any) -> None:
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    served = {(route.method, plain(route.pattern)) for route in served_list()} | {("GET", "/openapi.json")}
    served.discard(("GET", "/metrics"))  # on a listener of its own
    assert described == served
    assert set(operations()) == served


def test_every_operation_of_dockers_is_described(document: Any) -> None:
    lines = [line.split("\t")[:2] for line in (ROOT / "docs/scope/api.tsv").read_text().splitlines()]
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    elsewhere = {("GET", "/metrics")}
    assert {(method, path) for method, path in lines} - described - elsewhere == set()


def test_every_place_of_a_path_is_a_parameter_and_every_reference_leads_somewhere(document: Any) -> None:
    for path, item in document["paths"].items():
        for operation in item.values():
            places = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert places == {part.strip("{}") for part in path.split("/") if part.startswith("{")}
            assert "400" in operation["responses"]
    text = json.dumps(document)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in document["components"]["schemas"]


def test_bodies_have_dockers_names(document: Any) -> None:
    body = document["paths"]["/containers/create"]["post"]["requestBody"]
    name = body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    properties = document["components"]["schemas"][name]["properties"]
    assert {"Image", "Cmd", "HostConfig", "NetworkingConfig", "ExposedPorts"} <= set(properties)


def test_identifiers_are_unique(document: Any) -> None:
    found = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(found) == len(set(found))
