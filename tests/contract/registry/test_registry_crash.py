"""Kill -9 at any moment: what was acknowledged is there, what was not is not half there."""

from __future__ import annotations

import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.registry.live_registry import Client, LiveRegistry, sha256

Start = Callable[..., LiveRegistry]
GONE = (OSError, http.client.HTTPException)


class Pushes:
    """Clients that push, retag and delete until the server is gone, and remember what they were told."""

    def __init__(self, client: Client, round_number: int) -> None:
        self._client = client
        self._round = round_number
        self.blobs: dict[str, bytes] = {}
        self.tags: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.unsure: set[str] = set()
        """Tags of an order that was sent and not answered: either state is right."""

    def start(self) -> list[threading.Thread]:
        threads = [threading.Thread(target=self._push, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        return threads

    def _push(self, number: int) -> None:
        try:
            for turn in range(1000):
                self._push_one(f"r{self._round}-{number}-{turn}")
        except GONE:
            return

    def _push_one(self, name: str) -> None:
        content = name.encode() * random.Random(name).randrange(1, 20_000)
        layer = self._client.push_blob("crash", content)
        self.blobs[layer] = content
        image = self._client.image("crash", name)
        image["layers"] = [{"mediaType": "x", "digest": layer, "size": len(content)}]
        self.unsure.add(name)
        self.tags[name] = sha256(json.dumps(image).encode())
        assert self._client.put_manifest("crash", name, image).status == 201
        self.unsure.discard(name)
        if hash(name) % 3 == 0:
            self.unsure.add(name)
            assert self._client.delete(f"/v2/crash/manifests/{self.tags[name]}").status == 202
            self.deleted.add(name)
            self.unsure.discard(name)

    def check(self, client: Client) -> None:
        for digest, content in self.blobs.items():
            answer = client.get(f"/v2/crash/blobs/{digest}")
            assert answer.status == 200
            assert answer.body == content
        for name, digest in self.tags.items():
            answer = client.get(f"/v2/crash/manifests/{name}")
            if name not in self.unsure:
                assert answer.status == (404 if name in self.deleted else 200), name
            if answer.status == 200:
                assert sha256(answer.body) == digest
                layer = answer.json["layers"][0]["digest"]
                assert client.head(f"/v2/crash/blobs/{layer}").status == 200


def test_a_server_killed_while_clients_push_and_delete_loses_nothing_it_acknowledged(start: Start) -> None:
    registry = start()
    before: list[Pushes] = []
    for round_number in range(5):
        pushes = Pushes(registry.client, round_number)
        threads = pushes.start()
        time.sleep(random.uniform(0.05, 0.4))  # the moment of the kill is the point
        registry.kill()
        for thread in threads:
            thread.join()
        registry.start()
        before.append(pushes)
        for earlier in before:
            earlier.check(registry.client)
    assert sum(len(pushes.blobs) for pushes in before) > 10
    report = registry.run("scrub")
    assert (report["corrupt"], report["missing"]) == ([], [])


def test_an_upload_goes_on_after_a_kill(start: Start) -> None:
    registry = start()
    location = registry.client.start_upload("app")
    assert registry.client.ask("PATCH", location, b"before, ", Content_Range="0-7").status == 202
    registry.kill()
    registry.start()
    assert registry.client.get(location).headers["Range"] == "0-7"
    content = b"before, after"
    answer = registry.client.ask("PUT", f"{location}?digest={sha256(content)}", content[8:], Content_Range="8-12")
    assert answer.status == 201
    assert registry.client.get(f"/v2/app/blobs/{sha256(content)}").body == content


def test_a_blob_whose_upload_was_cut_off_by_a_kill_is_not_there(start: Start) -> None:
    registry = start()
    content = b"x" * 3_000_000
    location = registry.client.start_upload("app")
    connection = registry.client.connect()
    connection.putrequest("PUT", f"{location}?digest={sha256(content)}")
    connection.putheader("Content-Length", str(len(content)))
    connection.endheaders(content[:2_000_000])
    registry.kill()
    connection.close()
    registry.start()
    assert registry.client.head(f"/v2/app/blobs/{sha256(content)}").status == 404
    assert registry.client.get("/v2/_catalog").json["repositories"] == []
    assert registry.run("scrub")["blobs"] == 0


def make_old(root: Path, days: int = 10) -> None:
    for directory, _, files in os.walk(root):
        for name in files:
            path = f"{directory}/{name}"
            state = os.stat(path)
            os.utime(path, (state.st_atime - days * 86_400, state.st_mtime - days * 86_400))


def test_collection_killed_half_way_has_taken_nothing_that_is_used(start: Start) -> None:
    registry = start("--gc-interval", "0")
    client = registry.client
    images = {name: client.push_image("app", name, name) for name in ("v1", "v2", "v3")}
    for number in range(60):
        client.push_blob("app" if number % 2 else f"stray/{number}", b"stray %d" % number)
    for number in range(8):
        client.push_image("app", "moving", f"moving {number}")
    make_old(registry.root)
    rules = json.dumps({"retention": [{"repositories": ["**"], "untagged_seconds": 0}]})
    command = [sys.executable, "-m", "carrack.registry", "gc", "--root", str(registry.root), "--rules", rules]
    for delay in (0.16, 0.2, 0.24, 0.3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        time.sleep(delay)  # the moment of the kill is the point
        process.kill()
        process.wait()
        for name, digest in images.items():
            answer = client.get(f"/v2/app/manifests/{name}")
            assert sha256(answer.body) == digest
            for part in (answer.json["config"], *answer.json["layers"]):
                assert sha256(client.get(f"/v2/app/blobs/{part['digest']}").body) == part["digest"]
    registry.run("gc", "--rules", rules)
    report = registry.run("gc", "--rules", rules)
    assert (report["blobs_removed"], report["unreadable"]) == (0, [])
    assert report["blobs_kept"] == 3 * 3 + 3
    assert registry.run("scrub")["missing"] == []


@pytest.mark.parametrize(
    "leftover", ["_uploads/00000000-0000-4000-8000-000000000000", "_layers/sha256/" + "a" * 64, "_manifests/tags/half"]
)
def test_what_a_kill_between_two_steps_leaves_is_not_served(start: Start, leftover: str) -> None:
    registry = start()
    registry.client.push_image("app", "v1")
    (registry.root / "docker/registry/v2/repositories/app" / leftover).mkdir(parents=True)
    assert registry.client.get("/v2/app/tags/list").json["tags"] == ["v1"]
    assert registry.client.get(f"/v2/app/blobs/sha256:{'a' * 64}").status == 404
    assert registry.client.get("/v2/app/manifests/half").status == 404
    assert registry.client.get("/v2/app/blobs/uploads/00000000-0000-4000-8000-000000000000").status == 404
    assert registry.run("gc")["unreadable"] == []
