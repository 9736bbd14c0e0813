"""llmctl switch, llmctl off"""

import sys
from typing import Annotated

import typer

from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.options import (
    HostOption,
    JsonOption,
    NameArgument,
    VerboseOption,
    complete_profile,
)
from llmctl.cli.output import INTERRUPTED, answer, answer_json, say
from llmctl.cli.progress import Progress
from llmctl.engine.clock import SystemClock
from llmctl.engine.execute import STOP_TIMEOUT_S
from llmctl.engine.off import off as turn_off
from llmctl.engine.off import units_named, units_of
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
    _show(done, as_json=json)
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


def _show(done: Switched, *, as_json: bool) -> None:
    if as_json:
        answer_json({
            "profile": done.profile,
            "previous": done.previous,
            "state": done.state.value,
            "ready_s": done.ready_s and round(done.ready_s, 3),
            "url": done.url,
            "stopped": list(done.stopped),
        })  # fmt: skip
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
    host: HostOption = LOCAL,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Stop the running models."""
    if group is not None and everything:
        raise UsageError("--group and --all exclude each other.")
    if names and (group is not None or everything):
        raise UsageError("NAME stands alone, without --group or --all.")
    box = open_box(host, verbose=verbose)
    units = units_named(box, names) if names else units_of(box, group, everything=everything)
    with Progress(quiet=json) as progress:
        stopped = turn_off(
            box, units, clock=SystemClock(), report=progress.report, timeout=STOP_TIMEOUT_S
        )
    if json:
        answer_json({"stopped": list(stopped.profiles)})
    elif stopped.profiles:
        answer(f"stopped {', '.join(stopped.profiles)}")
    else:
        answer("nothing was running")
