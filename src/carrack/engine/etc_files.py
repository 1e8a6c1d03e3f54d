"""The three files Docker writes for every container: /etc/hostname, /etc/hosts and /etc/resolv.conf. Pure text."""

from __future__ import annotations

import ipaddress

_HOSTS = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
FALLBACK_SERVERS = ("8.8.8.8", "8.8.4.4")
"""Docker's: what a container asks when every name server of the host is a loopback address that it cannot reach."""


def hosts(own: list[tuple[str, str]], extra: list[tuple[str, str]]) -> str:
    """The hosts file: the fixed part, `--add-host` entries (name, address), then the container's own (address, names)."""
    lines = [f"{address}\t{name}\n" for name, address in extra]
    lines += [f"{address}\t{names}\n" for address, names in own]
    return _HOSTS + "".join(lines)


def own_names(hostname: str, domainname: str) -> str:
    """What stands beside a container's address: the full name first when there is a domain."""
    if domainname:
        return f"{hostname}.{domainname} {hostname}"
    return f"{hostname} {hostname.partition('.')[0]}" if "." in hostname else hostname


def resolv_conf(
    host_text: str, *, servers: list[str], search: list[str], options: list[str], keep_loopback: bool, embedded: bool = False
) -> str:
    """The resolver's file: the host's, with each part replaced by what was asked.

    `keep_loopback` is for containers in the host's network; elsewhere a loopback server would be the container itself.
    `embedded`: the server is the embedded one, which is to be asked for names without a dot as well.
    """
    host_servers, host_search, host_options = parse_resolv_conf(host_text)
    if not servers:
        servers = [server for server in host_servers if keep_loopback or not _is_loopback(server)]
        servers = servers or ([] if keep_loopback else list(FALLBACK_SERVERS))
    if not search:
        search = host_search
    elif search == ["."]:
        search = []
    lines = [f"nameserver {server}\n" for server in servers]
    if search:
        lines.append(f"search {' '.join(search)}\n")
    options = options or host_options
    if embedded and not any(option.startswith("ndots:") for option in options):
        options = [*options, "ndots:0"]
    if options:
        lines.append(f"options {' '.join(options)}\n")
    return "# Written by carrackd for this container at each start.\n" + "".join(lines)


def parse_resolv_conf(text: str) -> tuple[list[str], list[str], list[str]]:
    """Servers, search domains and options of a resolv.conf (resolv.conf(5)); the last search or domain line wins."""
    servers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith(("#", ";")):
            continue
        if words[0] == "nameserver" and len(words) > 1:
            servers.append(words[1])
        elif words[0] in ("search", "domain"):
            search = words[1:]
        elif words[0] == "options":
            options += words[1:]
    return servers, search, options


def _is_loopback(server: str) -> bool:
    try:
        return ipaddress.ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return True
