"""llmctl enable, llmctl disable"""

from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.options import HostOption, JsonOption, NameArgument, VerboseOption
from llmctl.cli.output import answer, answer_json, warn
from llmctl.cli.progress import Progress
from llmctl.engine.boot import disable as turn_off
from llmctl.engine.boot import enable as turn_on
from llmctl.engine.clock import SystemClock


def enable(
    name: NameArgument,
    host: HostOption = LOCAL,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Start NAME at boot.

    Of a group only one can: the others are disabled.
    """
    with Progress(quiet=json, steps=False) as progress:
        done = turn_on(
            open_box(host, verbose=verbose), name, clock=SystemClock(), report=progress.report
        )
    if json:
        answer_json({"enabled": name, "disabled": list(done.disabled), "linger": done.linger})
        return
    instead = f", and {', '.join(done.disabled)} no longer" if done.disabled else ""
    answer(f"{name} starts at boot{instead}")
    if not done.linger:
        warn(
            f"without linger it starts at your login only: sudo loginctl enable-linger {done.user}"
        )


def disable(
    name: NameArgument,
    host: HostOption = LOCAL,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Do not start NAME at boot."""
    turn_off(open_box(host, verbose=verbose), name)
    if json:
        answer_json({"disabled": [name]})
    else:
        answer(f"{name} does not start at boot")
