"""What the check of a Dockerfile finds: told with the lines it is about, refused where the file asks so, and given to programs."""

from __future__ import annotations

from collections.abc import Sequence

from carrack.build.dockerfile.failure import Position
from carrack.build.dockerfile.lint_rules import LintWarning, lint_document, read_choice
from carrack.build.dockerfile.stages import Dockerfile, Stage
from carrack.build.plan import Plan
from carrack.build.progress import Tell, Warned
from carrack.build.request import BuildRequest
from carrack.build.request_file import excerpt
from carrack.errors import InvalidParameter


def of_plan(file: Dockerfile, plan: Plan) -> list[LintWarning]:
    """What only the conversion could find, of the rules that the file does not skip."""
    choice = read_choice(file.syntax.directive("check"))
    return [LintWarning(rule, text, Position(line, line)) for rule, text, line in plan.warnings if choice.wants(rule)]


def tell_all(file: Dockerfile, warnings: Sequence[LintWarning], tell: Tell) -> None:
    """Tell each finding, with an excerpt of the file."""
    for warning in warnings:
        at = warning.position
        source = excerpt(file, at.start, at.end)
        tell(Warned(warning.rule, warning.message, warning.url, file.syntax.file, at.start, (warning.summary,), at.end, source))


def refuse(file: Dockerfile, warnings: Sequence[LintWarning]) -> None:
    """`# check=error=true`: any finding ends the build. Raises InvalidParameter."""
    if warnings and read_choice(file.syntax.directive("check")).error:
        lines = "\n".join(f" - {warning}" for warning in warnings)
        raise InvalidParameter(f"lint violation found for rules: {', '.join(sorted({w.rule for w in warnings}))}\n{lines}")


def answer(
    request: BuildRequest, file: Dockerfile, target: Stage, content: bytes, warnings: Sequence[LintWarning]
) -> dict[str, object]:
    """What a method of the front end gives. Raises InvalidParameter for one that there is not."""
    from carrack.build.dockerfile import outline

    match request.call:
        case "check":
            return lint_document(file.syntax.file, warnings, content)
        case "outline":
            return outline.outline(file, target, content, request.build_arguments)
        case "targets":
            return outline.targets(file, content)
        case "subrequests.describe":
            return outline.methods()
    raise InvalidParameter(f"unsupported request {request.call!r}: want check, outline, targets or subrequests.describe")
