"""images.changes: the instructions of `--change`."""

from __future__ import annotations

import pytest

from carrack.errors import InvalidParameter
from carrack.images.changes import apply_changes
from carrack.oci.image_config import ExecutionConfig, Healthcheck

EMPTY = ExecutionConfig()


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ('CMD ["a", "b c"]', "cmd", ["a", "b c"]),
        ("cmd echo $HOME", "cmd", ["/bin/sh", "-c", "echo $HOME"]),
        ("CMD [not json", "cmd", ["/bin/sh", "-c", "[not json"]),
        ('ENTRYPOINT ["/x"]', "entrypoint", ["/x"]),
        ('ENV A=1 B="2 3" C=4\\ 5', "env", ["A=1", "B=2 3", "C=4 5"]),
        ("ENV A some words", "env", ["A=some words"]),
        ("LABEL a=b 'c d'=e", "labels", {"a": "b", "c d": "e"}),
        ("EXPOSE 80 53/UDP 8000-8001", "exposed_ports", {"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}}),
        ("USER 12:34", "user", "12:34"),
        ('VOLUME ["/a", "/b"]', "volumes", {"/a": {}, "/b": {}}),
        ("VOLUME /a /b", "volumes", {"/a": {}, "/b": {}}),
        ("WORKDIR /a/../b", "working_dir", "/b"),
        ("STOPSIGNAL SIGQUIT", "stop_signal", "SIGQUIT"),
        ("ONBUILD RUN x", "on_build", ["RUN x"]),
        ("HEALTHCHECK NONE", "healthcheck", Healthcheck(test=["NONE"])),
        (
            "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=2s --retries=4 CMD curl x",
            "healthcheck",
            Healthcheck(["CMD-SHELL", "curl x"], 90_000_000_000, 500_000_000, 2_000_000_000, 0, 4),
        ),
        ('HEALTHCHECK CMD ["curl", "x"]', "healthcheck", Healthcheck(test=["CMD", "curl", "x"])),
    ],
)
def test_an_instruction_sets_its_field(change: str, field: str, value: object) -> None:
    assert getattr(apply_changes(EMPTY, [change]), field) == value


def test_later_instructions_see_what_earlier_ones_set() -> None:
    config = apply_changes(EMPTY, ["ENV ROOT=/srv", "ENV ROOT=/opt FULL=\"${ROOT}/x\" RAW='$ROOT'", "WORKDIR $ROOT", "WORKDIR sub"])
    assert config.env == ["ROOT=/opt", "FULL=/srv/x", "RAW=$ROOT"]
    assert config.working_dir == "/opt/sub"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("FROM scratch", "FROM is not a valid change command"),
        ("RUN x", "RUN is not a valid change command"),
        ("nonsense", "nonsense is not a valid change command"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV A=1 B", "can't find = in 'B'"),
        ("ENV =x", "names can not be blank"),
        ("EXPOSE 0", "invalid containerPort: 0"),
        ("EXPOSE 90-80", "invalid containerPort: 90-80"),
        ("EXPOSE http", "invalid containerPort: http"),
        ("USER a b", "USER requires exactly one argument"),
        ("LABEL a='b", "unexpected end of statement"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK MAYBE x", "Unknown type 'MAYBE' in HEALTHCHECK"),
        ("HEALTHCHECK --interval=soon CMD x", "invalid duration 'soon'"),
        ("HEALTHCHECK --colour=red CMD x", "unknown flag: --colour=red"),
    ],
)
def test_what_cannot_be_meant_is_refused(change: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        apply_changes(EMPTY, [change])
