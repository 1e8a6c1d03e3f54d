"""Flags of the image commands, login, search and the pruning of the whole system, each by what it changes."""

import json
import re
import shutil
import tarfile
from io import BytesIO

import pytest

from tests.conftest import Images
from tests.rig.archives import Recipe, docker_archive
from tests.rig.engine import CommandLine, Engine, carrack_program
from tests.rig.registry_double import Registry
from tests.rig.tarballs import Packed, entry, multi_platform
from tests.rig.tarballs import tar as layer_of

pytestmark = pytest.mark.both_clients


@pytest.fixture
def carrack(engine: Engine) -> CommandLine:
    """Ours alone: the flag is younger than the peer's daemon, or than another docker command line."""
    return CommandLine(engine, [carrack_program()])


def both_platforms(name: str) -> bytes:
    """An index with an image for this machine and one for arm64."""
    layers = [layer_of(entry("amd64", b"here")), layer_of(entry("arm64", b"there"))]
    return multi_platform(name, Packed([layers[0]]), Packed([layers[1]], architecture="arm64"))


@pytest.mark.observes("docker images --digests")
def test_digests_are_shown_in_a_column(cli: CommandLine) -> None:
    header, row = cli.ok("images", "--digests", "busybox").splitlines()
    assert header.split()[:3] == ["REPOSITORY", "TAG", "DIGEST"]
    assert row.split()[0] == "busybox"
    assert re.search(r"sha256:[0-9a-f]{64}|<none>", row)


@pytest.mark.docker_since(28)
@pytest.mark.peer_lacks("a tree of platforms needs API 1.47")
@pytest.mark.observes("docker images --tree", "docker load")
def test_a_tree_shows_the_platforms_of_an_image(carrack: CommandLine) -> None:
    carrack.ok("load", stdin=both_platforms("wood:1"))
    shown = carrack.ok("images", "--tree")
    assert "wood:1" in shown
    assert "linux/amd64" in shown


@pytest.mark.observes("docker image inspect --format")
def test_an_image_is_inspected_by_a_template(cli: CommandLine) -> None:
    assert cli.ok("image", "inspect", "-f", "{{.Os}}/{{.Architecture}} {{json .Config.Cmd}}", "busybox") == 'linux/amd64 ["sh"]'


@pytest.mark.docker_since(28)
@pytest.mark.peer_lacks("an inspect of one platform needs API 1.49")
@pytest.mark.observes(
    "docker image inspect --platform", "docker load --platform", "docker history --platform", "docker save --platform"
)
def test_one_platform_of_an_image_is_loaded_inspected_and_saved(carrack: CommandLine) -> None:
    carrack.ok("load", "--platform", "linux/arm64", stdin=both_platforms("far:1"))
    assert carrack.ok("image", "inspect", "-f", "{{.Architecture}}", "far:1") == "arm64"
    assert carrack.ok("image", "inspect", "--platform", "linux/arm64", "-f", "{{.Architecture}}", "far:1") == "arm64"
    refused = carrack("image", "inspect", "--platform", "linux/s390x", "far:1")
    assert refused.code == 1
    assert "linux/s390x" in refused.stderr
    assert carrack.ok("history", "--platform", "linux/arm64", "-q", "far:1")
    assert carrack("history", "--platform", "linux/s390x", "far:1").code == 1
    with tarfile.open(fileobj=BytesIO(carrack.output("save", "--platform", "linux/arm64", "far:1"))) as archive:
        manifest = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]
        config = json.loads(archive.extractfile(manifest[0]["Config"]).read())  # type: ignore[union-attr]
    assert config["architecture"] == "arm64"
    assert carrack("save", "--platform", "linux/s390x", "far:1").code == 1


@pytest.mark.observes("docker image prune --filter")
def test_images_are_pruned_by_age_and_label(cli: CommandLine, images: Images) -> None:
    for colour in ("red", "blue"):
        recipe = Recipe((images.rootfs,), (f"{colour}:1",), {"Cmd": ["sh"], "Labels": {"colour": colour}})
        cli.ok("load", stdin=docker_archive(recipe))
    cli.ok("image", "prune", "-af", "--filter", "label=colour=red")
    kept = cli.ok("images", "--format", "{{.Repository}}").splitlines()
    assert "red" not in kept
    assert "blue" in kept
    cli.ok("image", "prune", "-af", "--filter", "until=1970-01-02T00:00:00Z")
    assert "busybox" in cli.ok("images", "--format", "{{.Repository}}").splitlines()


