"""Statements to instructions: what each keyword and flag means."""

from __future__ import annotations

from typing import TypeVar

import pytest

from carrack.build.dockerfile.failure import DockerfileError, Fault
from carrack.build.dockerfile.heredoc import Heredoc
from carrack.build.dockerfile.instruction import (
    Add,
    Arg,
    Argument,
    Cmd,
    Copy,
    Device,
    Entrypoint,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Maintainer,
    Mount,
    Onbuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)  # fmt: skip
from carrack.build.dockerfile.instructions_of import instructions_of
from carrack.build.dockerfile.mounts import read_mount
from carrack.build.dockerfile.quantity import exposed_ports
from carrack.build.dockerfile.substitution import substituted
from carrack.build.dockerfile.syntax import parse

T = TypeVar("T", bound=Instruction)


def one(text: str, kind: type[T]) -> T:
    (found,) = instructions_of(parse(text))
    assert isinstance(found, kind)
    return found


def refused(text: str) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        instructions_of(parse(text))
    return caught.value


def test_from_has_a_platform_and_a_name_in_small_letters() -> None:
    found = one("FROM --platform=$BUILDPLATFORM golang:1 AS Build", From)
    assert (found.image, found.name, found.name_as_written, found.platform) == ("golang:1", "build", "Build", "$BUILDPLATFORM")


def test_arg_may_declare_several_names() -> None:
    assert one("ARG a b= c='d e'", Arg).arguments == (
        Argument(name="a"), Argument(name="b", default=""), Argument(name="c", default="'d e'"),
    )  # fmt: skip


def test_run_in_shell_form_keeps_its_text_and_in_exec_form_its_words() -> None:
    assert one("RUN a  b | c", Run).command.words == ("a  b | c",)
    found = one('RUN ["a", "b c"]', Run).command
    assert (found.words, found.shell) == (("a", "b c"), False)


def test_run_has_mounts_network_security_and_devices() -> None:
    found = one(
        "RUN --mount=type=cache,target=/c --mount=target=/d --network=none --security=insecure --device=v/gpu=0,required x", Run
    )
    assert (found.mounts, found.network, found.security) == (("type=cache,target=/c", "target=/d"), "none", "insecure")
    assert found.devices == (Device(name="v/gpu=0", required=True),)


def test_run_carries_its_heredoc() -> None:
    assert one("RUN <<EOF sh\necho $x\nEOF", Run).command.heredocs == (Heredoc("EOF", content="echo $x\n"),)


def test_copy_has_every_flag() -> None:
    found = one("COPY --from=b --chown=1:2 --chmod=u+x --link --parents --exclude=*.a --exclude=*.b x y /z/", Copy)
    assert (found.sources, found.destination, found.source_stage) == (("x", "y"), "/z/", "b")
    assert (found.chown, found.chmod, found.link, found.parents, found.excludes) == ("1:2", "u+x", True, True, ("*.a", "*.b"))


def test_add_has_every_flag_and_knows_those_that_were_not_given() -> None:
    found = one("ADD --checksum=sha256:1 --keep-git-dir=false --link=true --chown=a --chmod=644 --exclude=x u /z", Add)
    assert (found.checksum, found.keep_git_dir, found.unpack, found.link) == ("sha256:1", False, None, True)
    assert one("ADD --unpack u /z", Add).unpack is True


def test_copy_takes_files_from_heredocs_and_fills_variables_only_where_the_name_is_bare() -> None:
    found = one("COPY <<a <<-'b' /x/\n\"$v\"\na\n\t$v\nb\n", Copy)
    filled = substituted(found, {"v": "1"}.get)
    assert isinstance(filled, Copy)
    assert [(file.name, file.text) for file in filled.files] == [("a", '"1"\n'), ("b", "$v\n")]


def test_a_healthcheck_has_times_in_nanoseconds() -> None:
    found = one(
        "HEALTHCHECK --interval=1m30s --timeout=3s --start-period=1.5h --start-interval=5ms --retries=4 CMD curl x", Healthcheck
    )
    assert found.test == ("CMD-SHELL", "curl x")
    assert (found.interval, found.timeout, found.start_period) == (90 * 10**9, 3 * 10**9, 5400 * 10**9)
    assert (found.start_interval, found.retries) == (5 * 10**6, 4)


