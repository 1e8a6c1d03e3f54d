"""The instructions that touch no file, each as the Dockerfile reference describes it, seen in the image that comes of it."""

from __future__ import annotations

import pytest

from tests.rig.builds import build, config_of, printed, try_build
from tests.rig.engine import Engine


@pytest.mark.observes("POST /build")
def test_env_sets_variables_for_later_steps_and_for_the_image(engine: Engine) -> None:
    built = build(engine, 'FROM busybox\nENV A=1 B="two words" C=x\\ y\nENV OLD form of it\nRUN echo "$A|$B|$C|$OLD"\n')
    assert printed(built) == ["1|two words|x y|form of it"]
    assert config_of(engine, built)["Env"][1:] == ["A=1", "B=two words", "C=x y", "OLD=form of it"]


def test_every_part_of_one_env_sees_the_variables_from_before_it(engine: Engine) -> None:
    built = build(engine, "FROM busybox\nENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc\nRUN echo $abc $def $ghi\n")
    assert printed(built) == ["bye hello bye"]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${V:-fallback}", "fallback"), ("${V:+set}", ""), ("${W:-fallback}", "w"), ("${W:+set}", "set"), ("\\$W", "$W"),
    ],
)  # fmt: skip
def test_variables_have_defaults_and_alternatives(engine: Engine, written: str, value: str) -> None:
    built = build(engine, f"FROM busybox\nENV W=w\nLABEL out={written}end\n")
    assert config_of(engine, built)["Labels"]["out"] == f"{value}end"


@pytest.mark.peer_lacks("these forms came with BuildKit's front end")
@pytest.mark.parametrize(
    ("written", "value"),
    [("${P#f*o}", "obarfoo"), ("${P##f*o}", ""), ("${P%o*}", "foobarfo"), ("${P/foo/X}", "Xbarfoo"), ("${P//foo/X}", "XbarX")],
)
def test_variables_can_be_cut_and_replaced(engine: Engine, written: str, value: str) -> None:
    built = build(engine, f"FROM busybox\nENV P=foobarfoo\nLABEL out={written}end\n")
    assert config_of(engine, built)["Labels"]["out"] == f"{value}end"


def test_labels_of_the_request_are_added_to_those_of_the_file(engine: Engine) -> None:
    built = build(engine, 'FROM busybox\nLABEL a=1 "b c"="d e"\n', labels={"from": "request"})
    assert config_of(engine, built)["Labels"] == {"a": "1", "b c": "d e", "from": "request"}


def test_maintainer_is_the_author(engine: Engine) -> None:
    built = build(engine, "FROM busybox\nMAINTAINER Some One <one@example.org>\n")
    assert engine.api("GET", f"/images/{built.image}/json").json["Author"] == "Some One <one@example.org>"


def test_expose_takes_ranges_protocols_and_variables(engine: Engine) -> None:
    built = build(engine, "FROM busybox\nENV P=90\nEXPOSE 80 53/udp 8000-8002 $P/tcp\n")
    wanted = {"80/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp", "90/tcp"}
    assert set(config_of(engine, built)["ExposedPorts"]) == wanted


CMD_AND_ENTRYPOINT = [
    ('CMD ["a", "b"]', None, ["a", "b"]),
    ("CMD a b", None, ["/bin/sh", "-c", "a b"]),
    ('ENTRYPOINT ["e"]', ["e"], None),
    ("ENTRYPOINT e f", ["/bin/sh", "-c", "e f"], None),
    ('CMD ["c"]\nENTRYPOINT ["e"]', ["e"], ["c"]),
    ('ENTRYPOINT ["e"]\nCMD ["c"]', ["e"], ["c"]),
    ('CMD ["one"]\nCMD ["two"]', None, ["two"]),
]


@pytest.mark.parametrize(("instructions", "entrypoint", "command"), CMD_AND_ENTRYPOINT)
def test_cmd_and_entrypoint_in_either_form(
    engine: Engine, instructions: str, entrypoint: list[str] | None, command: list[str] | None
) -> None:
    config = config_of(engine, build(engine, f"FROM scratch\n{instructions}\n"))
    assert (config.get("Entrypoint"), config.get("Cmd")) == (entrypoint, command)


def test_an_entrypoint_clears_the_cmd_of_the_base_image(engine: Engine) -> None:
    config = config_of(engine, build(engine, 'FROM busybox\nENTRYPOINT ["e"]\n'))
    assert (config["Entrypoint"], config.get("Cmd")) == (["e"], None)


