"""Carrack: Docker in Python. The floors and who may import whom are in docs/architecture.md."""

__version__ = "0.1.0"