def test_the_simple_instructions_keep_their_words() -> None:
    assert one("EXPOSE 90 80/udp", Expose).ports == ("80/udp", "90")
    assert one('VOLUME ["/a", "/b c"]', Volume).paths == ("/a", "/b c")
    assert one("USER a:b", User).user == "a:b"
    assert one("WORKDIR /a b", Workdir).path == "/a b"
    assert one("STOPSIGNAL 9", StopSignal).signal == "9"
    assert one('SHELL ["sh", "-c"]', Shell).words == ("sh", "-c")
    assert one("CMD a b", Cmd).command.words == ("a b",)
    assert one("ENTRYPOINT []", Entrypoint).command.words == ()
    assert one("MAINTAINER me <a@b>", Maintainer).name == "me <a@b>"
    assert one("HEALTHCHECK NONE", Healthcheck).test == ("NONE",)


def test_onbuild_keeps_the_text_of_its_trigger_with_the_heredoc() -> None:
    assert one("onbuild RUN <<E\nx\nE", Onbuild).expression == "RUN <<E\nx\nE"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("FRO x", "unknown instruction: FRO (did you mean FROM?)"),
        ("copy --form=a b c", "unknown flag: --form (did you mean from?)"),
        ("COPY --link --link a b", "duplicate flag specified: --link"),
        ("COPY --chown a b c", "missing a value on flag: --chown"),
        ("COPY --link=maybe a b", "expecting boolean value for flag --link, not: maybe"),
        ("COPY a", "COPY requires at least two arguments, but only one was provided. Destination could not be determined"),
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM a AS 1b", 'invalid name for build stage: "1b", name can\'t start with a number or contain symbols'),
        ("RUN --mount=typ=cache x", "unexpected key 'typ' in 'typ=cache' (did you mean type?)"),
        ("RUN --mount=type=cach x", 'unsupported mount type "cach" (did you mean cache?)'),
        ("RUN --network=hots x", 'invalid network mode "hots" (did you mean host?)'),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)"),
        ("HEALTHCHECK --interval=1us CMD x", 'Interval "interval" cannot be less than 1ms'),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("USER", "USER requires exactly one argument"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_dockers_words(text: str, reason: str) -> None:
    assert refused(text).reason == reason


def test_an_unknown_flag_is_shown_at_its_line_and_column() -> None:
    error = refused("FROM x\nCOPY \\\n  --form=a b c\n")
    assert (error.line, error.column, error.source) == (3, 3, "  --form=a b c")


def test_a_mount_is_read_with_its_variables() -> None:
    found = read_mount("type=cache,id=$i,target=/c,sharing=locked,mode=0755,uid=1,gid=2", lambda value: value.replace("$i", "pip"))
    assert found == Mount(type="cache", id="pip", target="/c", sharing="locked", mode=0o755, uid=1, gid=2, readonly=False)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("type=bind,size=1m", "unexpected key 'size' for mount type 'bind'"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=bind,uid=1", 'uid not allowed for "bind" type mounts'),
        ("type=tmpfs,sharing=shared", "invalid cache sharing set for tmpfs mount"),
        ("type=cache,mode=9", "invalid value 9 for mode"),
    ],
)
def test_a_mount_that_makes_no_sense_is_refused(text: str, reason: str) -> None:
    with pytest.raises(Fault) as caught:
        read_mount(text, lambda value: value)
    assert caught.value.message == reason


def test_a_tmpfs_size_is_in_bytes() -> None:
    assert read_mount("type=tmpfs,target=/t,size=64m", str).size == 64 << 20


def test_exposed_ports_are_ranges_with_a_protocol() -> None:
    assert exposed_ports("80-82/UDP") == ("80/udp", "81/udp", "82/udp")
    assert exposed_ports("127.0.0.1:1:53") == ("53/tcp",)
    for wrong in ("x", "9-8", "70000", "80/http", ""):
        with pytest.raises(Fault):
            exposed_ports(wrong)
