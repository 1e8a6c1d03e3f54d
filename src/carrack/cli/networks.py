"""The `network` commands."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.containers.endpoints import empty_endpoint
from carrack.cli.containers.look import natural_key
from carrack.cli.containers.options import check_label, check_link
from carrack.cli.failure import CommandFailure
from carrack.cli.filters import filters_query
from carrack.cli.inspection import FORMAT_FLAG, inspect_each
from carrack.cli.pruning import FORCE_FLAG, ask_or_stop, confirm, prune_filters, prune_networks
from carrack.cli.render.noun import Noun
from carrack.cli.render.rows import print_rows
from carrack.cli.render.units import local_time, parse_rfc3339, short_id
from carrack.client.failure import ApiNotFound
from carrack.client.http import percent_encode
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

    Row = tuple[dict[str, Any], bool]

_SURE = "\nAre you sure you want to continue?"
_PRUNE = f"WARNING! This will remove all custom networks not used by at least one container.{_SURE}"
_INGRESS = (
    "WARNING! Before removing the routing-mesh network, make sure all the nodes in your swarm run the same docker engine version. "
    f"Otherwise, removal may not be effective and functionality of newly create ingress networks will be impaired.{_SURE}"
)


def network_path(name: str, action: str = "") -> str:
    """The API path of a network and what to do with it. Raises CommandFailure for a blank name."""
    if not name.strip():
        raise CommandFailure("invalid network name or ID: value is empty")
    return f"/networks/{percent_encode(name)}{action}"


def fetch_network(session: Session, name: str, *, verbose: bool = False) -> bytes:
    """The network's document as the daemon wrote it. Raises ApiError."""
    return session.engine.request("GET", network_path(name), {"verbose": "true"} if verbose else None).read_all()


def _created(row: Row) -> str:
    text = row[0].get("Created") or "0001-01-01T00:00:00Z"
    try:
        return local_time(*parse_rfc3339(text))
    except ValueError:
        return str(text)


NOUN = Noun(
    "*network.networkContext",
    {
        "ID": ("NETWORK ID", lambda row: short_id(row[0]["Id"]) if row[1] else row[0]["Id"]),
        "Name": ("NAME", lambda row: row[0]["Name"]),
        "Driver": ("DRIVER", lambda row: row[0].get("Driver") or ""),
        "Scope": ("SCOPE", lambda row: row[0].get("Scope") or ""),
        "IPv4": ("IPV4", lambda row: "true" if row[0].get("EnableIPv4") else "false"),
        "IPv6": ("IPV6", lambda row: "true" if row[0].get("EnableIPv6") else "false"),
        "Internal": ("INTERNAL", lambda row: "true" if row[0].get("Internal") else "false"),
        "Labels": ("LABELS", lambda row: ",".join([f"{key}={value}" for key, value in (row[0].get("Labels") or {}).items()])),
        "CreatedAt": ("CREATED AT", _created),
    },
    {"Label": lambda row, name: (row[0].get("Labels") or {}).get(name, "")},
)


def _address(row: dict[str, Any]) -> str:
    """What is reached: the host's address and port, or the container's own."""
    host, port = row.get("HostIP") or row.get("ContainerIP") or "", row.get("HostPort") or row.get("ContainerPort") or "*"
    return f"{f'[{host}]' if ':' in host else host}:{port}" + ("" if row["Protocol"] == "any" else f"/{row['Protocol']}")


EXPOSURE = Noun(
    "*network.exposureContext",
    {
        "Container": ("CONTAINER", lambda row: row["ContainerName"]),
        "ID": ("CONTAINER ID", lambda row: short_id(row["ContainerId"])),
        "Network": ("NETWORK", lambda row: row["Network"]),
        "Address": ("ADDRESS", _address),
        "Port": ("PORT", lambda row: str(row["ContainerPort"] or "all")),
        "Internet": ("INTERNET", lambda row: "true" if row["Internet"] else "false"),
        "From": ("REACHED FROM", lambda row: "; ".join(row["ReachedFrom"])),
        "Because": ("BECAUSE", lambda row: "; ".join(row["Because"])),
    },
)


def _exposure(session: Session, parsed: Parsed) -> None:
    rows = session.engine.json("GET", "/carrack/exposure") or []
    if parsed.arguments:
        wanted = parsed.arguments[0]
        rows = [row for row in rows if row["ContainerName"] == wanted or row["ContainerId"].startswith(wanted)]
    if parsed.flag("internet"):
        rows = [row for row in rows if row["Internet"]]
    columns = ("Container", "Address", "Port", "From", "Because")
    print_rows(session.out, EXPOSURE, rows, template=parsed.text("format"), columns=columns)


