"""Images without a registry: load, save, import, tag, list, inspect, history, rmi."""

import gzip
import io
import json
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.conftest import Images
from tests.rig.archives import Entry, Recipe, docker_archive, folder, oci_layout, tar
from tests.rig.engine import CommandLine

pytestmark = pytest.mark.both_clients


def small(name: str, *tags: str, **config: object) -> Recipe:
    """An image of one layer with one file of that name in it."""
    return Recipe((tar([Entry(name, name.encode())]),), tags, dict(config))


def loaded(cli: CommandLine, recipe: Recipe) -> str:
    """Load an image; return its id."""
    cli.ok("load", stdin=docker_archive(recipe))
    return recipe.image_id


def tags(cli: CommandLine) -> list[str]:
    return sorted(cli.ok("images", "--format", "{{.Repository}}:{{.Tag}}").split())


@pytest.mark.observes("docker load", "POST /images/load")
def test_load_names_what_it_loaded(cli: CommandLine) -> None:
    recipe = small("one", "first:1", "second:2")
    said = cli.ok("load", stdin=docker_archive(recipe))
    assert "Loaded image: first:1" in said
    assert "Loaded image: second:2" in said
    assert tags(cli) == ["busybox:latest", "first:1", "second:2"]


@pytest.mark.observes("docker load")
def test_an_image_without_a_tag_is_loaded_by_its_id(cli: CommandLine) -> None:
    recipe = small("one")
    assert f"Loaded image ID: {recipe.image_id}" in cli.ok("load", stdin=docker_archive(recipe))
    assert cli.ok("inspect", "--type", "image", "-f", "{{.Id}}", recipe.image_id) == recipe.image_id


