"""`--explain` of `run` and `start`: the plan that the daemon carried out for a start, in order, with each step's time."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.session import Session

EXPLAIN_FLAG = "        --explain bool                Show the steps of the start and their times (--explain=json for programs)\n"


def read_format(text: str) -> str:
    """`--explain` alone means text. Raises ValueError."""
    chosen = {"true": "text", "false": "", "text": "text", "json": "json"}.get(text)
    if chosen is None:
        raise ValueError("want text or json")
    return chosen


def start(session: Session, path: str, query: dict[str, str], chosen: str) -> None:
    """Order a start, and show its steps on standard error where they were asked for. Raises what the daemon says."""
    if not chosen:
        session.engine.order("POST", path, query)
        return
    answer = session.engine.request("POST", path, {**query, "explain": "1"})
    content = answer.read_all()
    if not content:
        session.err.line("This daemon does not explain its starts.")
    elif chosen == "json":
        session.err.line(content.decode().strip())
    else:
        from carrack.client.codec import decode

        for line in table(decode(content.decode())):
            session.err.line(line)
    session.err.flush()


def table(explanation: dict[str, Any]) -> list[str]:
    """The steps as lines: time, who, what."""
    steps: list[dict[str, Any]] = explanation["Steps"]
    rows = [f"{_milliseconds(step['Microseconds']):>10}  {step['By']:<9} {step['Step']}" for step in steps]
    total = _milliseconds(explanation["TotalMicroseconds"])
    return [f"{'TIME':>10}  {'BY':<9} STEP", *rows, f"{total:>10}  {'':<9} altogether (daemon and container work side by side)"]


def _milliseconds(microseconds: int) -> str:
    return f"{microseconds / 1000:.2f} ms"
