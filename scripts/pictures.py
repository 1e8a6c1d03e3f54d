"""Makes the pictures of docs/images/: `carrack ui` on a carrackd of its own, with a few containers that do something.

scripts/pictures        # as root
"""

import asyncio
import sys
from pathlib import Path

from textual.pilot import Pilot
from textual.widgets import DataTable, RichLog, Static

from carrack.client.endpoint import parse_endpoint
from carrack.client.engine import Engine
from carrack.ui.app import CarrackApp
from tests.rig.archives import Recipe, busybox_entries, docker_archive, tar
from tests.rig.carrackd import Carrackd
from tests.rig.engine import CommandLine, carrack_program

FOLDER = Path(__file__).resolve().parents[1] / "docs/images"
SIZE = (120, 34)
_SERVE = r"""
for n in 1 2 3 4; do echo "GET /orders/$n 200 $((n * 3)) ms"; done
while :; do sleep 0.01; done
"""
_STORE = "echo ready to accept connections; dd if=/dev/zero of=/dev/shm/x bs=1M count=48; sleep 1000"
CROWD = {
    "api": (["-p", "127.0.0.1::8080"], _SERVE),
    "db": (["-v", "rows:/data", "-m", "256m"], _STORE),
    "queue": ([], "sleep 1000"),
}


def main() -> int:
    """Makes them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    recipe = Recipe((tar(busybox_entries()),), ("shop:1.4",), {"Cmd": ["sh"], "Env": ["PATH=/bin"]}, ("busybox",))
    daemon = Carrackd("pictures", bip="10.219.9.1/24")
    try:
        daemon.start()
        daemon.api("POST", "/images/load?quiet=1", docker_archive(recipe), headers={"Content-Type": "application/x-tar"})
        cli = CommandLine(daemon, [carrack_program()])
        for name, (flags, script) in CROWD.items():
            cli.ok("run", "-d", "--name", name, *flags, "shop:1.4", "sh", "-c", script)
        cli("run", "--name", "migrate", "shop:1.4", "sh", "-c", "exit 1")
        app = CarrackApp(lambda: Engine(parse_endpoint(f"unix://{daemon.socket}")), place="unix:///run/carrack/carrack.sock")
        asyncio.run(take(app))
        app.join()
    finally:
        daemon.close()
    return 0


async def take(app: CarrackApp) -> None:
    """Waits until there is something to see, then takes a picture of each tab."""
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.query_one("#list", DataTable).row_count == len(CROWD) + 1)
        await until(pilot, lambda: bool(app.query_one("#lines", RichLog).lines))
        await until(pilot, lambda: "processes" in str(app.query_one("#cpu-text", Static).content))
        save(app, "ui-log")
        await pilot.press("2")
        for _ in range(5):
            await pilot.pause(2.1)
        save(app, "ui-use")


async def until(pilot: Pilot[None], condition: object) -> None:
    for _ in range(400):
        if callable(condition) and condition():
            return
        await pilot.pause(0.05)
    raise SystemExit("nothing to see")


def save(app: CarrackApp, name: str) -> None:
    (FOLDER / f"{name}.svg").write_text(app.export_screenshot(title="carrack ui"))


if __name__ == "__main__":
    sys.exit(main())
