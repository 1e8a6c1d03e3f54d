"""Checkpoints by CRIU: a program of its own that writes running processes to disk, and makes processes of what it wrote.

It is spoken to as its manual says for programs that want it as a child: ``criu swrk FD``, protocol buffers over a socket
(`rpc.py`). `dump.py` writes a container out; the other way is part of a start, in the shim's maker (`shim/restoration.py`).
"""
