"""The flags of `service create` and `service update`, and how the ones with a syntax of their own are read."""

from __future__ import annotations

from carrack.cli.containers.mounts import read_mount, read_network
from carrack.cli.containers.options import check_address, check_environment, check_extra_host, check_label, check_search_domain
from carrack.cli.containers.ports import read_published
from carrack.cli.values import read_uint32, split_csv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_BOTH = """
        --credential-spec credential-spec@1.29 Credential spec of a managed service account (Windows)
    -d, --detach bool@1.29                Do not wait for the tasks
        --endpoint-mode string{=vip}      How its name resolves (vip or dnsrr)
        --entrypoint command              Program to run instead of the image's ENTRYPOINT
        --health-cmd string@1.25          Command that tells whether a task is healthy
        --health-interval duration@1.25   Time between two checks (ms|s|m|h)
        --health-retries int@1.25         Failures in a row that make it unhealthy
        --health-start-interval duration@1.44 Time between two checks while it starts (ms|s|m|h)
        --health-start-period duration@1.29 Time to start in, during which failures do not count (ms|s|m|h)
        --health-timeout duration@1.25    Time one check may take (ms|s|m|h)
        --hostname string@1.25            Host name of its containers
        --init bool@1.37                  Run an init that forwards signals and reaps processes
        --isolation string@1.35           Isolation technology
        --limit-cpu decimal               Most CPUs a task may use
        --limit-memory bytes              Most memory a task may use
        --limit-pids int@1.41             Most processes a task may have (default 0 = unlimited)
        --log-driver string               Logging driver
        --log-opt list                    Options of the logging driver
        --max-concurrent uint@1.41        Tasks of a job that run at once (default equal to --replicas)
        --no-healthcheck bool@1.25        Turn the image's HEALTHCHECK off
        --no-resolve-image bool@1.30      Do not ask the registry for the image's digest and platforms
        --oom-score-adj int@1.46          The host's preference for killing it (-1000 to 1000)
    -q, --quiet bool                      Show no progress
        --read-only bool@1.28             Mount the root file system read-only
        --replicas uint                   Number of tasks
        --replicas-max-per-node uint@1.40 Most tasks on one node (default 0 = unlimited)
        --reserve-cpu decimal             CPUs a task must find
        --reserve-memory bytes            Memory a task must find
        --restart-condition string{=any}  When to restart a task ("none", "on-failure", "any")
        --restart-delay duration{=5s}     Time before a restart (ns|us|ms|s|m|h)
        --restart-max-attempts uint       Restarts before it gives up
        --restart-window duration         Time in which restarts are counted (ns|us|ms|s|m|h)
        --rollback-delay duration@1.28    Time between two tasks of a rollback (ns|us|ms|s|m|h){ (default 0s)}
        --rollback-failure-action string@1.28{=pause} What to do when a rollback fails ("pause", "continue")
        --rollback-max-failure-ratio float@1.28 Failures a rollback may have{ (default 0)}
        --rollback-monitor duration@1.28{=5s} Time a task is watched for failure in a rollback (ns|us|ms|s|m|h)
        --rollback-order string@1.29{=stop-first} Order in a rollback ("start-first", "stop-first")
        --rollback-parallelism uint@1.28{=1} Tasks rolled back at once (0 for all)
        --stop-grace-period duration{=10s} Time a task gets to stop (ns|us|ms|s|m|h)
        --stop-signal string@1.28         Signal that stops it
    -t, --tty bool@1.25                   Give it a terminal
        --update-delay duration           Time between two tasks of an update (ns|us|ms|s|m|h){ (default 0s)}
        --update-failure-action string{=pause} What to do when an update fails ("pause", "continue", "rollback")
        --update-max-failure-ratio float@1.25 Failures an update may have{ (default 0)}
        --update-monitor duration@1.25{=5s} Time a task is watched for failure (ns|us|ms|s|m|h)
        --update-order string@1.29{=stop-first} Order in an update ("start-first", "stop-first")
        --update-parallelism uint{=1}     Tasks updated at once (0 for all)
    -u, --user string                     User name or id (<name|uid>[:<group|gid>])
        --with-registry-auth bool         Send the registry login along to the nodes
    -w, --workdir string                  Working directory
"""


def _fill(text: str, *, defaults: bool) -> str:
    """`{…}` marks what only `create` has: the defaults."""
    from re import sub

    return sub(r"\{([^}]*)\}", r"\1" if defaults else "", text)