@pytest.mark.observes("docker history --human")
def test_a_history_is_for_people_or_for_programs(cli: CommandLine) -> None:
    exact = cli.ok("history", "--human=false", "--format", "{{.Size}} {{.CreatedAt}}", "busybox").splitlines()[0]
    size, created = exact.split(" ", 1)
    assert size.isdigit()
    assert re.match(r"\d{4}-\d\d-\d\dT", created)
    assert re.match(r"[\d.]+[kM]?B$", cli.ok("history", "--format", "{{.Size}}", "busybox").splitlines()[0])


@pytest.mark.peer_lacks("a platform of an import needs API 1.32 and an experiment")
@pytest.mark.observes("docker import --platform")
def test_an_import_is_of_the_platform_it_is_said_to_be(cli: CommandLine, images: Images) -> None:
    cli.ok("import", "--platform", "linux/arm64", "-", "made:1", stdin=images.rootfs)
    assert cli.ok("image", "inspect", "-f", "{{.Os}}/{{.Architecture}}", "made:1") == "linux/arm64"


@pytest.mark.observes("docker rmi --no-prune")
def test_parents_stay_when_they_are_not_to_be_pruned(cli: CommandLine) -> None:
    cli.ok("run", "--name", "maker", "busybox", "touch", "/one")
    first = cli.ok("commit", "maker", "one:1")
    cli.ok("rm", "maker")
    cli.ok("run", "--name", "maker", "one:1", "touch", "/two")
    cli.ok("commit", "maker", "two:1")
    cli.ok("rm", "maker")
    cli.ok("rmi", "--no-prune", "one:1")
    cli.ok("rmi", "--no-prune", "two:1")
    assert cli("image", "inspect", first).code in (0, 1)
    assert "busybox" in cli.ok("images", "--format", "{{.Repository}}")
    remaining = cli.ok("images", "-aq", "--no-trunc").splitlines()
    cli("rmi", "-f", *[image for image in remaining if image == first])


@pytest.mark.observes("docker login --password")
def test_a_password_on_the_command_line_is_warned_of(cli: CommandLine) -> None:
    done = cli("login", "-u", "me", "-p", "word", "127.0.0.1:1")
    assert done.code == 1
    assert "WARNING! Using --password via the CLI is insecure. Use --password-stdin." in done.stderr
    both = cli("login", "-u", "me", "-p", "word", "--password-stdin", "127.0.0.1:1", stdin="word")
    assert (both.code, both.stderr.splitlines()[-1]) == (
        1,
        "conflicting options: cannot specify both --password and --password-stdin",
    )


@pytest.mark.observes("docker container inspect", "docker container inspect --format", "docker container inspect --size")
def test_a_container_is_inspected_with_its_size(cli: CommandLine) -> None:
    cli.ok("run", "--name", "box", "busybox", "sh", "-c", "head -c 5000 /dev/zero > /file")
    assert cli.ok("container", "inspect", "-s", "-f", "{{.SizeRw}} {{.Name}}", "box") == "5000 /box"
    assert json.loads(cli.ok("container", "inspect", "box"))[0].get("SizeRw") is None
    assert cli("container", "inspect", "busybox").code == 1


@pytest.mark.observes("docker system df --format", "docker system df --verbose")
def test_disk_use_is_told_by_template_and_item_by_item(cli: CommandLine) -> None:
    cli.ok("run", "--name", "box", "-v", "data:/data", "busybox", "sh", "-c", "head -c 100000 /dev/zero > /data/file")
    rows = dict(line.split("=") for line in cli.ok("system", "df", "--format", "{{.Type}}={{.TotalCount}}").splitlines())
    assert (rows["Images"], rows["Containers"], rows["Local Volumes"]) == ("1", "1", "1")
    shown = cli.ok("system", "df", "-v")
    assert re.search(r"^data +1 +(97\.66|100|1\d\d)(\.\d+)?kB", shown, re.MULTILINE)
    assert re.search(r"^busybox +latest", shown, re.MULTILINE)


@pytest.mark.observes(
    "docker system prune",
    "docker system prune --all",
    "docker system prune --filter",
    "docker system prune --force",
    "docker system prune --volumes",
)
def test_the_whole_system_is_pruned_as_far_as_asked(cli: CommandLine) -> None:
    cli.ok("create", "--name", "ended", "-v", "/anonymous", "busybox")
    cli.ok("create", "--name", "kept", "-l", "keep=me", "busybox")
    cli.ok("network", "create", "lonely")
    cli.ok("tag", "busybox", "spare:1")
    refused = cli("system", "prune", stdin="n\n")
    assert "WARNING! This will remove:" in refused.stdout
    assert cli.ok("ps", "-aq", "--filter", "name=ended")
    said = cli.ok("system", "prune", "-f", "--filter", "label!=keep")
    assert "Deleted Networks:\nlonely" in said
    assert cli.ok("ps", "-a", "--format", "{{.Names}}") == "kept"
    assert cli.ok("volume", "ls", "-q")
    cli.ok("rm", "kept")
    said = cli.ok("system", "prune", "-a", "-f", "--volumes")
    assert "Deleted Volumes:" in said
    assert "untagged: spare:1" in said
    assert (cli.ok("volume", "ls", "-q"), cli.ok("images", "-q")) == ("", "")


