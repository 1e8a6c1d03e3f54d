"""The daemon's settings about registries, by flag and by file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from carrack.daemon.config import load
from carrack.errors import InvalidParameter


def test_mirrors_and_insecure_registries_come_by_flag(tmp_path: Path) -> None:
    config = load(
        ["--registry-mirror", "https://mirror.example", "--insecure-registry=10.0.0.0/8", "--insecure-registry", "reg:5000"]
    )
    assert config.registry_mirrors == ["https://mirror.example"]
    assert config.insecure_registries == ["10.0.0.0/8", "reg:5000"]


def test_they_come_by_file_under_dockers_names(tmp_path: Path) -> None:
    file = tmp_path / "daemon.json"
    file.write_text(json.dumps({"registry-mirrors": ["http://m:5000/"], "insecure-registries": ["reg:5000"]}))
    config = load(["--config-file", str(file)])
    assert (config.registry_mirrors, config.insecure_registries) == (["http://m:5000/"], ["reg:5000"])


@pytest.mark.parametrize("mirror", ["mirror.example", "ftp://mirror.example", "https://mirror.example/path"])
def test_a_mirror_that_is_no_host_by_http_is_refused(mirror: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid mirror"):
        load(["--registry-mirror", mirror])
