"""Docker's default profile as data, and what the compiler makes of profiles (nothing is loaded here)."""

from __future__ import annotations

import errno
import struct

import pytest

from carrack.errors import InvalidParameter
from carrack.oci.runtime_spec import Seccomp, SeccompRule
from carrack.runtime import capabilities, seccomp, seccomp_default

AUDIT_X86_64 = 0xC000003E
ALLOW = 0x7FFF0000
ERRNO = 0x00050000


def allowed(*names: str) -> set[str]:
    profile = seccomp_default.profile(names, "x86_64")
    return {name for rule in profile.syscalls if rule.action == "SCMP_ACT_ALLOW" and not rule.args for name in rule.names}


def verdict(program: bytes, number: int, architecture: int = AUDIT_X86_64, arguments: tuple[int, ...] = ()) -> int:
    """Carry out classic BPF on one call (seccomp(2), bpf(4))."""
    words = struct.pack("<IIQ6Q", number, architecture, 0, *(*arguments, *(0,) * (6 - len(arguments))))
    accumulator, at, steps = 0, 0, 0
    while True:
        steps += 1
        assert steps < 5000
        code, yes, no, value = struct.unpack_from("<HBBI", program, at * 8)
        at += 1
        match code:
            case 0x20:
                accumulator = struct.unpack_from("<I", words, value)[0]
            case 0x54:
                accumulator &= value
            case 0x05:
                at += value
            case 0x15:
                at += yes if accumulator == value else no
            case 0x25:
                at += yes if accumulator > value else no
            case 0x35:
                at += yes if accumulator >= value else no
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(f"instruction {code:#x}")


@pytest.fixture(scope="module")
def default() -> bytes:
    return seccomp.compile(seccomp_default.profile(capabilities.DEFAULT, "x86_64"))[4:]


def test_mounting_needs_the_capability_that_covers_it() -> None:
    assert "mount" not in allowed(*capabilities.DEFAULT)
    assert "mount" in allowed("CAP_SYS_ADMIN")


def test_io_uring_is_for_nobody() -> None:
    assert not {"io_uring_setup", "io_uring_enter", "io_uring_register"} & allowed(*capabilities.NAMES)


def test_the_kernels_keys_are_for_nobody() -> None:
    assert not {"keyctl", "add_key", "request_key"} & allowed(*capabilities.NAMES)


def test_read_passes_and_mount_does_not(default: bytes) -> None:
    assert verdict(default, 0) == ALLOW
    assert verdict(default, 165) == ERRNO | errno.EPERM


def test_clone3_seems_not_to_exist_so_that_programs_fall_back(default: bytes) -> None:
    assert verdict(default, 435) == ERRNO | errno.ENOSYS


def test_clone_passes_without_namespaces_only(default: bytes) -> None:
    assert verdict(default, 56, arguments=(0x01200011,)) == ALLOW
    assert verdict(default, 56, arguments=(0x10000000,)) == ERRNO | errno.EPERM


def test_a_vsock_cannot_be_opened(default: bytes) -> None:
    assert verdict(default, 41, arguments=(2,)) == ALLOW
    assert verdict(default, 41, arguments=(40,)) == ERRNO | errno.EPERM


def test_a_call_the_library_is_too_old_to_know_passes_by_number(default: bytes) -> None:
    assert verdict(default, 452) == ALLOW  # fchmodat2


def test_a_call_of_the_future_seems_not_to_exist(default: bytes) -> None:
    assert verdict(default, 600) == ERRNO | errno.ENOSYS


def test_a_call_of_another_architecture_kills(default: bytes) -> None:
    assert verdict(default, 0, architecture=0xC00000B7) not in (ALLOW, ERRNO | errno.EPERM)


def test_the_same_profile_is_compiled_once() -> None:
    one = seccomp_default.profile(("CAP_CHOWN",), "x86_64")
    other = seccomp_default.profile(("CAP_CHOWN",), "x86_64")
    assert seccomp.compile(one) is seccomp.compile(other)


def test_flags_travel_in_front_of_the_program() -> None:
    profile = Seccomp("SCMP_ACT_ALLOW", flags=("SECCOMP_FILTER_FLAG_LOG",))
    assert struct.unpack_from("<I", seccomp.compile(profile))[0] == 2


def test_an_unknown_call_of_a_profile_is_left_out() -> None:
    profile = Seccomp("SCMP_ACT_ALLOW", syscalls=(SeccompRule(("nosuchcall", "getcwd"), "SCMP_ACT_ERRNO"),))
    assert verdict(seccomp.compile(profile)[4:], 79) == ERRNO | errno.EPERM


@pytest.mark.parametrize(
    "profile",
    [
        Seccomp("SCMP_ACT_DANCE"),
        Seccomp("SCMP_ACT_ALLOW", flags=("WHAT",)),
        Seccomp("SCMP_ACT_ALLOW", syscalls=(SeccompRule(("read",), "SCMP_ACT_DANCE"),)),
    ],
)
def test_a_malformed_profile_is_refused(profile: Seccomp) -> None:
    with pytest.raises(InvalidParameter):
        seccomp.compile(profile)
