"""`carrack [-H HOST] [--context NAME] ui`: opens the screen on the daemon that the command line would ask."""

from __future__ import annotations

import sys

from carrack.cli.flags import parse, parse_table
from carrack.cli.session import GLOBAL_FLAGS, Session
from carrack.errors import CarrackError


def main() -> int:
    """Runs until it is quit."""
    try:
        from carrack.ui.app import CarrackApp
    except ModuleNotFoundError as error:
        sys.stderr.write(f"carrack ui needs Textual ({error.name} is missing): pip install 'carrack[ui]'\n")
        return 1
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        sys.stderr.write("carrack ui needs a terminal\n")
        return 1
    words = sys.argv[1:]
    try:
        session = Session(parse(words, parse_table(GLOBAL_FLAGS)))
        endpoint = session.endpoint()
        _ = session.engine.version  # asks the daemon, and settles it for every thread
    except CarrackError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    app = CarrackApp(session.new_engine, command=[sys.executable, "-m", "carrack.cli", *words], place=endpoint.text)
    app.run()
    app.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
