"""The text of the default profile, by what of AppArmor is installed; that the kernel takes it, tests/kernel sees."""

from pathlib import Path

from carrack.engine import apparmor


def test_a_profile_refers_only_to_parts_that_are_there(tmp_path: Path) -> None:
    bare = apparmor.profile(tmp_path)
    assert "#include" not in bare
    assert bare.startswith("@{PROC}=/proc/\n")
    for part in ("abi/3.0", "tunables/global", "abstractions/base"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / part).write_text("")
    whole = apparmor.profile(tmp_path)
    assert whole.startswith("abi <abi/3.0>,\n#include <tunables/global>\n")
    assert "#include <abstractions/base>" in whole
    assert whole[whole.index("deny mount") :] == bare[bare.index("deny mount") :]