@pytest.mark.observes("docker load --input", "docker load --quiet")
def test_load_reads_a_file(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(docker_archive(small("one", "first:1")))
    assert cli.ok("load", "-q", "-i", str(tmp_path / "image.tar")) == "Loaded image: first:1"


@pytest.mark.observes("docker load")
@pytest.mark.parametrize("packing", ["gzip", "xz", "bzip2"])
def test_load_unpacks_a_compressed_archive(cli: CommandLine, packing: str) -> None:
    archive = docker_archive(small("one", "first:1"))
    packed = subprocess.run([packing, "-c"], input=archive, capture_output=True, check=True).stdout
    assert "Loaded image: first:1" in cli.ok("load", stdin=packed)


@pytest.mark.observes("docker load")
@pytest.mark.parametrize("packing", ["none", "gzip", "zstd"])
@pytest.mark.peer_lacks("no OCI layouts")
def test_load_takes_an_oci_layout(cli: CommandLine, images: Images, packing: str) -> None:
    recipe = Recipe((images.rootfs,), ("docker.io/library/layout:1",), {"Cmd": ["echo", "from a layout"]})
    packed = {"none": recipe.layers[0], "gzip": gzip.compress(recipe.layers[0], 1), "zstd": _zstd(recipe.layers[0])}[packing]
    layer_type = {"none": "tar", "gzip": "tar+gzip", "zstd": "tar+zstd"}[packing]
    assert "Loaded image: layout:1" in cli.ok("load", stdin=oci_layout(recipe, packed=[packed], layer_type=layer_type))
    assert cli.ok("run", "--rm", "layout:1") == "from a layout"


@pytest.mark.observes("docker load")
def test_an_image_loaded_twice_is_one_image(cli: CommandLine) -> None:
    recipe = small("one", "first:1")
    loaded(cli, recipe)
    loaded(cli, recipe)
    assert tags(cli) == ["busybox:latest", "first:1"]


@pytest.mark.observes("docker load")
def test_a_tag_that_moves_leaves_the_old_image_dangling(cli: CommandLine) -> None:
    old, new = loaded(cli, small("old", "moving:1")), loaded(cli, small("new", "moving:1"))
    assert cli.ok("images", "-q", "--no-trunc", "moving:1") == new
    assert cli.ok("images", "-q", "--no-trunc", "--filter", "dangling=true") == old


@pytest.mark.observes("docker run")
def test_layers_stack_and_white_outs_hide(cli: CommandLine, images: Images) -> None:
    second = tar([folder("data"), Entry("data/kept", b"2"), Entry("data/gone", b"2"), folder("full"), Entry("full/old", b"")])
    third = tar([folder("data"), Entry("data/.wh.gone"), folder("full"), Entry("full/.wh..wh..opq"), Entry("full/new", b"3")])
    loaded(cli, Recipe((images.rootfs, second, third), ("stack:1",), {"Cmd": ["sh", "-c", "ls /data; ls /full"]}))
    assert cli.ok("run", "--rm", "stack:1").split() == ["kept", "new"]


@pytest.mark.observes("docker run")
def test_the_images_config_is_what_runs(cli: CommandLine, images: Images) -> None:
    config = {
        "Entrypoint": ["sh", "-c", 'echo "$COLOUR $(pwd) $(id -u) $*"', "--"],
        "Cmd": ["by", "default"],
        "Env": ["COLOUR=green", "PATH=/bin"],
        "WorkingDir": "/var",
        "User": "app",
    }
    loaded(cli, Recipe((images.rootfs,), ("set:1",), config))
    assert cli.ok("run", "--rm", "set:1") == "green /var 1000 by default"
    assert cli.ok("run", "--rm", "-e", "COLOUR=red", "set:1", "told") == "red /var 1000 told"


@pytest.mark.observes("docker run")
def test_a_layers_owners_modes_and_links_arrive(cli: CommandLine, images: Images) -> None:
    layer = tar([folder("own", 0o2770, 12, 34), Entry("own/tool", b"#!/bin/sh\n", 0o4711, uid=1000, gid=10)])
    loaded(cli, Recipe((images.rootfs, layer), ("owned:1",)))
    seen = cli.ok("run", "--rm", "owned:1", "stat", "-c", "%a %u %g %Y", "/own", "/own/tool").splitlines()
    assert seen == ["2770 12 34 1700000000", "4711 1000 10 1700000000"]


@pytest.mark.observes("docker run --volume")
def test_a_volume_of_the_image_is_made_and_filled(cli: CommandLine, images: Images) -> None:
    loaded(cli, Recipe((images.rootfs,), ("vol:1",), {"Volumes": {"/var/www": {}}, "Cmd": ["cat", "/var/www/index.html"]}))
    assert cli.ok("run", "--name", "one", "vol:1") == "it works"
    assert len(cli.ok("volume", "ls", "-q").split()) == 1


@pytest.mark.observes("docker save", "GET /images/{name}/get", "GET /images/get")
def test_what_is_saved_can_be_loaded_again(cli: CommandLine, images: Images) -> None:
    recipe = Recipe((images.rootfs, tar([Entry("extra", b"x")])), ("keep:1", "keep:2"), {"Cmd": ["cat", "/extra"]})
    image_id = loaded(cli, recipe)
    archive = cli.output("save", "keep:1")
    cli.ok("rmi", "keep:1", "keep:2")
    assert tags(cli) == ["busybox:latest"]
    assert "Loaded image: keep:1" in cli.ok("load", stdin=archive)
    assert cli.ok("images", "-q", "--no-trunc", "keep") == image_id
    assert cli.ok("run", "--rm", "keep:1") == "x"


@pytest.mark.observes("docker save")
def test_a_saved_archive_lists_every_name_asked_for(cli: CommandLine) -> None:
    loaded(cli, small("one", "first:1"))
    loaded(cli, small("two", "second:2"))
    with tarfile.open(fileobj=io.BytesIO(cli.output("save", "first:1", "second:2"))) as archive:
        member = archive.extractfile("manifest.json")
        assert member is not None
        rows = json.load(member)
        names = set(archive.getnames())
    assert sorted(tag for row in rows for tag in row["RepoTags"]) == ["first:1", "second:2"]
    assert all({row["Config"], *row["Layers"]} <= names for row in rows)


@pytest.mark.observes("docker save --output")
def test_save_writes_a_file_and_never_to_a_terminal(cli: CommandLine, tmp_path: Path) -> None:
    cli.ok("save", "-o", str(tmp_path / "out.tar"), "busybox")
    assert tarfile.is_tarfile(tmp_path / "out.tar")
    with cli.terminal("save", "busybox") as screen:
        screen.expect("[Cc]owardly refusing to save to a terminal")
        assert screen.wait() == 1


@pytest.mark.observes("docker import --change", "docker import --message", "docker import", "POST /images/create")
def test_import_makes_an_image_of_a_tar(cli: CommandLine, images: Images) -> None:
    changes = ("-c", 'CMD ["echo", "imported"]', "-c", "ENV A=1")
    image_id = cli.ok("import", *changes, "-m", "from a test", "-", "made:1", stdin=images.rootfs)
    assert re.fullmatch("sha256:[0-9a-f]{64}", image_id)
    assert cli.ok("run", "--rm", "made:1") == "imported"
    assert "A=1" in json.loads(cli.ok("inspect", "made:1"))[0]["Config"]["Env"]
    assert cli.ok("history", "--format", "{{.Comment}}", "made:1") == "from a test"


@pytest.mark.observes("docker import")
def test_import_reads_a_compressed_file(cli: CommandLine, images: Images, tmp_path: Path) -> None:
    (tmp_path / "root.tar.gz").write_bytes(gzip.compress(images.rootfs, 1))
    cli.ok("import", str(tmp_path / "root.tar.gz"), "made:1")
    assert cli.ok("run", "--rm", "made:1", "echo", "fine") == "fine"


@pytest.mark.observes("docker tag", "POST /images/{name}/tag")
def test_tag_adds_a_name_to_the_same_image(cli: CommandLine) -> None:
    image_id = loaded(cli, small("one", "first:1"))
    cli.ok("tag", "first:1", "registry.example:5000/team/second:v2")
    assert cli.ok("images", "-q", "--no-trunc", "registry.example:5000/team/second") == image_id


@pytest.mark.observes("docker tag")
@pytest.mark.parametrize("name", ["UPPER:1", "bad name", "x:bad/tag", "a//b"])
def test_tag_refuses_a_malformed_name(cli: CommandLine, name: str) -> None:
    ended = cli("tag", "busybox", name)
    assert ended.code == 1
    assert "invalid reference format" in ended.stderr or "not a valid repository/tag" in ended.stderr
    assert tags(cli) == ["busybox:latest"]


@pytest.mark.observes("docker tag")
def test_tag_of_an_unknown_image_is_refused(cli: CommandLine) -> None:
    ended = cli("tag", "nothing:1", "other:1")
    assert ended.code == 1
    assert "No such image: nothing:1" in ended.stderr


@pytest.mark.observes("docker images", "GET /images/json")
def test_images_prints_dockers_table(cli: CommandLine) -> None:
    image_id = loaded(cli, small("one", "first:1"))
    head, row, *_ = cli.ok("images").splitlines()
    assert head.split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    cells = re.split(r"\s{2,}", row.strip())
    wanted = ["first", "1", image_id[7:19]]
    assert cells[:3] == wanted or cli.ok("images", "first").splitlines()[1].split()[:3] == wanted


@pytest.mark.observes(
    "docker images --format", "docker images --no-trunc", "docker images --filter", "docker images --quiet", "docker images --all"
)
def test_images_filters(cli: CommandLine) -> None:
    one = loaded(cli, small("one", "first:1", "first:2", Labels={"role": "web"}))
    two = loaded(cli, small("two", "second:1"))
    form = ("--format", "{{.Repository}}:{{.Tag}}")
    assert sorted(cli.ok("images", *form, "first").split()) == ["first:1", "first:2"]
    assert cli.ok("images", *form, "--filter", "reference=sec*").split() == ["second:1"]
    assert sorted(cli.ok("images", *form, "--filter", "label=role=web").split()) == ["first:1", "first:2"]
    assert set(cli.ok("images", "-q", "--no-trunc", "--filter", "dangling=false").split()) >= {one, two}
    assert cli.ok("images", "-q", "--filter", "reference=none*") == ""


@pytest.mark.observes("docker images --filter")
def test_images_before_and_since_compare_creation(cli: CommandLine) -> None:
    loaded(cli, small("one", "first:1"))
    form = ("--format", "{{.Repository}}")
    cli.ok("import", "-", "newer:1", stdin=tar([Entry("new", b"")]))
    assert "first" in cli.ok("images", *form, "--filter", "before=newer:1").split()
    assert cli.ok("images", *form, "--filter", "since=first:1").split() == ["newer"]


@pytest.mark.observes("docker image inspect", "GET /images/{name}/json", "docker image inspect")
def test_inspect_shows_the_images_own_document(cli: CommandLine) -> None:
    recipe = Recipe((tar([Entry("one", b"1")]), tar([Entry("two", b"22")])), ("first:1",), {"Cmd": ["x"], "Labels": {"k": "v"}})
    loaded(cli, recipe)
    shown = json.loads(cli.ok("image", "inspect", "first:1"))[0]
    assert shown["Id"] == recipe.image_id
    assert shown["RepoTags"] == ["first:1"]
    assert (shown["Architecture"], shown["Os"]) == ("amd64", "linux")
    assert (shown["Config"]["Cmd"], shown["Config"]["Labels"]) == (["x"], {"k": "v"})
    assert shown["RootFS"]["Type"] == "layers"
    assert shown["RootFS"]["Layers"] == json.loads(recipe.config_json())["rootfs"]["diff_ids"]
    assert shown["Created"].startswith("2024-02-03T04:05:06")
    assert shown["Size"] > 0


@pytest.mark.observes("GET /images/{name}/json")
def test_an_image_answers_to_its_id_prefix_and_every_way_to_write_its_name(cli: CommandLine) -> None:
    image_id = loaded(cli, small("one", "first:1"))
    for name in (image_id, image_id[7:], image_id[7:19], "first:1", "library/first:1", "docker.io/library/first:1"):
        assert cli.ok("inspect", "--type", "image", "-f", "{{.Id}}", name) == image_id


@pytest.mark.observes(
    "docker history --format", "docker history --no-trunc", "docker history --quiet", "docker history", "GET /images/{name}/history"
)
def test_history_lists_the_newest_layer_first(cli: CommandLine) -> None:
    layers = (tar([Entry("one", b"1" * 1000)]), tar([Entry("two", b"2")]))
    loaded(cli, Recipe(layers, ("first:1",), history=("first step", "second step")))
    assert cli.ok("history", "--format", "{{.CreatedBy}}", "first:1").splitlines() == ["second step", "first step"]
    assert cli.ok("history", "--no-trunc", "-q", "first:1").splitlines()[1] == "<missing>"
    head = cli.ok("history", "first:1").splitlines()[0]
    assert head.split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]


