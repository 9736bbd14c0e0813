"""llmctl proxy install, llmctl proxy status, llmctl proxy uninstall"""

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from llmctl.cli.apply import show_changes
from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.far import on_the_box, proxy_python
from llmctl.cli.options import HostOption, JsonOption, VerboseOption
from llmctl.cli.output import answer, answer_json, duration, gib, typed_here, warn
from llmctl.cli.progress import Progress
from llmctl.core.proxy_unit import SERVICE, SOCKET
from llmctl.engine.clock import SystemClock
from llmctl.engine.proxy_setup import install as set_up
from llmctl.engine.proxy_setup import uninstall as take_down
from llmctl.engine.proxy_status import ProxyStatus, proxy_status

_REMEDIES = {
    "llmctl apply": ("missing", "stale"),
    "llmctl proxy install --overwrite": ("edited",),
    "correct config.yaml, then llmctl apply": ("broken",),
    "not llmctl's; move it away, then llmctl proxy install": ("foreign",),
}
"""What to do about a unit's file, by what it is."""

proxy = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@proxy.callback()
def root() -> None:
    """The proxy: one URL for all models, and no request lost."""


@proxy.command()
def install(
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Render units anew that were edited by hand.")
    ] = False,
    host: HostOption = LOCAL,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Install the proxy's units, and start them now and at boot.

    Doing it again changes nothing but what is stale.
    """
    box = open_box(host, verbose=verbose)
    if host != LOCAL:
        flags = (*["--overwrite"] * overwrite, *["--json"] * json)
        on_the_box(box, "proxy", "install", *flags)
    with Progress(quiet=json, steps=False) as progress:
        done = set_up(
            box, sys.executable, clock=SystemClock(), report=progress.report, overwrite=overwrite
        )
    urls = [f"http://{one}" for one in done.listen]
    if json:
        units = [{"unit": one.unit, "change": one.kind.value} for one in done.changes]
        answer_json({"units": units, "listen": urls, "linger": done.linger})
        return
    show_changes(box, done.changes)
    answer(f"the proxy listens on {', '.join(urls)}")
    warn_of_linger(done.linger, done.user)
    for problem in done.problems:
        warn(problem)


def warn_of_linger(linger: bool, user: str) -> None:
    """The proxy's user manager ends with its last session."""
    if not linger:
        warn(f"without linger it ends with your login: sudo loginctl enable-linger {user}")


@proxy.command()
def status(
    host: HostOption = LOCAL, json: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Whether the proxy is installed and runs, and what it is at."""
    box = open_box(host, verbose=verbose)
    seen = proxy_status(box, proxy_python(box))
    if json:
        answer_json(facts(seen))
        return
    if not seen.installed:
        answer(typed_here("the proxy is not installed: llmctl proxy install"))
    else:
        for line in _lines(seen):
            answer(line)
        warn_of_linger(seen.linger, box.host.environ().get("USER", "$USER"))
    for problem in seen.problems:
        warn(problem)


def _lines(seen: ProxyStatus) -> list[str]:
    listen = ", ".join(f"http://{one}" for one in seen.listen)
    lines = [f"state:   {seen.state}", f"listens: {listen}"]
    if seen.pid:
        lines.append(f"process: {seen.pid}, up {duration(seen.uptime_s)}, {gib(seen.memory_bytes)}")
    if seen.told is not None:
        one = seen.told
        lines.append(
            f"clients: {counted(one.connections, 'connection')}, "
            f"{counted(one.in_flight, 'request')} under way, {one.waiting} waiting"
        )
    lines += _odd_units(seen.files)
    return lines + ([] if seen.enabled else ["at boot: no; llmctl proxy install"])


def _odd_units(files: Mapping[str, str]) -> list[str]:
    """Each with what helps: `apply` leaves edits as they are, and knows no more than we do of what
    units should be while config.yaml is wrong."""
    lines = []
    for remedy, words in _REMEDIES.items():
        odd = [f"{unit} is {word}" for unit, word in files.items() if word in words]
        lines += [f"units:   {', '.join(odd)}: {remedy}"] if odd else []
    return lines


def counted(number: int, what: str) -> str:
    """1 connection, 2 connections."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def facts(seen: ProxyStatus) -> dict[str, Any]:
    """The JSON shape of `proxy status`; docs/reference/json.md holds it."""
    told = seen.told
    return {
        "installed": seen.installed,
        "state": seen.state,
        "units": seen.files,
        "listen": [f"http://{one}" for one in seen.listen],
        "enabled": seen.enabled,
        "linger": seen.linger,
        "pid": seen.pid or None,
        "uptime_s": seen.uptime_s and round(seen.uptime_s, 1),
        "memory_bytes": seen.memory_bytes,
        "version": told and told.version,
        "connections": told and told.connections,
        "in_flight": told and told.in_flight,
        "waiting": told and told.waiting,
        "problems": list(seen.problems),
    }


@proxy.command()
def uninstall(
    host: HostOption = LOCAL, json: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Stop the proxy, after what is under way, and remove its units."""
    box = open_box(host, verbose=verbose)
    with Progress(quiet=json, steps=False) as progress:
        done = take_down(box, clock=SystemClock(), report=progress.report)
    if json:
        answer_json({"removed": list(done.removed), "edited": list(done.edited)})
        return
    for unit in (SOCKET, SERVICE):
        path = box.store.unit_path(unit)
        if unit in done.removed:
            answer(f"removed {path}")
        elif unit in done.edited:
            warn(f"{path} was edited by hand; remove it yourself: rm {path}")
    if not (done.removed or done.edited):
        answer("the proxy is not installed")
