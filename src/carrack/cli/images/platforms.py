"""`--platform os/arch/variant`: in the standard's spelling, and as the API's document."""

from __future__ import annotations

import os

from carrack.cli.failure import CommandFailure


def normal_platform(text: str) -> str:
    """`os[/arch[/variant]]` in the standard's spelling. Raises CommandFailure."""
    systems = {"macos": "darwin"}
    machines = {
        "x86_64": "amd64",
        "x86-64": "amd64",
        "aarch64": "arm64",
        "i386": "386",
        "i486": "386",
        "i586": "386",
        "i686": "386",
        "armhf": "arm/v7",
        "armel": "arm/v6",
    }
    parts = text.lower().split("/")
    if len(parts) > 3 or not all(part.replace("_", "").replace("-", "").replace(".", "").isalnum() for part in parts):
        rule = 'platform specifier component must match "^[A-Za-z0-9_.-]+$"'
        raise CommandFailure(f'error parsing specified platform: "{text}": invalid platform: {rule}: invalid argument')
    known = ("linux", "darwin", "windows", "freebsd", "android", "solaris", "illumos", "wasip1", "js")
    if len(parts) == 1:
        if systems.get(parts[0], parts[0]) in known:
            machine = os.uname().machine
            return f"{systems.get(parts[0], parts[0])}/{machines.get(machine, machine)}"
        if machines.get(parts[0], parts[0]).partition("/")[0] not in _ARCHITECTURES:
            raise CommandFailure(
                f'error parsing specified platform: "{text}": unknown operating system or architecture: invalid argument'
            )
        return f"linux/{machines.get(parts[0], parts[0])}"
    system, machine = systems.get(parts[0], parts[0]), machines.get(parts[1], parts[1])
    variant = parts[2] if len(parts) == 3 else ""
    if machine == "arm64" and variant in ("8", "v8"):
        variant = ""
    if machine == "arm" and not variant:
        variant = "v7"
    return "/".join([part for part in (system, machine, variant) if part])


_ARCHITECTURES = frozenset("386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 s390x wasm".split())


def platform_document(text: str) -> str:
    """A --platform as the JSON that the API takes. Raises CommandFailure."""
    from carrack.client.codec import encode

    parts = normal_platform(text).split("/")
    return encode(dict(zip(("os", "architecture", "variant"), parts, strict=False)))