@pytest.mark.observes("docker rmi", "DELETE /images/{name}")
def test_rmi_of_one_tag_of_several_only_untags(cli: CommandLine) -> None:
    image_id = loaded(cli, small("one", "first:1", "first:2"))
    assert cli.ok("rmi", "first:1") == "Untagged: first:1"
    assert cli.ok("images", "-q", "--no-trunc", "first:2") == image_id


@pytest.mark.observes("docker rmi")
def test_rmi_of_the_last_tag_deletes_the_image(cli: CommandLine) -> None:
    image_id = loaded(cli, small("one", "first:1"))
    said = cli.ok("rmi", "first:1").splitlines()
    assert said[0] == "Untagged: first:1"
    assert f"Deleted: {image_id}" in said
    assert tags(cli) == ["busybox:latest"]


@pytest.mark.observes("docker rmi")
def test_rmi_by_id_refuses_an_image_with_several_names(cli: CommandLine) -> None:
    image_id = loaded(cli, small("one", "first:1", "second:1"))
    ended = cli("rmi", image_id)
    assert ended.code == 1
    assert "must be forced" in ended.stderr
    assert "image is referenced in multiple repositories" in ended.stderr
    cli.ok("rmi", "-f", image_id)
    assert tags(cli) == ["busybox:latest"]


