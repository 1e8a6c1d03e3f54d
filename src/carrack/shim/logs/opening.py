"""From a plan to the log driver that it names."""

from __future__ import annotations

from carrack.errors import InvalidParameter
from carrack.shim.logs import json_file, local
from carrack.shim.logs.passing_on import PassingLog, open_destination
from carrack.shim.logs.rotation import Compressor, RotatingFile
from carrack.shim.logs.writer import JsonFileLog, LocalLog, Log, NoLog
from carrack.shim.messages import LogPlan


def open_log(plan: LogPlan, compressor: Compressor | None) -> Log:
    """The driver that `plan` names. Raises OSError, SystemFailure when nobody takes what is to be passed on, InvalidParameter for a
    driver that is not ours."""
    if plan.driver == "none":
        return NoLog()
    if plan.driver not in ("local", "json-file"):
        raise InvalidParameter(f"logger: no log driver named '{plan.driver}' is registered")
    destination = open_destination(plan.pass_on) if plan.pass_on is not None else None
    is_local = plan.driver == "local"
    file = RotatingFile(
        plan.path,
        max_size_bytes=plan.max_size_bytes,
        max_files=plan.max_files,
        preamble=local.MAGIC if is_local else b"",
        complete_bytes=local.complete_bytes if is_local else json_file.complete_bytes,
        compressor=compressor if plan.compress else None,
    )
    if destination is not None:
        return PassingLog(file, destination)
    return LocalLog(file) if is_local else JsonFileLog(file, plan.attributes)