def test_shell_changes_every_shell_form_after_it(engine: Engine) -> None:
    assert try_build(engine, 'FROM busybox\nSHELL ["/bin/sh", "-ec"]\nRUN false; true\n').error
    config = config_of(engine, build(engine, 'FROM busybox\nRUN false; true\nSHELL ["/bin/sh", "-ec"]\nCMD said\n'))
    assert (config["Shell"], config["Cmd"]) == (["/bin/sh", "-ec"], ["/bin/sh", "-ec", "said"])


def test_user_and_workdir_hold_for_later_steps(engine: Engine) -> None:
    dockerfile = """FROM busybox
RUN echo 'svc:x:1234:2345::/:/bin/sh' >> /etc/passwd
USER svc
WORKDIR /srv
WORKDIR deep/er
RUN grep -E '^[UG]id' /proc/self/status | cut -f2; pwd
"""
    built = build(engine, dockerfile)
    assert printed(built) == ["1234", "2345", "/srv/deep/er"]
    config = config_of(engine, built)
    assert (config["User"], config["WorkingDir"]) == ("svc", "/srv/deep/er")


def test_a_workdir_is_made_and_may_hold_variables(engine: Engine) -> None:
    built = build(engine, "FROM busybox\nENV WHERE=/path\nWORKDIR $WHERE/here\nRUN pwd && ls -ld /path/here | cut -c1-10\n")
    assert printed(built) == ["/path/here", "drwxr-xr-x"]


def test_volumes_are_written_down(engine: Engine) -> None:
    built = build(engine, 'FROM busybox\nVOLUME /a /b\nVOLUME ["/c d"]\n')
    assert set(config_of(engine, built)["Volumes"]) == {"/a", "/b", "/c d"}


def test_stopsignal_takes_names_and_numbers(engine: Engine) -> None:
    assert config_of(engine, build(engine, "FROM busybox\nSTOPSIGNAL SIGQUIT\n"))["StopSignal"] == "SIGQUIT"
    assert config_of(engine, build(engine, "FROM busybox\nSTOPSIGNAL 9\n"))["StopSignal"] == "9"
    refused = try_build(engine, "FROM busybox\nSTOPSIGNAL NOSUCH\n")
    assert "invalid signal: nosuch" in refused.error.lower()


def test_a_healthcheck_has_options_and_both_forms(engine: Engine) -> None:
    built = build(
        engine, "FROM busybox\nHEALTHCHECK --interval=5m --timeout=3s --retries=2 --start-period=1s CMD curl -f / || exit 1\n"
    )
    assert config_of(engine, built)["Healthcheck"] == {
        "Test": ["CMD-SHELL", "curl -f / || exit 1"],
        "Interval": 300 * 10**9,
        "Timeout": 3 * 10**9,
        "StartPeriod": 10**9,
        "Retries": 2,
    }
    built = build(engine, 'FROM busybox\nHEALTHCHECK CMD ["true"]\nHEALTHCHECK NONE\n')
    assert config_of(engine, built)["Healthcheck"] == {"Test": ["NONE"]}


def test_onbuild_waits_for_the_next_build(engine: Engine) -> None:
    base = build(engine, "FROM busybox\nONBUILD ENV WHO=child\nONBUILD RUN echo triggered for $WHO\n", t="onbuild-base")
    assert config_of(engine, base)["OnBuild"] == ["ENV WHO=child", "RUN echo triggered for $WHO"]
    built = build(engine, "FROM onbuild-base\nRUN echo after\n")
    assert printed(built)[-2:] == ["triggered for child", "after"]
    assert not config_of(engine, built).get("OnBuild")


def test_the_history_names_each_instruction_and_marks_those_without_a_layer(engine: Engine) -> None:
    built = build(engine, "FROM busybox\nENV A=1\nRUN echo x > /x\nLABEL l=1\n")
    rows = engine.api("GET", f"/images/{built.image}/history").json[:3]
    assert [row["CreatedBy"].replace("#(nop) ", "").replace("/bin/sh -c ", "").split()[0] for row in rows] in (
        ["LABEL", "RUN", "ENV"],
        ["LABEL", "echo", "ENV"],
    )
    assert [row["Size"] for row in rows] == [0, 2, 0]


@pytest.mark.parametrize(
    ("dockerfile", "said"),
    [
        ("FROM busybox\nFRUM x\n", "unknown instruction: FRUM"),
        ("RUN true\n", "no build stage in current context"),
        ("FROM busybox\nENV noequals\n", "ENV must have two arguments"),
        ("FROM busybox\nEXPOSE 99999\n", "99999"),
    ],
)
def test_a_fault_is_named(engine: Engine, dockerfile: str, said: str) -> None:
    assert said.lower() in try_build(engine, dockerfile).error.lower()