def _list(session: Session, parsed: Parsed) -> None:
    networks = session.engine.json("GET", "/networks", filters_query(parsed.filters())) or []
    networks.sort(key=lambda network: natural_key(network["Name"]))
    quiet = parsed.flag("quiet")
    template = parsed.text("format") or ("" if quiet else session.config.text("networksFormat"))
    if template == "raw":
        template = (
            "network_id: {{.ID}}" if quiet else r"network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n"
        )
    rows = [(network, not parsed.flag("no-trunc")) for network in networks]
    print_rows(session.out, NOUN, rows, template=template, columns=("ID", "Name", "Driver", "Scope"), quiet="ID" if quiet else "")


def _inspect(session: Session, parsed: Parsed) -> None:
    verbose = parsed.flag("verbose")
    inspect_each(session.out, parsed.arguments, parsed.text("format"), lambda name: fetch_network(session, name, verbose=verbose))


def _create(session: Session, parsed: Parsed) -> None:
    try:
        ipam = build_ipam(parsed)
    except ValueError as error:
        raise CommandFailure(str(error)) from None
    document: dict[str, Any] = {
        "Name": parsed.arguments[0],
        "Driver": parsed.text("driver"),
        "Scope": parsed.text("scope"),
        "IPAM": ipam,
        "Internal": parsed.flag("internal"),
        "Attachable": parsed.flag("attachable"),
        "Ingress": parsed.flag("ingress"),
        "ConfigOnly": parsed.flag("config-only"),
        "ConfigFrom": {"Network": parsed.text("config-from")} if parsed.text("config-from") else None,
        "Options": parsed.pairs("opt"),
        "Labels": {key: value for key, _, value in [text.partition("=") for text in parsed.items("label")]},
    }
    for flag, field in (("ipv4", "EnableIPv4"), ("ipv6", "EnableIPv6")):
        if parsed.changed(flag):
            document[field] = parsed.flag(flag)
    if not session.engine.speaks("1.44"):
        document["CheckDuplicate"] = True
    session.out.line(session.engine.json("POST", "/networks/create", document=document)["Id"])


def build_ipam(parsed: Parsed) -> dict[str, Any]:
    """The API's IPAM: each --ip-range, --gateway and --aux-address goes to the --subnet it lies in. Raises ValueError."""
    subnets, ranges, gateways = parsed.items("subnet"), parsed.items("ip-range"), parsed.items("gateway")
    if len(subnets) < len(ranges) or len(subnets) < len(gateways):
        raise ValueError("every ip-range or gateway must have a corresponding subnet")
    pools: dict[str, dict[str, Any]] = {}
    for subnet in subnets:
        if any(_contains(subnet, other) or _contains(other, subnet) for other in pools):
            raise ValueError("multiple overlapping subnet configuration is not supported")
        pools[subnet] = {"Subnet": subnet}
    for flag, field, plural in (("ip-range", "IPRange", "ranges"), ("gateway", "Gateway", "gateways")):
        for text in parsed.items(flag):
            word = "range" if flag == "ip-range" else "gateway"
            pool = _pool_for(pools, text, f"no matching subnet for {word} {text}")
            if field in pool:
                place = "on the same subnet" if flag == "ip-range" else "for the same subnet"
                raise ValueError(f"cannot configure multiple {plural} ({text}, {pool[field]}) {place} ({pool['Subnet']})")
            pool[field] = text
    for name, address in parsed.pairs("aux-address").items():
        pool = _pool_for(pools, address, f"no matching subnet for aux-address {address}")
        pool.setdefault("AuxiliaryAddresses", {})[name] = address
    return {"Driver": parsed.text("ipam-driver"), "Options": parsed.pairs("ipam-opt"), "Config": list(pools.values())}


def _pool_for(pools: dict[str, dict[str, Any]], text: str, failure: str) -> dict[str, Any]:
    for subnet, pool in pools.items():
        if _contains(subnet, text):
            return pool
    raise ValueError(failure)


def _contains(subnet: str, text: str) -> bool:
    """Whether an address, or the start of a subnet, lies in a subnet."""
    import ipaddress

    try:
        network = ipaddress.ip_network(subnet, strict=False)
        if "/" not in subnet:
            raise ValueError
    except ValueError:
        raise ValueError(f"invalid subnet {subnet} : invalid CIDR address: {subnet}") from None
    address, slash, _ = text.partition("/")
    try:
        if slash:
            ipaddress.ip_network(text, strict=False)
        return ipaddress.ip_address(address) in network
    except ValueError:
        raise ValueError(f"invalid CIDR address: {text}" if slash else f"invalid IP address: {text}") from None


def _remove(session: Session, parsed: Parsed) -> None:
    failed = False
    for name in parsed.arguments:
        try:
            network = session.engine.json("GET", network_path(name))
        except CarrackError:
            network = {}
        if network.get("Ingress") and not confirm(session, _INGRESS):
            continue
        try:
            session.engine.order("DELETE", network_path(name))
        except CarrackError as error:
            if parsed.flag("force") and isinstance(error, ApiNotFound):
                continue
            session.err.line(str(error))
            failed = True
        else:
            session.out.line(name)
    if failed:
        session.err.flush()
        raise CommandFailure("exit status 1")


