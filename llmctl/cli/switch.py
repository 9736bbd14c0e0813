"""llmctl switch, llmctl off"""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import typer

from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.options import (
    HostOption,
    HostsOption,
    JsonOption,
    NameArgument,
    VerboseOption,
    complete_profile,
)
from llmctl.cli.output import INTERRUPTED, answer, answer_json, say
from llmctl.cli.progress import Progress
from llmctl.cli.several import answer_each, ask_each, complain_of_each, leave, names_of, notes_of
from llmctl.core.progress import Report
from llmctl.engine.box import Box
from llmctl.engine.clock import SystemClock
from llmctl.engine.execute import STOP_TIMEOUT_S
from llmctl.engine.off import Stopped, units_named, units_of
from llmctl.engine.off import off as turn_off
from llmctl.engine.switch import TIMEOUT_S, Options, Switch, Switched
from llmctl.engine.switch import dry_run as steps_of
from llmctl.errors import LlmctlError, UsageError


def switch(
    name: NameArgument,
    timeout: Annotated[
        float,
        typer.Option(min=1, metavar="SECONDS", help="Give up when nothing has moved for so long."),
    ] = TIMEOUT_S,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Ask systemd for it and return.")
    ] = False,
    no_rollback: Annotated[
        bool, typer.Option("--no-rollback", help="Leave a failed model as it is.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the steps.")] = False,
    host: HostOption = LOCAL,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Make NAME the running model of its group.

    Waits until it truly answers under its own name. If it does not, the model that ran before is
    brought back and the reason is told, with the server's last lines.
    """
    options = Options(timeout=timeout, wait=not no_wait, rollback=not no_rollback)
    with Progress(quiet=json) as progress:
        work = Switch(
            open_box(host, verbose=verbose), name, options=options, clock=SystemClock(),
            report=progress.report,
        )  # fmt: skip
        if dry_run:
            _show_steps(work, as_json=json)
            return
        try:
            done = work.run()
        except KeyboardInterrupt:
            _interrupted(work)
            raise typer.Exit(INTERRUPTED) from None
    show_switched(done, as_json=json)
    if done.ready_s is not None and work.executor.asked:
        _learn(work, verbose=verbose)


def _learn(work: Switch, *, verbose: bool) -> None:
    """Note what the model really allocated, for later plans: after the answer, for nobody is to
    wait for it, and it is no part of the switch whether it can be read."""
    sys.stdout.flush()
    from llmctl.engine.observing import observe

    try:
        observe(work.box, work.wanted.profile)
    except (LlmctlError, KeyboardInterrupt) as error:
        if verbose:
            say(f"what it allocated was not noted: {error}")


def _show_steps(work: Switch, *, as_json: bool) -> None:
    steps = steps_of(work)
    if as_json:
        answer_json({"profile": work.wanted.profile, "previous": work.previous, "steps": steps})
        return
    for step in steps:
        answer(step)


def _interrupted(work: Switch) -> None:
    """What goes on without us is what systemd was asked for."""
    name, previous = work.wanted.profile, work.previous
    asked = work.executor.asked
    if not asked:
        say(f"interrupted: nothing was started; {previous or 'nothing'} runs, as before.")
    elif not work.failed:
        say(f"interrupted: the switch to {name} goes on in systemd.")
    elif previous and len(asked) > 1:
        say(f"interrupted: {name} had failed; {previous} is coming back in systemd.")
    else:
        say(f"interrupted: {name} had failed, and nothing was started again yet.")
    say("hint: `llmctl status` shows how it ended; `llmctl off` stops it.")


def switched_facts(done: Switched) -> dict[str, Any]:
    """The JSON shape of `switch`; docs/reference/json.md holds it."""
    return {
        "profile": done.profile,
        "previous": done.previous,
        "state": done.state.value,
        "ready_s": done.ready_s and round(done.ready_s, 3),
        "url": done.url,
        "stopped": list(done.stopped),
    }


def show_switched(done: Switched, *, as_json: bool) -> None:
    """How a switch ended."""
    if as_json:
        answer_json(switched_facts(done))
        return
    before = done.previous if done.previous not in (None, done.profile) else None
    instead = f", instead of {before}" if before else ""
    instead += f", for which {' and '.join(done.stopped)} stopped" if done.stopped else ""
    if done.ready_s is None:
        answer(f"{done.profile} is starting{instead}: {done.url}")
    else:
        answer(f"{done.profile} is ready{instead}: {done.url} ({done.ready_s:.1f} s)")


def off(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            autocompletion=complete_profile,
            help="Only these; otherwise the models of all groups.",
        ),
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="GROUP", help="Only this group; otherwise all groups.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Residents too.")] = False,
    host: HostsOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Stop the running models."""
    if group is not None and everything:
        raise UsageError("--group and --all exclude each other.")
    if names and (group is not None or everything):
        raise UsageError("NAME stands alone, without --group or --all.")
    wanted = _Wanted(tuple(names or ()), group, everything)
    boxes = names_of(host)
    if len(boxes) > 1:
        _off_each(boxes, wanted, as_json=json, verbose=verbose)
        return
    box = open_box(boxes[0], verbose=verbose)
    with Progress(quiet=json) as progress:
        stopped = _off(box, wanted, progress.report)
    if json:
        answer_json(_off_facts(stopped))
    else:
        answer(_off_words(stopped))


class _Wanted(msgspec.Struct, frozen=True):
    """What is to be stopped: these profiles, or a group, or everything."""

    names: tuple[str, ...] = ()
    group: str | None = None
    everything: bool = False


def _off(box: Box, wanted: _Wanted, report: Report) -> Stopped:
    if wanted.names:
        units = units_named(box, wanted.names)
    else:
        units = units_of(box, wanted.group, everything=wanted.everything)
    return turn_off(box, units, clock=SystemClock(), report=report, timeout=STOP_TIMEOUT_S)


def _off_each(boxes: Sequence[str], wanted: _Wanted, *, as_json: bool, verbose: bool) -> None:
    told = ask_each(boxes, lambda box: _off(box, wanted, notes_of(box.host.name)), verbose=verbose)
    if as_json:
        answer_each(told, _off_facts)
    else:
        for one in told:
            if one.answer is not None:
                answer(f"{one.box}: {_off_words(one.answer)}")
        complain_of_each(told)
    leave(told)


def _off_facts(stopped: Stopped) -> dict[str, list[str]]:
    return {"stopped": list(stopped.profiles)}


def _off_words(stopped: Stopped) -> str:
    return f"stopped {', '.join(stopped.profiles)}" if stopped.profiles else "nothing was running"