CREATE_FLAGS = (
    _fill(_BOTH, defaults=True)
    + """
        --cap-add list@1.41               Linux capabilities to add
        --cap-drop list@1.41              Linux capabilities to drop
        --config config@1.30              Configs its containers see
        --constraint list                 Where its tasks may run
        --container-label list            Labels of its containers
        --dns list@1.25                   DNS servers
        --dns-option list@1.25            DNS options
        --dns-search list@1.25            DNS search domains
    -e, --env list                        Environment variables
        --env-file list                   File of environment variables
        --generic-resource list           Resources a task must find
        --group list@1.25                 Groups to join
        --host list@1.25                  Add a line to the containers' hosts file (host:ip)
    -l, --label list                      Labels of the service
        --mode string=replicated          Kind of service ("replicated", "global", "replicated-job", "global-job")
        --mount mount                     File system to mount
        --name string                     Name of the service
        --network network                 Networks to join
        --placement-pref pref@1.28        What to spread its tasks over
    -p, --publish port                    Publish a port on the nodes
        --secret secret@1.25              Secrets its containers see
        --sysctl list@1.40                Kernel parameters of its namespaces
        --ulimit ulimit@1.41              Resource limits
"""
)

UPDATE_FLAGS = (
    _fill(_BOTH, defaults=False)
    + """
        --args command                    Arguments of the command
        --cap-add list@1.41               Linux capabilities to add
        --cap-drop list@1.41              Linux capabilities to drop
        --config-add config@1.30          Add a config, or change it
        --config-rm list@1.30             Remove a config
        --constraint-add list             Add a placement constraint
        --constraint-rm list              Remove a placement constraint
        --container-label-add list        Add a label to its containers, or change it
        --container-label-rm list         Remove a label of its containers
        --dns-add list@1.25               Add a DNS server
        --dns-option-add list@1.25        Add a DNS option
        --dns-option-rm list@1.25         Remove a DNS option
        --dns-rm list@1.25                Remove a DNS server
        --dns-search-add list@1.25        Add a DNS search domain
        --dns-search-rm list@1.25         Remove a DNS search domain
        --env-add list                    Add an environment variable, or change it
        --env-rm list                     Remove an environment variable
        --force bool@1.25                 Replace the tasks even if nothing changed
        --generic-resource-add list       Add a resource a task must find
        --generic-resource-rm list        Remove a resource a task must find
        --group-add list@1.25             Add a group to join
        --group-rm list@1.25              Remove a group
        --host-add list@1.25              Add a line to the containers' hosts file ("host:ip")
        --host-rm list@1.25               Remove a line of the containers' hosts file ("host:ip")
        --image string                    Image of the service
        --label-add list                  Add a label, or change it
        --label-rm list                   Remove a label
        --mount-add mount                 Add a mount, or change it
        --mount-rm list                   Remove a mount by where it is mounted
        --network-add network@1.29        Join a network
        --network-rm list@1.29            Leave a network
        --placement-pref-add pref@1.28    Add something to spread its tasks over
        --placement-pref-rm pref@1.28     Remove something to spread its tasks over
        --publish-add port                Publish a port, or change how
        --publish-rm port                 Stop publishing a port, by its number in the container
        --rollback bool@1.25              Go back to what it was before the last update
        --secret-add secret@1.25          Add a secret, or change it
        --secret-rm list@1.25             Remove a secret
        --sysctl-add list@1.40            Add a kernel parameter, or change it
        --sysctl-rm list@1.40             Remove a kernel parameter
        --ulimit-add ulimit@1.41          Add a resource limit, or change it (default [])
        --ulimit-rm list@1.41             Remove a resource limit
"""
)


def read_command(text: str) -> list[str]:
    """A command line, split as a shell splits it. Raises ValueError with Docker's text."""
    from shlex import split

    try:
        return split(text)
    except ValueError:
        raise ValueError("EOF found when expecting closing quote") from None


def read_preference(text: str) -> str:
    """`spread=<what to spread over>`. Raises ValueError with Docker's text."""
    strategy, equals, argument = text.partition("=")
    if not equals or not strategy or not argument:
        raise ValueError('placement preference must be of the format "<strategy>=<arg>"')
    if strategy != "spread":
        raise ValueError(f"unsupported placement preference {strategy} (only spread is supported)")
    return argument


