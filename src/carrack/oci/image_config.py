"""The image configuration (image-spec `config.md`) with the fields Docker adds to it."""

from __future__ import annotations

import msgspec

from carrack.errors import InvalidParameter
from carrack.oci.digest import Digest
from carrack.oci.platform import Platform


class Healthcheck(msgspec.Struct, rename="pascal", omit_defaults=True, frozen=True):
    """HEALTHCHECK; durations in nanoseconds, as Docker writes them."""

    test: list[str] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class ExecutionConfig(msgspec.Struct, rename="pascal", omit_defaults=True, frozen=True):
    """The `config` object: how a container made from the image runs by default."""

    user: str = ""
    exposed_ports: dict[str, dict[str, str]] | None = None
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    volumes: dict[str, dict[str, str]] | None = None
    working_dir: str = ""
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    args_escaped: bool = False
    healthcheck: Healthcheck | None = None
    on_build: list[str] | None = None
    shell: list[str] | None = None


class RootFS(msgspec.Struct, omit_defaults=False, frozen=True):
    """The stack of layers by diff_id, lowest first."""

    type: str = "layers"
    diff_ids: list[str] = []


class History(msgspec.Struct, omit_defaults=True, frozen=True):
    """One line of an image's making, oldest first."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(msgspec.Struct, omit_defaults=True, frozen=True):
    """An image's configuration; its sha256 is the image id."""

    architecture: str = ""
    os: str = ""
    variant: str = ""
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: list[str] | None = msgspec.field(default=None, name="os.features")
    created: str | None = None
    author: str = ""
    config: ExecutionConfig | None = None
    rootfs: RootFS = RootFS()
    history: list[History] | None = None

    @classmethod
    def decode(cls, content: bytes) -> ImageConfig:
        """Read an image configuration. Unknown fields are ignored. Raises InvalidParameter."""
        try:
            config = msgspec.json.decode(content, type=cls)
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidParameter(f"invalid image configuration: {error}") from error
        for diff_id in config.rootfs.diff_ids:
            Digest.parse(diff_id)
        return config

    @property
    def execution(self) -> ExecutionConfig:
        return self.config or ExecutionConfig()

    @property
    def platform(self) -> Platform:
        return Platform(self.os or "linux", self.architecture, self.variant, self.os_version, tuple(self.os_features or ()))

    @property
    def diff_ids(self) -> tuple[Digest, ...]:
        return tuple(Digest.parse(diff_id) for diff_id in self.rootfs.diff_ids)
