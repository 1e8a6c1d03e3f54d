"""The closed list of messages between carrackd, the zygote, the shims and the workers.

                     START, StartOrder | JOB, WorkerJob                 (one connection each, greeted by the child)
    carrackd ───────────────────────────────────▶ zygote ── fork ──▶ shim / worker
       │                                                              │
       │   Created · Started | StartFailed                            │
       │◀──────────────────────────────────────────────────────────────
       │   Go · Abandon · Exec · Attach · Wait · FollowLogs           │
       │   Signal · Resize · Inquire · Forget                         │
       ├─────────────────────────────────────────────────────────────▶│
       │   Done | Refused (to a numbered order) · ExecExited ·        │
       │   Detached · OutOfMemory · Exited · Status                   │
       │◀──────────────────────────────────────────────────────────────

One message is one packet of a SOCK_SEQPACKET socket, JSON with a `type` tag; descriptors travel beside it in the order that
the message's own text gives. `VERSION` stands in every first message of a conversation: StartOrder, the worker jobs, Inquire and
Status. A side that meets a newer version refuses with one clear line; fields are only ever added, with defaults.
tests/unit/shim keeps a frozen corpus of every released version.

An order that carries a `sequence` is answered by exactly one Done or Refused with the same number.
"""

from __future__ import annotations

from carrack.shim.messages.build import (
    Checksum,
    CopyFiles,
    CopyInline,
    CopySource,
    LookAt,
    MakeDirectory,
    PruneTree,
    ReadFile,
    RunConfined,
    Subtract,
    SyncContext,
    UnpackContext,
)
from carrack.shim.messages.clients import Attach, FollowLogs, Wait
from carrack.shim.messages.files import ExportRoot, PathFacts, ReadPath, View, ViewMount, WritePath
from carrack.shim.messages.layers import CopyDirectory, CopyUp, FindChanges, PackTree, RemoveTree, UnpackArchive, UnpackLayer
from carrack.shim.messages.protocol import VERSION
from carrack.shim.messages.results import WorkerDone, WorkerFailed
from carrack.shim.messages.running import (
    Detached,
    Done,
    Exec,
    ExecExited,
    ExecState,
    Exited,
    Forget,
    Inquire,
    OutOfMemory,
    Refused,
    Resize,
    Signal,
    Status,
)
from carrack.shim.messages.start import (
    Abandon,
    Checkpoint,
    Created,
    ForeignRuntime,
    Go,
    LogPlan,
    PassOn,
    Started,
    StartFailed,
    StartOrder,
)
from carrack.shim.messages.zygote import JOB, START, Greeting, Leave, ServeNames

__all__ = [
    "JOB",
    "START",
    "VERSION",
    "Abandon",
    "Attach",
    "Checkpoint",
    "Checksum",
    "CopyDirectory",
    "CopyFiles",
    "CopyInline",
    "CopySource",
    "CopyUp",
    "Created",
    "Detached",
    "Done",
    "Exec",
    "ExecExited",
    "ExecState",
    "Exited",
    "ExportRoot",
    "FindChanges",
    "FollowLogs",
    "ForeignRuntime",
    "Forget",
    "FromShim",
    "FromWorker",
    "Go",
    "Greeting",
    "Inquire",
    "Leave",
    "LogPlan",
    "LookAt",
    "MakeDirectory",
    "Message",
    "OutOfMemory",
    "PackTree",
    "PassOn",
    "PathFacts",
    "PruneTree",
    "ReadFile",
    "ReadPath",
    "Refused",
    "RemoveTree",
    "Resize",
    "RunConfined",
    "ServeNames",
    "Signal",
    "StartFailed",
    "StartOrder",
    "Started",
    "Status",
    "Subtract",
    "SyncContext",
    "ToShim",
    "ToZygote",
    "UnpackArchive",
    "UnpackContext",
    "UnpackLayer",
    "View",
    "ViewMount",
    "Wait",
    "WorkerDone",
    "WorkerFailed",
    "WorkerJob",
    "WritePath",
]

WorkerJob = (
    UnpackLayer
    | UnpackArchive
    | CopyUp
    | CopyDirectory
    | RemoveTree
    | PackTree
    | ReadFile
    | CopyFiles
    | Checksum
    | UnpackContext
    | SyncContext
    | PruneTree
    | RunConfined
    | MakeDirectory
    | LookAt
    | Subtract
    | ReadPath
    | WritePath
    | ExportRoot
    | FindChanges
)

ToZygote = StartOrder | WorkerJob | ServeNames
ToShim = Go | Abandon | Exec | Attach | Wait | FollowLogs | Signal | Resize | Inquire | Forget
FromShim = Created | Started | StartFailed | Done | Refused | ExecExited | Detached | OutOfMemory | Exited | Status
FromWorker = PathFacts | WorkerDone | WorkerFailed

Message = ToZygote | ToShim | FromShim | FromWorker | Greeting | Leave
"""Everything that may travel."""
