"""Which file holds which command: the one list that start-up reads. A command's own facts are in its own file.

`GROUPS` is the tree (`container ls`), `TOP` the commands that stand alone and the command each one is, `ALIASES` other names
within a group. Importing a command's file happens only for the command that runs (or for help that lists them all).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.cli.command import Command

_C = "carrack.cli.containers."
_I = "carrack.cli.images."
_S = "carrack.cli.system."
_W = "carrack.cli.swarm."

GROUPS: dict[str, dict[str, str]] = {
    "builder": {"build": _I + "build", "prune": _I + "prune"},
    "checkpoint": {"create": _C + "checkpoints", "ls": _C + "checkpoints", "rm": _C + "checkpoints"},
    "completion": dict.fromkeys(("bash", "fish", "zsh"), "carrack.cli.completion.scripts"),
    "config": dict.fromkeys(("create", "inspect", "ls", "rm"), _W + "secrets"),
    "container": {
        "attach": _C + "attach",
        "commit": _C + "commit",
        "cp": _C + "copy",
        "create": _C + "run",
        "diff": _C + "look",
        "exec": _C + "exec",
        "export": _C + "commit",
        "inspect": _C + "inspect",
        "kill": _C + "lifecycle",
        "logs": _C + "logs",
        "ls": _C + "list",
        "pause": _C + "lifecycle",
        "port": _C + "look",
        "prune": _C + "prune",
        "rename": _C + "lifecycle",
        "restart": _C + "lifecycle",
        "rm": _C + "lifecycle",
        "run": _C + "run",
        "start": _C + "start",
        "stats": _C + "stats",
        "stop": _C + "lifecycle",
        "top": _C + "look",
        "unpause": _C + "lifecycle",
        "update": _C + "update",
        "wait": _C + "lifecycle",
    },
    "context": dict.fromkeys(
        ("create", "export", "import", "inspect", "ls", "rm", "show", "update", "use"), "carrack.cli.contexts.commands"
    ),
    "image": {
        "build": _I + "build",
        "history": _I + "history",
        "import": _I + "archive",
        "inspect": _I + "inspect",
        "load": _I + "archive",
        "ls": _I + "list",
        "prune": _I + "prune",
        "pull": _I + "transfer",
        "push": _I + "transfer",
        "rm": _I + "remove",
        "save": _I + "archive",
        "tag": _I + "remove",
    },
    "manifest": dict.fromkeys(("annotate", "create", "inspect", "push", "rm"), _I + "manifests"),
    "network": dict.fromkeys(
        ("connect", "create", "disconnect", "exposure", "inspect", "ls", "prune", "rm"), "carrack.cli.networks"
    ),
    "node": dict.fromkeys(("demote", "inspect", "ls", "promote", "ps", "rm", "update"), _W + "nodes"),
    "plugin": dict.fromkeys(
        ("create", "disable", "enable", "inspect", "install", "ls", "push", "rm", "set", "upgrade"), "carrack.cli.engine_plugins"
    ),
    "registry": dict.fromkeys(("gc", "scrub", "serve"), "carrack.cli.programs"),
    "secret": dict.fromkeys(("create", "inspect", "ls", "rm"), _W + "secrets"),
    "service": dict.fromkeys(
        ("create", "inspect", "logs", "ls", "ps", "rm", "rollback", "scale", "update"), _W + "services.commands"
    ),
    "stack": dict.fromkeys(("config", "deploy", "ls", "ps", "rm", "services"), _W + "stacks.commands"),
    "swarm": dict.fromkeys(("ca", "init", "join", "join-token", "leave", "unlock", "unlock-key", "update"), _W + "cluster"),
    "system": {
        "certs": "carrack.cli.programs",
        "install": "carrack.cli.programs",
        "migrate-from-docker": "carrack.cli.programs",
        "uninstall": "carrack.cli.programs",
        "df": _S + "usage",
        "dial-stdio": _S + "dial",
        "events": _S + "events",
        "fsck": "carrack.cli.programs",
        "info": _S + "info",
        "manpages": "carrack.cli.reference",
        "prune": _S + "prune",
    },
    "volume": {
        **dict.fromkeys(("create", "inspect", "ls", "prune", "rm", "update"), "carrack.cli.volumes"),
        **dict.fromkeys(("clone", "export", "import", "rename"), "carrack.cli.volume_content"),
    },
}

GROUP_SUMMARIES = {
    "builder": "Manage builds",
    "checkpoint": "Manage checkpoints",
    "completion": "Print completion scripts for shells",
    "config": "Manage configs of a swarm",
    "container": "Manage containers",
    "context": "Manage contexts",
    "image": "Manage images",
    "manifest": "Manage manifest lists: one name for images of several platforms",
    "network": "Manage networks",
    "node": "Manage nodes of a swarm",
    "plugin": "Manage plugins of the engine",
    "registry": "Run a registry",
    "secret": "Manage secrets of a swarm",
    "service": "Manage services of a swarm",
    "stack": "Manage stacks: Compose files deployed to a swarm",
    "swarm": "Manage the swarm itself",
    "system": "Manage Carrack",
    "volume": "Manage volumes",
}

TOP: dict[str, str] = {
    **{name: f"container {name}" for name in GROUPS["container"] if name not in ("ls", "inspect", "prune")},
    "ps": "container ls",
    "build": "image build",
    "images": "image ls",
    "rmi": "image rm",
    **{name: f"image {name}" for name in ("history", "import", "load", "pull", "push", "save", "tag")},
    "doctor": "doctor",
    "events": "system events",
    "info": "system info",
    "inspect": "inspect",
    "login": "login",
    "logout": "logout",
    "search": "search",
    "ui": "ui",
    "version": "version",
}

ALONE = {
    "doctor": "carrack.cli.programs",
    "ui": "carrack.cli.programs",
    "inspect": _S + "inspect",
    "login": _S + "login",
    "logout": _S + "login",
    "search": _S + "search",
    "version": _S + "version",
}

ALIASES: dict[str, str] = {
    "container list": "container ls",
    "container ps": "container ls",
    "container remove": "container rm",
    "context list": "context ls",
    "context remove": "context rm",
    "config list": "config ls",
    "config remove": "config rm",
    "checkpoint list": "checkpoint ls",
    "checkpoint remove": "checkpoint rm",
    "image list": "image ls",
    "image remove": "image rm",
    "network list": "network ls",
    "network remove": "network rm",
    "node list": "node ls",
    "node remove": "node rm",
    "plugin list": "plugin ls",
    "plugin remove": "plugin rm",
    "secret list": "secret ls",
    "secret remove": "secret rm",
    "service list": "service ls",
    "service remove": "service rm",
    "stack down": "stack rm",
    "stack list": "stack ls",
    "stack remove": "stack rm",
    "stack up": "stack deploy",
    "volume list": "volume ls",
    "volume remove": "volume rm",
}

HIDDEN = frozenset(("system dial-stdio",))

COMMON = ("run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "search", "version", "info")


def load(path: str) -> Command:
    """The command of a full name (`container run`). Raises KeyError when there is none."""
    group, _, name = path.partition(" ")
    module = GROUPS[group][name] if name else ALONE[group]
    return load_from(module, path)


def load_from(module: str, path: str) -> Command:
    """The command of that name in a file."""
    __import__(module)
    import sys

    for command in sys.modules[module].COMMANDS:
        if command.path == path:
            found: Command = command
            return found
    raise KeyError(path)