@pytest.mark.observes("docker rmi --force")
def test_rmi_refuses_an_image_that_a_container_uses(cli: CommandLine) -> None:
    loaded(cli, Recipe((tar([Entry("bin", b"x", 0o755)]),), ("used:1",), {"Cmd": ["/bin"]}))
    container_id = cli.ok("create", "--name", "user", "used:1")
    ended = cli("rmi", "used:1")
    assert ended.code == 1
    assert f"container {container_id[:12]} is using its referenced image" in ended.stderr
    assert "must force" in ended.stderr
    cli.ok("rmi", "-f", "used:1")
    assert tags(cli) == ["busybox:latest"]
    cli.ok("rm", "user")


@pytest.mark.observes("docker rmi --force")
def test_rmi_refuses_the_image_of_a_running_container_even_by_force(cli: CommandLine, images: Images) -> None:
    image_id = loaded(cli, Recipe((images.rootfs, tar([Entry("x", b"")])), ("used:1",)))
    cli.ok("run", "-d", "used:1", "sleep", "1000")
    ended = cli("rmi", "-f", image_id)
    assert ended.code == 1
    assert "cannot be forced" in ended.stderr
    assert "is using its referenced image" in ended.stderr or "image is being used by running container" in ended.stderr


@pytest.mark.observes("docker rmi")
def test_rmi_of_an_unknown_image_is_refused(cli: CommandLine) -> None:
    ended = cli("rmi", "nothing:1")
    assert ended.code == 1
    assert "No such image: nothing:1" in ended.stderr


@pytest.mark.observes("docker rmi")
def test_a_layer_that_another_image_needs_stays(cli: CommandLine, images: Images) -> None:
    shared = Recipe((images.rootfs,), ("lower:1",), {"Cmd": ["true"], "Labels": {"n": "lower"}})
    loaded(cli, shared)
    loaded(cli, Recipe((images.rootfs, tar([Entry("x", b"")])), ("upper:1",)))
    cli.ok("rmi", "lower:1")
    assert cli.ok("run", "--rm", "upper:1", "ls", "/x") == "/x"


def _zstd(content: bytes) -> bytes:
    from backports import zstd

    packed: bytes = zstd.compress(content)
    return packed
