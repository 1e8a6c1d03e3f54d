"""Carrack: Docker in Python. The floors and who may import whom are in docs/architecture.md."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  # who runs it with an older one is to be told, not shown a traceback
    sys.exit("carrack needs Python 3.11 or later, this is " + ".".join(map(str, sys.version_info[:3])))

__version__ = "0.1.0"
