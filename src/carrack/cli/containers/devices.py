"""--device and --security-opt: what they mean on the daemon's side, read here because files and spellings are ours."""

from __future__ import annotations

import os

from carrack.cli.files import os_error_text, read_file
from carrack.cli.values import go_quote


def read_security_options(texts: list[str]) -> tuple[list[str], bool]:
    """(options to send, whether all system paths are to be open); a seccomp profile is sent by content, not by path."""
    from carrack.cli.render.indent import compact
    from carrack.client.codec import decode

    options: list[str] = []
    unconfined = False
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator and key != "no-new-privileges":
            key, separator, value = text.partition(":")
        if not value and key != "no-new-privileges":
            raise ValueError(f"Invalid --security-opt: {go_quote(text)}")
        if text == "systempaths=unconfined":
            unconfined = True
            continue
        if key == "seccomp" and value not in ("builtin", "unconfined"):
            try:
                profile = read_file(value).decode("utf-8", "replace")
                decode(profile)
            except OSError as error:
                raise ValueError(f"opening seccomp profile ({value}) failed: {os_error_text(error)}") from None
            except ValueError as error:
                raise ValueError(f"compacting json for seccomp profile ({value}) failed: {error}") from None
            text = f"seccomp={compact(profile)}"
        options.append(text)
    return options, unconfined


def read_devices(texts: list[str], server_os: str) -> tuple[list[dict[str, str]], list[str]]:
    """`--device` texts as the API's `Devices`, and the names among them that CDI knows. Raises CommandFailure."""
    devices: list[dict[str, str]] = []
    cdi: list[str] = []
    for text in texts:
        if is_cdi_name(text):
            cdi.append(text)
        elif server_os == "windows":
            devices.append({"PathOnHost": text, "PathInContainer": "", "CgroupPermissions": ""})
        else:
            devices.append(read_device(text))
    return devices, cdi


def is_cdi_name(text: str) -> bool:
    """Whether this is `vendor/class=device`, a name of the Container Device Interface."""
    kind, equals, device = text.partition("=")
    vendor, slash, device_class = kind.partition("/")

    def named(part: str, extra: str) -> bool:
        bare = part
        for character in extra:
            bare = bare.replace(character, "")
        return bool(part) and part[0].isascii() and part[0].isalpha() and part[-1].isalnum() and bare.isascii() and bare.isalnum()

    plain = device.replace("_", "").replace("-", "").replace(".", "").replace(":", "")
    return bool(equals and slash) and named(vendor, "_-.") and named(device_class, "_-") and plain.isascii() and plain.isalnum()


def _is_device_mode(text: str) -> bool:
    return bool(text) and not text.strip("rwm") and len(set(text)) == len(text)


def read_device(text: str) -> dict[str, str]:
    """`host[:container][:mode]` as the API's DeviceMapping. Raises ValueError with Docker's text."""
    parts = text.split(":")
    if len(parts) > 3 or not parts[0]:
        raise ValueError(f"bad format for path: {text}")
    permissions = "rwm"
    source = target = parts[0]
    if len(parts) == 3:
        if not _is_device_mode(parts[2]):
            raise ValueError(f"bad mode specified: {parts[2]}")
        target, permissions = parts[1], parts[2]
    elif len(parts) == 2 and _is_device_mode(parts[1]):
        permissions = parts[1]
    elif len(parts) == 2:
        target = parts[1]
    if not target.startswith("/"):
        raise ValueError(f"{target} is not an absolute path")
    if len(parts) == 1 or (len(parts) == 2 and target == source):
        source = target = os.path.normpath(source)
    elif len(parts) == 2:
        target = os.path.normpath(target)
    return {"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": permissions}
