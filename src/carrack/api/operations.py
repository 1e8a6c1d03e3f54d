"""What each operation of the API takes and gives, as a table: the part of the OpenAPI description that the routes cannot say.

One line per route: what it does; the query, as `name:type` (nothing: a string; i integer, b boolean, a strings; f filters, p a
platform, j any JSON, the last three written as JSON); the body; the answers, as `status kind`. A name with `!` must be there.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from carrack.api.checkpoints import CheckpointRequest
from carrack.api.exec import StartRequest
from carrack.api.network_json import NetworkConnect, NetworkCreate, NetworkDisconnect
from carrack.api.registries import LoginRequest
from carrack.api.volumes import VolumeCreate
from carrack.engine.config import CreateRequest, ExecConfig, UpdateRequest

_LOGS = "follow:b stdout:b stderr:b since until timestamps:b details:b tail"
_ATTACH = "detachKeys logs:b stream:b stdin:b stdout:b stderr:b"
_BUILD = (
    "dockerfile t:a extrahosts remote q:b nocache:b cachefrom:j pull rm:b forcerm:b memory:i memswap:i cpushares:i cpusetcpus "
    "cpuperiod:i cpuquota:i buildargs:j shmsize:i squash:b labels:j networkmode platform target outputs version buildid"
)
_MANAGER = "503 error"

TABLE = f"""
GET /containers/json | List containers | all:b limit:i size:b before since filters:f | - | 200 array
POST /containers/create | Make a container | name platform | CreateRequest! | 201 object, 404 error, 409 error
POST /containers/prune | Remove containers that do not run | filters:f stream:b | - | 200 object
GET /containers/{{id}}/json | Inspect a container | size:b | - | 200 object, 404 error
GET /containers/{{id}}/top | List a container's processes | ps_args | - | 200 object, 404 error, 409 error
GET /containers/{{id}}/logs | Read what a container wrote | {_LOGS} | - | 200 stream, 404 error
GET /containers/{{id}}/changes | List what a container changed in its files | | - | 200 array, 404 error
GET /containers/{{id}}/export | A container's files as a tar | | - | 200 tar, 404 error
GET /containers/{{id}}/stats | What a container uses | stream:b one-shot:b | - | 200 stream, 404 error
POST /containers/{{id}}/resize | Resize a container's terminal | h!:i w!:i | - | 200 nothing, 404 error, 409 error
POST /containers/{{id}}/start | Start a container | detachKeys checkpoint checkpoint-dir | - | 204 nothing, 304 nothing, 404 error, 409 error
POST /containers/{{id}}/stop | Stop a container | signal t:i | - | 204 nothing, 304 nothing, 404 error
POST /containers/{{id}}/restart | Restart a container | signal t:i | - | 204 nothing, 404 error
POST /containers/{{id}}/kill | Send a container a signal | signal | - | 204 nothing, 404 error, 409 error
POST /containers/{{id}}/pause | Pause a container | | - | 204 nothing, 404 error, 409 error
POST /containers/{{id}}/unpause | Unpause a container | | - | 204 nothing, 404 error, 409 error
POST /containers/{{id}}/rename | Rename a container | name! | - | 204 nothing, 404 error, 409 error
POST /containers/{{id}}/update | Change a container's limits | | UpdateRequest | 200 object, 404 error
POST /containers/{{id}}/attach | Join a container's streams | {_ATTACH} | - | 101 stream, 200 stream, 404 stream
GET /containers/{{id}}/attach/ws | Join a container's streams by WebSocket | {_ATTACH} | - | 101 stream, 404 error
POST /containers/{{id}}/wait | Wait for a container's end | condition | - | 200 object, 404 error
DELETE /containers/{{id}} | Remove a container | v:b force:b link:b | - | 204 nothing, 404 error, 409 error
HEAD /containers/{{id}}/archive | Facts of a path in a container | path! | - | 200 nothing, 404 nothing
GET /containers/{{id}}/archive | A path in a container as a tar | path! | - | 200 tar, 404 error
PUT /containers/{{id}}/archive | Put a tar's files into a container | path! noOverwriteDirNonDir:b copyUIDGID:b | tar | 200 nothing, 403 error, 404 error
GET /containers/{{id}}/checkpoints | List checkpoints | dir | - | 200 array, 404 error
POST /containers/{{id}}/checkpoints | Make a checkpoint | | CheckpointRequest! | 201 nothing, 404 error, 409 error, 503 error
DELETE /containers/{{id}}/checkpoints/{{checkpoint}} | Remove a checkpoint | dir | - | 204 nothing, 404 error
POST /containers/{{id}}/exec | Prepare one more process in a container | | ExecConfig | 201 object, 404 error, 409 error
POST /exec/{{id}}/start | Start it | | StartRequest | 101 stream, 200 stream, 404 error, 409 error
POST /exec/{{id}}/resize | Resize its terminal | h!:i w!:i | - | 200 nothing, 404 error, 409 error
GET /exec/{{id}}/json | Inspect it | | - | 200 object, 404 error
POST /commit | Make an image of a container | container! repo tag comment author pause:b changes:a | object | 201 object, 404 error
GET /images/json | List images | all:b filters:f filter shared-size:b digests:b manifests:b identity:b | - | 200 array, 404 error
GET /images/get | Several images as a tar | names!:a platform:p | - | 200 tar, 404 error
GET /images/search | Search a registry | term! limit:i filters:f | - | 200 array, 401 error, 404 error
POST /images/load | Load images from a tar | quiet:b platform:p | tar | 200 lines
POST /images/create | Pull or import an image | fromImage fromSrc repo tag message changes:a platform | tar | 200 lines, 401 error, 404 error
POST /images/prune | Remove images without a name, or all unused | filters:f stream:b | - | 200 object
GET /images/{{name}}/json | Inspect an image | manifests:b platform:p | - | 200 object, 404 error
GET /images/{{name}}/history | How an image was made | platform:p | - | 200 array, 404 error
GET /images/{{name}}/attestations | Statements about an image | platform:p type:a statement:b | - | 200 array, 404 error
GET /images/{{name}}/get | An image as a tar | platform:p | - | 200 tar, 404 error
POST /images/{{name}}/push | Push an image | tag platform:p | - | 200 lines, 401 error, 403 error, 404 error
POST /images/{{name}}/tag | Give an image a name | repo! tag | - | 201 nothing, 404 error, 409 error
DELETE /images/{{name}} | Remove an image, or a name of it | force:b noprune:b platforms:p | - | 200 array, 404 error, 409 error
GET /distribution/{{name}}/json | What a name stands for in its registry | | - | 200 object, 401 error, 403 error, 404 error
POST /build | Build an image | {_BUILD} | tar | 200 lines, 401 error, 404 error
POST /build/prune | Remove build cache | all:b filters:f keep-storage:i reserved-space:i max-used-space:i min-free-space:i stream:b | - | 200 object
POST /build/cancel | Cancel a build | id! | - | 200 nothing
GET /networks | List networks | filters:f | - | 200 array
GET /networks/ | List networks | filters:f | - | 200 array
POST /networks/create | Make a network | | NetworkCreate! | 201 object, 403 error, 404 error, 409 error
POST /networks/prune | Remove unused networks | filters:f stream:b | - | 200 object
GET /carrack/exposure | Who can reach each published port, and why | | - | 200 array
GET /networks/{{id}} | Inspect a network | verbose:b scope | - | 200 object, 404 error
DELETE /networks/{{id}} | Remove a network | | - | 204 nothing, 403 error, 404 error
POST /networks/{{id}}/connect | Let a container join a network | | NetworkConnect! | 200 nothing, 403 error, 404 error, 409 error
POST /networks/{{id}}/disconnect | Let a container leave a network | | NetworkDisconnect! | 200 nothing, 403 error, 404 error, 409 error
GET /volumes | List volumes | filters:f | - | 200 object
POST /volumes/create | Make a volume | | VolumeCreate | 201 object, 404 error, 409 error, 503 error
POST /volumes/prune | Remove unused volumes | filters:f stream:b | - | 200 object
GET /volumes/{{name}} | Inspect a volume | | - | 200 object, 404 error
PUT /volumes/{{name}} | Change a cluster volume | version:i | object | 503 error
DELETE /volumes/{{name}} | Remove a volume | force:b | - | 204 nothing, 404 error, 409 error
POST /volumes/{{name}}/rename | Rename a volume (Carrack's own) | name! | - | 200 object, 404 error, 409 error
POST /volumes/{{name}}/clone | Copy a volume (Carrack's own) | name! | - | 201 object, 404 error, 409 error
GET /volumes/{{name}}/export | A volume as a tar (Carrack's own) | | - | 200 tar, 404 error
POST /volumes/{{name}}/import | Make a volume of a tar (Carrack's own) | labels:j | tar | 201 object, 409 error
POST /auth | Try credentials at a registry | | LoginRequest | 200 object, 401 error
GET /_ping | Whether the daemon is there | | - | 200 text
HEAD /_ping | Whether the daemon is there | | - | 200 nothing
GET /version | Versions | | - | 200 object
GET /info | The daemon and its host | | - | 200 object
OPTIONS /{{anyroute}} | Whether the daemon is there | | - | 200 nothing
GET /events | What happens, as it happens | since until filters:f | - | 200 lines
GET /system/df | What is kept on disk | type:a verbose:b | - | 200 object
GET /openapi.json | This description (Carrack's own) | | - | 200 object
GET /debug/vars | Figures of the daemon | | - | 200 object
GET /debug/pprof/ | The profiles there are | | - | 200 text
GET /debug/pprof/cmdline | The daemon's command line | | - | 200 text
GET /debug/pprof/profile | Where the daemon spends its time | seconds:i | - | 200 text
GET /debug/pprof/symbol | Nothing: stacks have names | | - | 200 text
GET /debug/pprof/trace | As profile | seconds:i | - | 200 text
GET /debug/pprof/{{name}} | A profile of this moment | | - | 200 text, 404 error
GET /plugins | List plugins | filters:f | - | 200 array
GET /plugins/{{name}}/json | Inspect a plugin | | - | 404 error
DELETE /plugins/{{name}} | Remove a plugin | force:b | - | 404 error
POST /plugins/{{name}}/enable | Enable a plugin | timeout:i | - | 404 error
POST /plugins/{{name}}/disable | Disable a plugin | force:b | - | 404 error
POST /plugins/{{name}}/upgrade | Upgrade a plugin | remote | - | 404 error
POST /plugins/{{name}}/push | Push a plugin | | - | 404 error
POST /plugins/{{name}}/set | Configure a plugin | | - | 404 error
GET /plugins/privileges | What a plugin asks for | remote! | - | 501 error
POST /plugins/pull | Install a plugin | remote! name | object | 501 error
POST /plugins/create | Make a plugin | name! | tar | 501 error
POST /session | BuildKit's session | | - | 101 stream
POST /grpc | BuildKit's gRPC | | - | 101 stream
POST /swarm/init | Begin a swarm | | object | 501 error
POST /swarm/join | Join a swarm | | object | 501 error
POST /swarm/leave | Leave a swarm | force:b | - | {_MANAGER}
GET /swarm | Inspect the swarm | | - | {_MANAGER}
POST /swarm/update | Change the swarm | version!:i | object | {_MANAGER}
GET /swarm/unlockkey | The key of a locked swarm | | - | {_MANAGER}
POST /swarm/unlock | Unlock a swarm | | object | {_MANAGER}
GET /services | List services | filters:f status:b | - | {_MANAGER}
POST /services/create | Make a service | | object | {_MANAGER}
GET /services/{{id}} | Inspect a service | insertDefaults:b | - | {_MANAGER}
DELETE /services/{{id}} | Remove a service | | - | {_MANAGER}
POST /services/{{id}}/update | Change a service | version!:i rollback | object | {_MANAGER}
GET /services/{{id}}/logs | What a service wrote | {_LOGS} | - | {_MANAGER}
GET /nodes | List nodes | filters:f | - | {_MANAGER}
GET /nodes/{{id}} | Inspect a node | | - | {_MANAGER}
DELETE /nodes/{{id}} | Remove a node | force:b | - | {_MANAGER}
POST /nodes/{{id}}/update | Change a node | version!:i | object | {_MANAGER}
GET /tasks | List tasks | filters:f | - | {_MANAGER}
GET /tasks/{{id}} | Inspect a task | | - | {_MANAGER}
GET /tasks/{{id}}/logs | What a task wrote | {_LOGS} | - | {_MANAGER}
GET /secrets | List secrets | filters:f | - | {_MANAGER}
POST /secrets/create | Make a secret | | object | {_MANAGER}
GET /secrets/{{id}} | Inspect a secret | | - | {_MANAGER}
DELETE /secrets/{{id}} | Remove a secret | | - | {_MANAGER}
POST /secrets/{{id}}/update | Change a secret | version!:i | object | {_MANAGER}
GET /configs | List configs | filters:f | - | {_MANAGER}
POST /configs/create | Make a config | | object | {_MANAGER}
GET /configs/{{id}} | Inspect a config | | - | {_MANAGER}
DELETE /configs/{{id}} | Remove a config | | - | {_MANAGER}
POST /configs/{{id}}/update | Change a config | version!:i | object | {_MANAGER}
"""  # noqa: E501

BODIES: dict[str, type[msgspec.Struct]] = {
    kind.__name__: kind
    for kind in (
        CreateRequest, UpdateRequest, ExecConfig, StartRequest, NetworkCreate, NetworkConnect, NetworkDisconnect, VolumeCreate,
        LoginRequest, CheckpointRequest,
    )
}  # fmt: skip
"""The bodies that are documents, by the name the table has for them."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One value of a query."""

    name: str
    type: str
    required: bool


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of the table."""

    method: str
    path: str
    """Places as `{name}`, whatever they may hold."""
    summary: str
    query: tuple[Parameter, ...]
    body: str
    """A name of BODIES, ``tar``, ``object``, or nothing."""
    body_required: bool
    answers: tuple[tuple[int, str], ...]
    """(status, kind): array, object, lines, text, tar, stream, error or nothing."""


def operations() -> dict[tuple[str, str], Operation]:
    """The table by method and path."""
    found = (_operation(line) for line in TABLE.strip().splitlines())
    return {(operation.method, operation.path): operation for operation in found}


def _operation(line: str) -> Operation:
    route, summary, query, body, answers = (part.strip() for part in line.split("|"))
    method, _, path = route.partition(" ")
    name = body.rstrip("!")
    pairs = (answer.split() for answer in answers.split(","))
    return Operation(
        method,
        path,
        summary,
        tuple(_parameter(word) for word in query.split()),
        "" if name == "-" else name,
        body.endswith("!"),
        tuple((int(status), kind) for status, kind in pairs),
    )


def _parameter(word: str) -> Parameter:
    name, _, kind = word.partition(":")
    return Parameter(name.rstrip("!"), kind or "s", name.endswith("!"))
