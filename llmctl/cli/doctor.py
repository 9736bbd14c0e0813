"""llmctl doctor"""

from datetime import UTC, datetime
from typing import Any

import typer

from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.options import HostOption, JsonOption, VerboseOption
from llmctl.cli.output import answer, answer_json, table
from llmctl.core.finding import Finding, Grade
from llmctl.engine.doctor import Checked, Diagnosis, examine, from_another_machine

WRONG = 1


def doctor(
    host: HostOption = LOCAL, json: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """What is wrong with a box, why it matters, and what to type.

    A model whose GPU context died while the box slept is restarted; nothing else is changed.

    Exits with 1 when something is wrong.
    """
    box = open_box(host, verbose=verbose)
    ours = None if host == LOCAL else datetime.now(UTC).timestamp()
    found = examine(box, ours=ours)
    tell(found if host == LOCAL else from_another_machine(found), as_json=json)


def tell(found: Diagnosis, *, as_json: bool) -> None:
    """Print it; end with status 1 when something is wrong."""
    if as_json:
        answer_json(facts(found))
    else:
        _show(found)
    if not found.is_sound:
        raise typer.Exit(WRONG)


def _show(found: Diagnosis) -> None:
    rows = [(one.check.name, one.grade.value, _about(one)) for one in found.checked]
    table(("CHECK", "STATE", "ABOUT"), rows)
    told = [(checked, one) for checked in found.checked for one in checked.findings]
    for checked, one in told:
        answer(f"\n{checked.check.name}: {one.what}")
        answer(f"  why:  {one.why}")
        answer(f"  type: {one.do}")
    counted = sum(one.grade is Grade.WRONG for _, one in told)
    if counted:
        answer(f"\n{counted} {'thing is' if counted == 1 else 'things are'} wrong")
    else:
        answer("\nnothing is wrong")


def _about(one: Checked) -> str:
    if not one.behind:
        return one.check.about
    return f"not looked at: {' and '.join(one.behind)} must be ok first"


def facts(found: Diagnosis) -> dict[str, Any]:
    """The JSON shape; docs/reference/json.md holds it."""
    return {
        "host": found.host,
        "sound": found.is_sound,
        "checks": [
            {
                "name": one.check.name,
                "state": one.grade.value,
                "about": one.check.about,
                "behind": list(one.behind),
                "findings": [_finding(each) for each in one.findings],
            }
            for one in found.checked
        ],
    }


def _finding(one: Finding) -> dict[str, str]:
    return {"state": one.grade.value, "what": one.what, "why": one.why, "do": one.do}