def read_port(text: str) -> list[dict[str, Any]]:
    """One --publish as the API's PortConfigs: `8080:80/udp` or `published=8080,target=80,mode=host`. Raises ValueError."""
    if "=" not in text:
        configs = []
        for key, binding in read_published(text):
            port, _, protocol = key.partition("/")
            if binding.get("HostIp"):
                raise ValueError("hostip is not supported")
            config: dict[str, Any] = {"Protocol": protocol, "TargetPort": int(port)}
            if binding.get("HostPort"):
                config["PublishedPort"] = int(binding["HostPort"])
            configs.append({**config, "PublishMode": "ingress"})
        return configs
    config = {"Protocol": "tcp", "PublishMode": "ingress"}
    for field in split_csv(text):
        key, equals, value = field.partition("=")
        if not equals or not key:
            raise ValueError(f"invalid field: {field}")
        if key == "protocol":
            if value not in ("tcp", "udp", "sctp"):
                raise ValueError(f"invalid protocol value '{value}'")
            config["Protocol"] = value
        elif key == "mode":
            if value not in ("ingress", "host"):
                raise ValueError(f"invalid publish mode value ({value}): must be either '{'ingress'}' or '{'host'}'")
            config["PublishMode"] = value
        elif key in ("target", "published"):
            name = "TargetPort" if key == "target" else "PublishedPort"
            if "-" in value:
                raise ValueError(f"invalid {key} port ({value}): must be an integer: invalid syntax")
            try:
                config[name] = read_uint32(value)
            except ValueError:
                raise ValueError(f"invalid {key} port ({value}): must be an integer: invalid syntax") from None
        else:
            raise ValueError(f"invalid field key: {key}")
    if not config.get("TargetPort"):
        raise ValueError("missing mandatory field 'target'")
    order = ("Protocol", "TargetPort", "PublishedPort", "PublishMode")
    return [{name: config[name] for name in order if name in config}]


def read_file_reference(kind: str) -> Callable[[str], dict[str, Any]]:
    """A reader of --secret and --config: a name alone, or `source=…,target=…,uid=…,gid=…,mode=…`."""

    def read(text: str) -> dict[str, Any]:
        reference = {"name": "", "target": "", "uid": "0", "gid": "0", "mode": 0o444}
        fields = split_csv(text)
        if not fields or not text:
            raise ValueError("EOF")
        if len(fields) == 1 and "=" not in fields[0]:
            return {**reference, "name": fields[0], "target": fields[0]}
        for field in fields:
            key, equals, value = field.partition("=")
            key = key.lower()
            if not equals:
                raise ValueError(f"invalid field '{field}' must be a key=value pair")
            if key in ("source", "src"):
                reference["name"] = value
            elif key in ("target", "uid", "gid"):
                reference[key] = value
            elif key == "mode":
                if not value or value.strip("01234567"):
                    raise ValueError(f'invalid mode specified: strconv.ParseUint: parsing "{value}": invalid syntax')
                reference["mode"] = int(value, 8)
            else:
                raise ValueError(
                    f"invalid field '{key}' in {kind} request" if kind == "secret" else f"invalid field in {kind} request: {key}"
                )
        if not reference["name"]:
            raise ValueError("source is required")
        reference["target"] = reference["target"] or reference["name"]
        return reference

    return read


def read_credential_spec(text: str) -> dict[str, str]:
    """`config://id`, `file://name` or `registry://name`. Raises ValueError with Docker's text."""
    spec = {"Config": "", "File": "", "Registry": ""}
    if not text:
        return spec
    for prefix, field in (("config://", "Config"), ("file://", "File"), ("registry://", "Registry")):
        if text.startswith(prefix):
            if text == prefix:
                raise ValueError(f"no value specified for {prefix}")
            return {**spec, field: text.removeprefix(prefix)}
    raise ValueError('invalid credential spec: value must be prefixed with "config://", "file://", or "registry://"')


def check_generic_resource(text: str) -> str:
    """`name=value`. Raises ValueError with Docker's text."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise ValueError(f"invalid generic-resource format `{text}` expected `name=value`")
    return text


CHECKS: dict[str, Callable[[str], Any]] = {
    "args": read_command,
    "config": read_file_reference("config"),
    "config-add": read_file_reference("config"),
    "container-label": check_label,
    "container-label-add": check_label,
    "credential-spec": read_credential_spec,
    "dns": check_address,
    "dns-add": check_address,
    "dns-search": check_search_domain,
    "dns-search-add": check_search_domain,
    "entrypoint": read_command,
    "env": check_environment,
    "env-add": check_environment,
    "generic-resource": check_generic_resource,
    "generic-resource-add": check_generic_resource,
    "host": check_extra_host,
    "host-add": check_extra_host,
    "label": check_label,
    "label-add": check_label,
    "mount": read_mount,
    "mount-add": read_mount,
    "network": read_network,
    "network-add": read_network,
    "placement-pref": read_preference,
    "placement-pref-add": read_preference,
    "placement-pref-rm": read_preference,
    "publish": read_port,
    "publish-add": read_port,
    "publish-rm": read_port,
    "secret": read_file_reference("secret"),
    "secret-add": read_file_reference("secret"),
}
