"""HTTP/1.1 connections on httptools: keep-alive, pipelines, bodies streamed both ways at once, and connections given away.

What a handler needs stands here; the files behind it are the server's own.
"""

from carrack.http.connection import Limits
from carrack.http.headers import Headers, Query
from carrack.http.request import Exchange, HandedOver, Handler, Observer, PeerCredentials, Reply, Request
from carrack.http.response import FileResponse, Response, StreamResponse
from carrack.http.server import Server, serve
from carrack.http.tls import tls_below

__all__ = [
    "Exchange",
    "FileResponse",
    "HandedOver",
    "Handler",
    "Headers",
    "Limits",
    "Observer",
    "PeerCredentials",
    "Query",
    "Reply",
    "Request",
    "Response",
    "Server",
    "StreamResponse",
    "serve",
    "tls_below",
]
