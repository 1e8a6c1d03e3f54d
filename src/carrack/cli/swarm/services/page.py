"""`service inspect --pretty`."""

from __future__ import annotations

from carrack.cli.render.units import binary_size, go_general
from carrack.cli.swarm.pretty import Page

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Document = dict[str, Any]


def go_duration(nanoseconds: int) -> str:
    """A duration as Go prints it: `1m30s`, `1.5s`, `200ms`."""
    if nanoseconds == 0:
        return "0s"
    if nanoseconds < 10**9:
        for unit, size in (("ms", 10**6), ("µs", 10**3)):
            if nanoseconds >= size:
                return f"{go_general(nanoseconds / size, 15)}{unit}"
        return f"{nanoseconds}ns"
    seconds, rest = divmod(nanoseconds, 10**9)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{rest:09d}".rstrip("0").rstrip(".") if rest else ""
    text = f"{seconds}{fraction}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def service_page(service: Document, network_names: dict[str, str]) -> str:
    """The page of one service; `network_names` are by id."""
    page = Page()
    spec = service["Spec"]
    task = spec.get("TaskTemplate") or {}
    container = task.get("ContainerSpec") or {}
    page.line("")
    page.line("ID:\t\t", service["ID"])
    page.line("Name:\t\t", spec.get("Name"))
    page.labels("", spec.get("Labels"), mark="")
    _mode(page, spec.get("Mode") or {})
    _update_status(page, service.get("UpdateStatus"))
    _placement(page, task.get("Placement") or {})
    for field, title, order in (("UpdateConfig", "UpdateConfig", "Update"), ("RollbackConfig", "RollbackConfig", "Rollback")):
        if spec.get(field):
            _update_config(page, title, order, spec[field])
    _container(page, container)
    _files(page, container)
    driver = task.get("LogDriver")
    if driver:
        page.line("Log Driver:")
        page.put(" Name:\t\t", driver.get("Name"))
        if driver.get("Options"):
            page.line(" LogOpts:")
            for name, value in sorted(driver["Options"].items()):
                page.line(f"  {name}:".ljust(18), value)
            page.line("")
    _resources(page, task.get("Resources") or {})
    networks = [network_names.get(entry.get("Target"), entry.get("Target")) for entry in task.get("Networks") or ()]
    if networks:
        page.line("Networks: ", "".join([f"{name} " for name in networks]))
    endpoint = service.get("Endpoint") or {}
    page.line("Endpoint Mode:\t", (endpoint.get("Spec") or spec.get("EndpointSpec") or {}).get("Mode"))
    if endpoint.get("Ports"):
        page.line("Ports:")
        for port in endpoint["Ports"]:
            page.line(" PublishedPort = ", port.get("PublishedPort", 0))
            page.line("  Protocol = ", port.get("Protocol"))
            page.line("  TargetPort = ", port.get("TargetPort", 0))
            page.line("  PublishMode = ", port.get("PublishMode"))
        # the last one has a blank behind it in Docker's page
        return _with_trailing_blank(page.text()) + _health_text(container) + "\n"
    return page.text() + _health_text(container) + "\n"


def _with_trailing_blank(text: str) -> str:
    return text.removesuffix("\n") + " \n"


def _mode(page: Page, mode: Document) -> None:
    if "Global" in mode and mode["Global"] is not None:
        page.line("Service Mode:\t", "Global")
    elif mode.get("Replicated") is not None:
        page.line("Service Mode:\t", "Replicated")
        if mode["Replicated"].get("Replicas") is not None:
            page.line(" Replicas:\t", mode["Replicated"]["Replicas"])
    else:
        page.line("Service Mode:")


def _update_status(page: Page, status: Document | None) -> None:
    if not status or not status.get("State"):
        return
    import time

    from carrack.cli.render.units import human_duration, parse_rfc3339

    page.line("UpdateStatus:")
    page.line(" State:\t\t", status["State"])
    for field, title in (("StartedAt", "Started"), ("CompletedAt", "Completed")):
        if status.get(field) and not (field == "CompletedAt" and status["State"] != "completed"):
            ago = human_duration(time.time() - parse_rfc3339(status[field])[0])
            page.line(f" {title}:\t", f"{ago} ago")
    page.line(" Message:\t", status.get("Message"))


