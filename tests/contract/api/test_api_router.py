"""Paths, versions, headers and failures of the Engine API, seen from a socket."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from carrack.api import absent, not_yet
from carrack.api.router import Route
from carrack.api.versions import MAX_VERSION
from carrack.errors import Cancelled, Conflict, NotFound, NotModified, SystemFailure, Unavailable
from carrack.http import Reply, Request, Response
from tests.contract.http.live_server import LiveServer

StartApi = Callable[..., LiveServer]


async def tell(request: Request) -> Response:
    return Response(200, json.dumps([request.version, request.params]).encode(), {"Content-Type": "application/json"})


ROUTES = [
    Route("GET", "/containers/json", tell),
    Route("GET", "/containers/{id}/json", tell),
    Route("GET", "/images/{name:path}/json", tell),
    Route("GET", "/new", tell, since="1.42"),
    Route("GET", "/old", tell, until="1.41"),
]


def ask(server: LiveServer, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    with server.connect() as client:
        client.send(f"{method} {path} HTTP/1.1", "Host: d")
        return client.answer()


def message(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, str]:
    assert answer[1]["content-type"] == "application/json"
    return answer[0], json.loads(answer[2])["message"]


def test_a_path_without_version_means_the_newest(start_api: StartApi) -> None:
    assert json.loads(ask(start_api(ROUTES), "GET", "/containers/json")[2]) == [MAX_VERSION, {}]


def test_a_version_prefix_is_honoured(start_api: StartApi) -> None:
    assert json.loads(ask(start_api(ROUTES), "GET", "/v1.30/containers/abc/json")[2]) == ["1.30", {"id": "abc"}]


def test_a_name_with_slashes_is_one_parameter(start_api: StartApi) -> None:
    answer = ask(start_api(ROUTES), "GET", "/v1.43/images/reg.example:5000/a%2Fb/c:tag/json")
    assert json.loads(answer[2])[1] == {"name": "reg.example:5000/a/b/c:tag"}


def test_a_leading_slash_of_a_name_is_forgiven(start_api: StartApi) -> None:
    assert json.loads(ask(start_api(ROUTES), "GET", "/v1.43/containers//web/json")[2])[1] == {"id": "web"}


@pytest.mark.parametrize("path", ["/v1.43/nonsense", "/", "/v1.43/containers/json/", "/vx/containers/json", "/v1.43"])
def test_an_unknown_path_is_page_not_found(start_api: StartApi, path: str) -> None:
    assert message(ask(start_api(ROUTES), "GET", path)) == (404, "page not found")


def test_an_unknown_method_is_page_not_found(start_api: StartApi) -> None:
    assert message(ask(start_api(ROUTES), "DELETE", "/containers/json")) == (404, "page not found")


def test_a_route_is_served_only_to_versions_that_have_it(start_api: StartApi) -> None:
    server = start_api(ROUTES)
    assert ask(server, "GET", "/v1.42/new")[0] == 200
    assert ask(server, "GET", "/v1.41/new")[0] == 404
    assert ask(server, "GET", "/v1.41/old")[0] == 200
    assert ask(server, "GET", "/v1.42/old")[0] == 404


@pytest.mark.parametrize(
    ("version", "text"),
    [
        (
            "1.23",
            "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
        ),
        ("1.99", f"client version 1.99 is too new. Maximum supported API version is {MAX_VERSION}"),
        ("2", f"client version 2 is too new. Maximum supported API version is {MAX_VERSION}"),
    ],
)
def test_a_version_out_of_bounds_is_refused(start_api: StartApi, version: str, text: str) -> None:
    assert message(ask(start_api(ROUTES), "GET", f"/v{version}/containers/json")) == (400, text)


@pytest.mark.parametrize("path", ["/v1.43/containers/json", "/nonsense", "/v1.99/containers/json"])
def test_every_answer_carries_dockers_headers(start_api: StartApi, path: str) -> None:
    headers = ask(start_api(ROUTES), "GET", path)[1]
    assert headers["server"] == "Docker/24.0.9+carrack0.1.0 (linux)"
    assert (headers["api-version"], headers["ostype"], headers["docker-experimental"]) == (MAX_VERSION, "linux", "false")


@pytest.mark.parametrize(
    ("error", "status"),
    [(NotFound("no"), 404), (Conflict("no"), 409), (Unavailable("no"), 503), (SystemFailure("no"), 500), (Cancelled("no"), 499)],
)
def test_a_kind_of_failure_has_its_status(start_api: StartApi, error: Exception, status: int) -> None:
    async def fail(request: Request) -> Reply:
        raise error

    assert message(ask(start_api([Route("GET", "/x", fail)]), "GET", "/x")) == (status, "no")


def test_not_modified_has_no_body(start_api: StartApi) -> None:
    async def already(request: Request) -> Reply:
        raise NotModified("already started")

    with start_api([Route("POST", "/x", already), *ROUTES]).connect() as client:
        client.send("POST /x HTTP/1.1", "Host: d")
        assert client.head()[0] == "HTTP/1.1 304 Not Modified"
        client.send("GET /containers/json HTTP/1.1", "Host: d")
        assert client.answer()[0] == 200


def test_a_programming_error_is_a_500_without_its_text(start_api: StartApi) -> None:
    async def fail(request: Request) -> Reply:
        raise KeyError("secret")

    assert message(ask(start_api([Route("GET", "/x", fail)]), "GET", "/x")) == (500, "internal error: KeyError")


def test_options_is_answered_everywhere(start_api: StartApi) -> None:
    assert ask(start_api([*ROUTES, Route("OPTIONS", "/{anyroute:path}", ROUTES[0].handler)]), "OPTIONS", "/any/thing")[0] == 200


def test_what_is_missing_says_so(start_api: StartApi) -> None:
    assert message(ask(start_api(not_yet.routes()), "POST", "/v1.43/swarm/init")) == (
        501,
        "POST /v1.43/swarm/init is not implemented by Carrack yet",
    )


def test_this_is_no_swarm_manager_and_has_no_plugins(start_api: StartApi) -> None:
    server = start_api(absent.routes())
    status, text = message(ask(server, "GET", "/v1.43/services"))
    assert status == 503
    assert text.startswith("This node is not a swarm manager. ")
    assert json.loads(ask(server, "GET", "/v1.43/plugins")[2]) == []
