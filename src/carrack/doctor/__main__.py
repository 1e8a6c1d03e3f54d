"""`carrack doctor [--data-root DIR] [--json]`: prints each finding; exit code 1 when no container could run."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from carrack.doctor.examinations import examine
from carrack.doctor.finding import Finding, Verdict

_MARKS = {Verdict.GOOD: ("ok", "32"), Verdict.LACKING: ("!", "33"), Verdict.BAD: ("FAIL", "31")}


def main() -> int:
    """Examines this machine."""
    parser = argparse.ArgumentParser(prog="carrack doctor", description="Whether this machine has what carrackd needs.")
    parser.add_argument("--data-root", default="/var/lib/carrack", metavar="DIR", help="where images go (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON document a finding")
    options = parser.parse_args()
    findings: list[Finding] = []
    for finding in examine(Path(options.data_root)):
        findings.append(finding)
        print(json.dumps(asdict(finding)) if options.json else _line(finding), flush=True)
    bad = [finding for finding in findings if finding.verdict == Verdict.BAD]
    lacking = [finding for finding in findings if finding.verdict == Verdict.LACKING]
    if not options.json:
        print(f"\n{_summary(len(bad), len(lacking))}")
    return 1 if bad else 0


def _line(finding: Finding) -> str:
    mark, colour = _MARKS[finding.verdict]
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        mark = f"\x1b[{colour}m{mark:<4}\x1b[0m"
    text = f"{mark:<4} {finding.subject}: {finding.fact}"
    return text + (f"\n       → {finding.advice}" if finding.advice else "")


def _summary(bad: int, lacking: int) -> str:
    if bad:
        return f"{bad} thing{'s' * (bad > 1)} must be put right before containers run here."
    if lacking:
        return f"Containers run here; {lacking} thing{'s' * (lacking > 1)} could be better."
    return "Containers run here; nothing is wanting."


if __name__ == "__main__":
    sys.exit(main())
