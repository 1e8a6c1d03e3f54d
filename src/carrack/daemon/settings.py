"""What the configuration means for the rooms: settings of containers and networks, and what of it this host refuses."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from ipaddress import ip_network

from carrack.daemon import slices
from carrack.daemon.config import DaemonConfig
from carrack.engine import apparmor, cdi, oci_runtimes, remapping
from carrack.engine.resources import Machine
from carrack.engine.rooms import Realtime, Settings
from carrack.engine.system import ChangingFacts, file_system_of
from carrack.images.store import Effort
from carrack.networks.options import AddressPool, NetworkOptions
from carrack.runtime import cgroups
from carrack.runtime.cgroups.features import Features, probe

_INITS = ("/usr/libexec/docker/docker-init", "/usr/bin/docker-init", "/usr/bin/tini-static", "/sbin/tini-static")
"""Where a static init of a container may be, best first."""


def refuse(config: DaemonConfig) -> None:
    """Raises what the settings would say of this host, before anything is started that would have to be ended again."""
    oci_runtimes.here(config.runtimes, config.default_runtime)
    slices.here(config.further.cgroup_driver)
    if config.userns_remap:
        remapping.find(config.userns_remap)
        remapping.check_place(str(config.data_root), file_system_of(str(config.data_root)), os.uname().release)


def _cgroup_features(config: DaemonConfig) -> Features:
    """What cgroups can limit here. Where none can be made no container can start either, and that start says why."""
    try:
        return probe(f"/{config.cgroup_parent.strip('/')}/probe", cgroups.detect())
    except OSError as error:
        logging.getLogger("carrack.daemon").warning("no cgroup can be made: %s: %s", error.filename, error.strerror)
        return Features()


def of_containers(config: DaemonConfig) -> Settings:
    """What it decides about every container. Blocking: looks at the host. Raises InvalidParameter as `refuse` does."""
    features = _cgroup_features(config)
    return Settings(
        instance=config.instance,
        cgroup_parent=config.cgroup_parent,
        slices=slices.here(config.further.cgroup_driver),
        slices_only=config.further.cgroup_driver == "systemd",
        log_driver=config.log_driver,
        log_options=config.log_opts,
        dns=tuple(config.dns),
        dns_search=tuple(config.dns_search),
        dns_options=tuple(config.dns_opts),
        trace=config.debug,
        machine=Machine.here(features),
        runtimes=oci_runtimes.here(config.runtimes, config.default_runtime),
        cdi_directories=tuple(config.cdi_spec_dirs or cdi.DIRECTORIES),
        apparmor_profile=apparmor.install(),
        restart_on_unhealthy=config.restart_on_unhealthy,
        remap=remapping.find(config.userns_remap) if config.userns_remap else None,
        realtime=Realtime(config.cpu_rt_period, config.cpu_rt_runtime),
        defaults=config.further.container_defaults,
        init_path=config.further.init_path or next((path for path in _INITS if os.access(path, os.X_OK)), ""),
    )


def of_networks(config: DaemonConfig) -> NetworkOptions:
    """What it decides about every network."""
    pools = tuple(AddressPool(ip_network(base), size) for base, size in config.default_address_pools)
    options = NetworkOptions(
        bridge=config.bridge,
        bip=config.bip,
        fixed_cidr=config.fixed_cidr,
        bip6=config.bip6,
        default_gateway=config.default_gateway,
        default_gateway_v6=config.default_gateway_v6,
        fixed_cidr_v6=config.fixed_cidr_v6,
        ipv6=config.ipv6 or config.bip6 is not None or config.fixed_cidr_v6 is not None,
        mtu=config.mtu,
        icc=config.icc,
        ip_forward=config.ip_forward,
        ip_masq=config.ip_masq,
        ip=config.ip,
        accept_mark=config.accept_mark,
        direct_routing=config.allow_direct_routing,
        beside_docker=config.beside_docker,
        default_options=config.default_network_opts,
        relays=config.userland_proxy,
        dns=tuple(config.dns),
        run_directory=config.exec_root,
    )
    if pools:
        options = replace(options, default_address_pools=pools)
    return options


def effort(config: DaemonConfig) -> Effort:
    """How many transfers of layers go on at once, and how often one is tried."""
    further = config.further
    return Effort(further.max_concurrent_downloads, further.max_concurrent_uploads, further.max_download_attempts)


def changing_facts(config: DaemonConfig) -> ChangingFacts:
    """What `info` says of what a reload may change."""
    return {
        "labels": config.labels,
        "debug": config.debug,
        "mirrors": config.registry_mirrors,
        "insecure_registries": config.insecure_registries,
    }
