"""Whether the daemon has what a command line asks for: the refusal comes from here, before anything is sent."""

from __future__ import annotations

from carrack.cli.failure import PROGRAM, CommandFailure
from carrack.client.engine import version_tuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.cli.command import Command
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session


def check_support(session: Session, command: Command, parsed: Parsed, shown: str) -> None:
    """Refuses a command, then flags, that this daemon does not have. Raises CommandFailure with Docker's text."""
    reason = _lack(session, command.needs, f"{PROGRAM} {shown}")
    if reason:
        raise CommandFailure(reason)
    reasons = [_lack(session, flag.needs, f'"--{flag.name}"') for flag in parsed.needing()]
    if any(reasons):
        raise CommandFailure("\n".join([reason for reason in reasons if reason]))


def _lack(session: Session, needs: str, name: str) -> str:
    if not needs:
        return ""
    if needs == "experimental":
        about = session.engine.ping()
        if about.get("docker-experimental", "").lower() == "true" or "+carrack" in about.get("server", ""):
            return ""  # a Carrack needs no mode for anything, and says itself what it lacks
        return f"{name} is only supported on a Docker daemon with experimental features enabled"
    if needs == "windows":
        system = session.engine.ping().get("ostype", "")
        if system in ("", "windows"):
            return ""
        return f"{name} is only supported on a Docker daemon running on windows, but the Docker daemon is running on {system}"
    version = session.engine.version
    if version_tuple(version) >= version_tuple(needs):
        return ""
    return f"{name} requires API version {needs}, but the Docker daemon API version is {version}"
