"""What commands do otherwise for a box elsewhere: the proxy's program is there, not here."""

import re
import sys

import typer

from llmctl.cli.boxes import LOCAL
from llmctl.cli.output import answer, say
from llmctl.core.proxy_unit import SERVICE
from llmctl.engine.box import Box
from llmctl.errors import HostError

INSTALL_TIMEOUT_S = 120.0
_PYTHON = re.compile(r'^ExecStart="?(/[^"\s]+)', re.MULTILINE)


def proxy_python(box: Box) -> str:
    """The Python that runs the proxy: ours on this machine, elsewhere the one of its unit."""
    if box.host.name == LOCAL:
        return sys.executable
    found = _PYTHON.search(box.store.unit_text(SERVICE) or "")
    return found[1] if found else "/usr/bin/python3"


def on_the_box(box: Box, *words: str) -> None:
    """Have the box's own llmctl run a command, and end as it ended. HostError: it has none."""
    program = box.host.which("llmctl")
    name = box.host.name
    if program is None:
        raise HostError(
            f"the proxy runs on {name} and needs llmctl there; everything else does without.",
            hint=f"Install it: ssh {name} pipx install llmctl. Then again: llmctl "
            f"{' '.join(words)} --host {name}",
        )
    done = box.host.run((program, *words), timeout=INSTALL_TIMEOUT_S)
    if done.stderr:
        say(done.stderr.rstrip("\n"))
    if done.stdout:
        answer(done.stdout.rstrip("\n"))
    raise typer.Exit(done.status)
