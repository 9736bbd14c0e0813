"""llmctl wake, llmctl sleep"""

from typing import Annotated, Any

import typer

from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.options import JsonOption, VerboseOption, complete_box, complete_profile
from llmctl.cli.output import answer, answer_json, warn
from llmctl.cli.progress import Progress
from llmctl.cli.switch import show_switched, switched_facts
from llmctl.core.hosts import HostEntry
from llmctl.core.progress import Note, Report
from llmctl.engine.alive import Life
from llmctl.engine.box import Box
from llmctl.engine.clock import SystemClock
from llmctl.engine.resume import look_after
from llmctl.engine.sleep import Asleep, put_to_sleep
from llmctl.engine.switch import Options, Switch
from llmctl.engine.wake import TIMEOUT_S, sender
from llmctl.engine.wake import wake as wake_up
from llmctl.errors import LlmctlError, UsageError
from llmctl.host.local import LocalHost
from llmctl.store.hosts import HostsFile


def _argument(help_: str) -> Any:
    return typer.Argument(
        metavar="BOX", envvar="LLMCTL_HOST", autocompletion=complete_box, help=help_
    )


def wake(
    box: Annotated[str, _argument("A box of hosts.yaml.")],
    then: Annotated[
        str | None,
        typer.Option(
            "--then", metavar="NAME", autocompletion=complete_profile, help="Then switch to NAME."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="How long it may take to answer.")
    ] = TIMEOUT_S,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Wake a box that sleeps or is off, and wait until SSH logs in.

    hosts.yaml says which network card to call (mac), and who calls it (via).
    """
    entry = _entry(box)
    via = open_box(entry.via, verbose=verbose).host if entry.via else None
    clock = SystemClock()
    with Progress(quiet=json) as progress:
        took = wake_up(
            box,
            send=sender(box, entry, via=via),
            reach=lambda: _log_in(box),
            clock=clock,
            report=progress.report,
            timeout=timeout,
        )
        if not json:
            answer(f"{box} is awake ({took:.1f} s)", flush=True)
        there = open_box(box, verbose=verbose)
        restarted = _look_after(there, progress.report)
        done = None
        if then is not None:
            done = Switch(
                there, then, options=Options(), clock=clock, report=progress.report
            ).run()  # fmt: skip
    if json:
        switched = done and switched_facts(done)
        answer_json({
            "box": box, "awake_s": round(took, 3), "restarted": restarted, "switch": switched,
        })  # fmt: skip
    elif done is not None:
        show_switched(done, as_json=False)


def _entry(box: str) -> HostEntry:
    here = HostsFile(LocalHost())
    entry = here.boxes.get(box)
    if entry is None:
        known = ", ".join(here.boxes) or "none"
        raise UsageError(
            f"there is no box {box} in {here.path}; there is {known}.",
            hint=f"llmctl host add {box} [USER@]HOST --mac ADDRESS",
        )
    return entry


def _log_in(box: str) -> None:
    """One try, over a connection of its own: one that broke off is not used again."""
    open_box(box).host.environ()


def _look_after(there: Box, report: Report) -> list[str]:
    """Models that were left running, and did not survive the sleep. The box is awake in any case,
    so what cannot be found out is only told."""
    try:
        found = look_after(there, clock=SystemClock(), report=report)
    except LlmctlError as error:
        report(Note(f"whether its models still work was not found out: {error.message}"))
        return []
    return [one.name for one in found if one.life is Life.DEAD]


def sleep(
    box: Annotated[str, _argument("The box; without, this machine.")] = LOCAL,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Stop the models of a box, then suspend it."""
    there = open_box(box, verbose=verbose)
    with Progress(quiet=json) as progress:
        done = put_to_sleep(there, clock=SystemClock(), report=progress.report)
    if json:
        answer_json(_facts(box, done))
        return
    stopped = f"stopped {', '.join(done.stopped)}; " if done.stopped else ""
    answer(f"{stopped}{box} goes to sleep")
    if done.can_be_woken is False:
        cards = " ".join(card.name for card in done.cards if card.wakeup)
        warn(f"no network card of it ({cards}) is armed to wake it: sudo ethtool -s CARD wol g")
    _tell_the_address(box, done)


def _tell_the_address(box: str, done: Asleep) -> None:
    """While it can still be asked, what `wake` will have to know."""
    entry = HostsFile(LocalHost()).boxes.get(box)
    macs = [card.mac for card in done.cards if card.mac]
    if box != LOCAL and macs and (entry is None or entry.mac is None):
        warn(f"to wake it again: llmctl host add {box} --mac {macs[0]}")


def _facts(box: str, done: Asleep) -> dict[str, Any]:
    return {
        "box": box,
        "stopped": list(done.stopped),
        "can_be_woken": done.can_be_woken,
        "cards": [{"name": card.name, "mac": card.mac} for card in done.cards],
    }
