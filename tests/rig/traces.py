"""Commands that list what an installation could leave on a machine: files, and what is not one."""

from tests.rig.engine import ROOT

_ASIDE = (
    *("/proc", "/sys", "/tmp", "/run/systemd", "/run/udev", "/run/log", "/var/log", "/var/cache", "/var/lib/apt", "/var/lib/dpkg"),
    *("/var/lib/systemd", "/var/tmp", "/root", str(ROOT)),
)
"""What the system itself writes as time goes by."""
EVERYTHING = f"find / -xdev \\( {' -o '.join(f'-path {path}' for path in _ASIDE)} \\) -prune -o -print"
OBJECTS = (
    "nft list tables; ls /sys/class/net; find /sys/fs/cgroup -type d | grep -i carrack; ls /run | grep -i carrack;"
    " systemctl list-units --all --plain --no-legend 'carrack*' | grep -v carrack-vm; getent group carrack;"
    " ps axo args | grep -i '[c]arrack' | grep -v carrack-vm; sysctl -n net.ipv4.ip_forward"
)