def _connect(session: Session, parsed: Parsed) -> None:
    network, container = parsed.arguments
    options: dict[str, str] = {}
    for text in parsed.items("driver-opt"):
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise CommandFailure("invalid key/value pair format in driver options")
        options[key.strip()] = value.strip()
    address = {"IPv4Address": parsed.text("ip"), "IPv6Address": parsed.text("ip6"), "LinkLocalIPs": parsed.items("link-local-ip")}
    endpoint = {
        **empty_endpoint(),
        "IPAMConfig": {name: value for name, value in address.items() if value},
        "Links": parsed.items("link") or None,
        "Aliases": parsed.items("alias"),
        "DriverOpts": options,
        "GwPriority": parsed.number("gw-priority"),
    }
    session.engine.order("POST", network_path(network, "/connect"), document={"Container": container, "EndpointConfig": endpoint})


def _disconnect(session: Session, parsed: Parsed) -> None:
    network, container = parsed.arguments
    document = {"Container": container, "Force": parsed.flag("force")}
    session.engine.order("POST", network_path(network, "/disconnect"), document=document)


def _prune(session: Session, parsed: Parsed) -> None:
    filters = prune_filters(session, parsed.filters())
    ask_or_stop(session, parsed, _PRUNE)
    _, text = prune_networks(session, filters)
    if text:
        session.out.line(text)


COMMANDS = (
    Command(
        "network ls",
        "[OPTIONS]",
        "List networks",
        _list,
        at_most=0,
        aliases="network ls, network list",
        flags="""
        -f, --filter filter Show only what matches (e.g. "driver=bridge")
            --format string Print with a template: 'table' (the default), 'table TEMPLATE', 'json' or 'TEMPLATE'
            --no-trunc bool Print ids whole
        -q, --quiet bool    Print ids only
        """,
    ),
    Command(
        "network inspect",
        "[OPTIONS] NETWORK [NETWORK...]",
        "Print everything about networks",
        _inspect,
        at_least=1,
        flags=f"{FORMAT_FLAG}\n-v, --verbose bool Print more, for diagnosis",
    ),
    Command(
        "network create",
        "[OPTIONS] NETWORK",
        "Create a network",
        _create,
        at_least=1,
        at_most=1,
        checks={"label": check_label},
        flags="""
            --attachable bool@1.25      Let containers join by hand
            --aux-address map      Addresses the driver uses for itself
            --config-from string@1.30   Network whose configuration to copy
            --config-only bool@1.30     Create a configuration, not a network
        -d, --driver string=bridge Driver of the network
            --gateway strings      Gateway of a subnet
            --ingress bool@1.29         Create the swarm's routing-mesh network
            --internal bool        Keep the network from the outside
            --ip-range strings     Part of a subnet to give containers addresses from
            --ipam-driver string=default Driver that manages addresses
            --ipam-opt map         Options of that driver
            --ipv4 bool=true       Give IPv4 addresses
            --ipv6 bool            Give IPv6 addresses
            --label list           Labels
        -o, --opt map              Options of the driver
            --scope string@1.30         Scope of the network
            --subnet strings       Subnet in CIDR form
        """,
    ),
    Command(
        "network rm",
        "NETWORK [NETWORK...]",
        "Remove networks",
        _remove,
        at_least=1,
        aliases="network rm, network remove",
        flags="-f, --force bool Do not complain of a network that does not exist",
    ),
    Command(
        "network connect",
        "[OPTIONS] NETWORK CONTAINER",
        "Connect a container to a network",
        _connect,
        at_least=2,
        at_most=2,
        checks={"link": check_link},
        flags="""
            --alias strings         Other name on the network
            --driver-opt strings    Options of the driver
            --gw-priority int       The network with the highest one gives the default gateway
            --ip string             IPv4 address ("172.30.100.104")
            --ip6 string            IPv6 address ("2001:db8::33")
            --link list             Link to another container
            --link-local-ip strings Link-local address
        """,
    ),
    Command(
        "network disconnect",
        "[OPTIONS] NETWORK CONTAINER",
        "Disconnect a container from a network",
        _disconnect,
        at_least=2,
        at_most=2,
        flags="-f, --force bool Disconnect it whatever its state",
    ),
    Command(
        "network exposure",
        "[OPTIONS] [CONTAINER]",
        "Show who can reach each published port, and why",
        _exposure,
        at_most=1,
        flags="""
            --format string Print with a template: 'table' (the default), 'table TEMPLATE', 'json' or 'TEMPLATE'
            --internet bool Only what an address of the internet leads to
        """,
    ),
    Command(
        "network prune",
        "[OPTIONS]",
        "Remove all unused networks",
        _prune,
        at_most=0,
        flags=f'{FORCE_FLAG}\n--filter filter Remove only what matches (e.g. "until=<timestamp>")',
    ),
)
