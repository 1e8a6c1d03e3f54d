"""BuildKit's protocol, so that buildx and Compose build here: gRPC on handed-over connections, in front of the one builder.

    POST /grpc     the client calls: Control (Solve, Status, …), and LLBBridge, the gateway of a build function at the client
    POST /session  we call: the client's files, credentials, secrets, ssh agents, and where it takes outputs

`doors.py` has the two routes; everything behind is imported when one is first opened. A Solve is a `BuildRequest` like any other.
"""