def _placement(page: Page, placement: Document) -> None:
    page.line("Placement:")
    if placement.get("Constraints"):
        page.line(" Constraints:\t", "[" + " ".join(placement["Constraints"]) + "]")
    spread = [
        f"spread={entry['Spread']['SpreadDescriptor']}" for entry in placement.get("Preferences") or () if entry.get("Spread")
    ]
    if spread:
        page.line(" Preferences:   ", "[" + " ".join(spread) + "]")
    page.put(" Max Replicas Per Node:   ", placement.get("MaxReplicas"))


def _update_config(page: Page, title: str, order: str, config: Document) -> None:
    page.line(f"{title}:")
    page.line(" Parallelism:\t", config.get("Parallelism", 0))
    if config.get("Delay"):
        page.line(" Delay:\t\t", go_duration(config["Delay"]))
    page.line(" On failure:\t", config.get("FailureAction"))
    if config.get("Monitor"):
        page.line(" Monitoring Period: ", go_duration(config["Monitor"]))
    page.line(" Max failure ratio: ", go_general(config.get("MaxFailureRatio") or 0, 6))
    page.line(f" {order} order:".ljust(20), config.get("Order"))


def _container(page: Page, container: Document) -> None:
    page.line("ContainerSpec:")
    page.line(" Image:\t\t", container.get("Image"))
    if container.get("Args"):
        page.line(" Args:\t\t", " ".join(container["Args"]) + " ")
    if container.get("Env"):
        page.line(" Env:\t\t", " ".join(container["Env"]) + " ")
    page.put(" Dir:\t\t", container.get("Dir"))
    if container.get("Init") is not None:
        page.line(" Init:\t\t", "true" if container["Init"] else "false")
    page.put(" User: ", container.get("User"))
    added, dropped = container.get("CapabilityAdd"), container.get("CapabilityDrop")
    if added or dropped:
        page.line("Capabilities:")
        page.put(" Add: ", " ".join(added or ()))
        page.put(" Drop: ", " ".join(dropped or ()))
    if container.get("Sysctls"):
        page.line("SysCtls:")
        for name, value in sorted(container["Sysctls"].items()):
            page.line(f" {name}: ", value)
    if container.get("Ulimits"):
        page.line("Ulimits:")
        for limit in container["Ulimits"]:
            page.line(f" {limit['Name']}: ", f"{limit.get('Soft', 0)}:{limit.get('Hard', 0)}")
    if container.get("Mounts"):
        page.line("Mounts:")
        for mount in container["Mounts"]:
            page.line(" Target:\t", mount.get("Target"))
            page.line("  Source:\t", mount.get("Source"))
            page.line("  ReadOnly:\t", "true" if mount.get("ReadOnly") else "false")
            page.line("  Type:\t\t", mount.get("Type"))


def _files(page: Page, container: Document) -> None:
    for field, name in (("Configs", "ConfigName"), ("Secrets", "SecretName")):
        entries = [entry for entry in container.get(field) or () if entry.get("File")]
        if entries:
            page.line(f"{field}:")
            for entry in entries:
                page.line(" Target:\t", entry["File"].get("Name"))
                page.line("  Source:\t", entry.get(name))


def _resources(page: Page, resources: Document) -> None:
    page.line("Resources:")
    for field, title in (("Reservations", "Reservations"), ("Limits", "Limits")):
        part = resources.get(field) or {}
        if not part:
            continue
        page.line(f" {title}:")
        if part.get("NanoCPUs"):
            page.line("  CPU:\t\t", go_general(part["NanoCPUs"] / 10**9, 6))
        if part.get("MemoryBytes"):
            page.line("  Memory:\t", binary_size(part["MemoryBytes"]))
        page.put("  PIDs:\t\t", part.get("Pids"))


def _health_text(container: Document) -> str:
    health = container.get("Healthcheck")
    if not health:
        return ""
    page = Page()
    page.line(" Healthcheck:")
    page.line("  Interval = ", go_duration(health.get("Interval") or 0))
    page.line("  Retries = ", health.get("Retries") or 0)
    page.line("  StartPeriod =\t", go_duration(health.get("StartPeriod") or 0))
    page.line("  Timeout =\t", go_duration(health.get("Timeout") or 0))
    if health.get("StartInterval"):
        page.line("  StartInterval = ", go_duration(health["StartInterval"]))
    page.line("  Tests:")
    for test in health.get("Test") or ():
        page.line("\t Test = ", test)
    return _with_trailing_blank(page.text())