@pytest.mark.observes("docker builder prune --all", "docker builder prune --filter", "docker builder prune --force")
def test_an_empty_build_cache_is_pruned_of_nothing(cli: CommandLine) -> None:
    if cli.name == "docker" and shutil.which("docker-buildx"):
        return
    assert cli.ok("builder", "prune", "-f").endswith("Total reclaimed space: 0B")
    assert cli.ok("builder", "prune", "-a", "-f", "--filter", "until=1h").endswith("0B")


@pytest.mark.docker_since(28)
@pytest.mark.peer_lacks("platforms of an image are removed since API 1.50")
@pytest.mark.observes("docker rmi --platform")
def test_one_platform_of_an_image_is_removed(carrack: CommandLine) -> None:
    carrack.ok("load", stdin=both_platforms("pair:1"))
    carrack.ok("rmi", "-f", "--platform", "linux/amd64", "pair:1")
    left = carrack("image", "inspect", "--platform", "linux/amd64", "pair:1")
    assert left.code == 1


@pytest.mark.peer_lacks("it searches Docker Hub's index over TLS only")
@pytest.mark.observes(
    "docker search", "docker search --filter", "docker search --format", "docker search --limit", "docker search --no-trunc"
)
def test_a_registrys_index_is_searched(carrack: CommandLine) -> None:
    house = Registry()
    house.put("team/web", "1", Packed([layer_of(entry("a"))]))
    with house.serving() as registry:
        found = carrack.ok("search", f"{registry.host}/web")
        assert found.splitlines()[0].split() == ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]
        assert "team/web" in found
        template = ("--format", "{{.Name}} {{.StarCount}} {{.IsOfficial}}")
        assert carrack.ok("search", *template, "--no-trunc", "--limit", "5", f"{registry.host}/web").split()[1] == "3"
        assert carrack.ok("search", *template, "--filter", "is-official=true", f"{registry.host}/web") == ""
        assert carrack.ok("search", *template, "--filter", "stars=4", f"{registry.host}/web") == ""
        assert carrack.ok("search", *template, "--filter", "stars=3", f"{registry.host}/web") != ""
        assert carrack("search", "--limit", "500", f"{registry.host}/web").code == 1


@pytest.mark.peer_lacks("it pulls another platform for an experiment")
@pytest.mark.observes("docker pull --platform", "docker push --platform")
def test_one_platform_is_pulled_and_pushed(carrack: CommandLine) -> None:
    house = Registry()
    layers = [layer_of(entry("amd64", b"here")), layer_of(entry("arm64", b"there"))]
    house.put_index("app", "1", Packed([layers[0]]), Packed([layers[1]], architecture="arm64"))
    with house.serving() as registry:
        carrack.ok("pull", "--platform", "linux/arm64", f"{registry.host}/app:1")
        assert carrack.ok("image", "inspect", "-f", "{{.Architecture}}", f"{registry.host}/app:1") == "arm64"
        missing = carrack("pull", "--platform", "linux/s390x", f"{registry.host}/app:1")
        assert missing.code == 1
        assert "linux/s390x" in missing.stderr
        carrack.ok("tag", f"{registry.host}/app:1", f"{registry.host}/copy:1")
        carrack.ok("push", "--platform", "linux/arm64", f"{registry.host}/copy:1")
        media_type, content = house.manifests["copy", "1"]
        assert "index" not in media_type
        assert "config" in json.loads(content)


@pytest.mark.observes("docker pull --disable-content-trust", "docker push --disable-content-trust")
def test_content_trust_is_refused_and_never_ignored(engine: Engine) -> None:
    """Docker's own servers for it are gone: an unchecked signature would be worse than none."""
    carrack = CommandLine(engine, [carrack_program()])
    for words in (("pull", "busybox"), ("push", "busybox"), ("create", "busybox")):
        refused = carrack(words[0], "--disable-content-trust=false", words[1])
        assert refused.code in (1, 125)
        assert "content trust is not supported" in refused.stderr
    assert carrack("pull", "--disable-content-trust", "UPPER").stderr.startswith("invalid reference format")


@pytest.mark.observes("docker builder prune --keep-storage")
def test_a_build_cache_may_keep_so_much(engine: Engine) -> None:
    carrack = CommandLine(engine, [carrack_program()])
    assert carrack.ok("builder", "prune", "-f", "--keep-storage", "5gb").endswith("0B")
