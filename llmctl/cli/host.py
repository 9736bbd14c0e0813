"""llmctl host add, llmctl host list, llmctl host check, llmctl host remove"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer

from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.options import BoxArgument, JsonOption, VerboseOption
from llmctl.cli.output import answer, answer_json, say, table
from llmctl.core.hosts import HostEntry
from llmctl.core.tailnet import Peer, peer_named
from llmctl.engine.peers import peers_of
from llmctl.errors import HostError, UsageError
from llmctl.host.local import LocalHost
from llmctl.store.hosts import HostsFile
from llmctl.store.known_boxes import KnownBoxes

host = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@host.callback()
def root() -> None:
    """Boxes: which there are, and how they are reached."""


@host.command()
def add(
    box: Annotated[
        str | None, typer.Argument(metavar="[BOX]", help="What to call it; without, see below.")
    ] = None,
    destination: Annotated[
        str | None,
        typer.Argument(metavar="[DESTINATION]", help="What you would type after `ssh`."),
    ] = None,
    mac: Annotated[str | None, typer.Option(help="Its network card's address, to wake it.")] = None,
    via: Annotated[
        str | None, typer.Option(metavar="BOX", help="Who on its LAN sends the magic packet.")
    ] = None,
    broadcast: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where the magic packet is sent to.")
    ] = None,
    notes: Annotated[str | None, typer.Option(help="What you want to remember of it.")] = None,
    json: JsonOption = False,
) -> None:
    """Write a box into hosts.yaml, or change what is said there.

    Without BOX, the machines of your tailnet are listed; BOX alone may be one of them.
    """
    here = HostsFile(LocalHost())
    if box is None:
        offer(here, peers_of(LocalHost()), as_json=json)
        return
    given = {"ssh": destination, "mac": mac, "via": via, "broadcast": broadcast, "notes": notes}
    before = here.boxes.get(box)
    said = {key: one for key, one in given.items() if one is not None}
    entry = msgspec.structs.replace(before or HostEntry(ssh=_found(box, destination)), **said)
    here.add(box, entry)
    if json:
        answer_json(_facts(box, entry))
        return
    answer(f"{box} is {entry.ssh}, in {here.path}")
    if before is None:
        say(f"hint: llmctl host check {box}")


def _found(box: str, destination: str | None) -> str:
    """Where a box is that nobody said it of: a machine of the tailnet, or its name is enough."""
    if destination is not None:
        return destination
    try:
        peer = peer_named(box, peers_of(LocalHost()) or ())
    except HostError:  # then it need not be one of them
        return box
    return peer.destination if peer else box


def offer(here: HostsFile, peers: Sequence[Peer] | None, *, as_json: bool) -> None:
    """Show the machines of the tailnet, and how one becomes a box. UsageError: there are none to
    show, since there is no tailscale."""
    if peers is None:
        raise UsageError(
            "which box? There is no tailscale here to ask for machines.",
            hint="llmctl host add BOX [USER@]HOST",
        )
    known = {entry.ssh.rpartition("@")[2]: name for name, entry in here.boxes.items()}
    if as_json:
        answer_json([_peer_facts(one, known) for one in peers])
        return
    rows = [
        (one.name, one.address or "-", one.os or "-", "yes" if one.online else "no",
         "tailscale" if one.has_ssh else "-", _box_of(one, known) or "-")
        for one in peers
    ]  # fmt: skip
    table(("NAME", "ADDRESS", "OS", "ONLINE", "SSH", "BOX"), rows)
    new = next((one.name for one in peers if not _box_of(one, known)), None)
    if new:
        say(f"hint: llmctl host add {new}")


def _box_of(peer: Peer, known: Mapping[str, str]) -> str | None:
    """The box that a machine is already."""
    return known.get(peer.name) or known.get(peer.address)


def _peer_facts(peer: Peer, known: Mapping[str, str]) -> dict[str, Any]:
    return {**msgspec.to_builtins(peer), "box": _box_of(peer, known)}


@host.command("list")
def list_(json: JsonOption = False) -> None:
    """The boxes of hosts.yaml."""
    here = HostsFile(LocalHost())
    if json:
        answer_json([_facts(name, entry) for name, entry in here.boxes.items()])
        return
    rows = [
        (name, one.ssh, one.mac or "-", one.via or "-", one.notes or "-")
        for name, one in here.boxes.items()
    ]
    table(("BOX", "SSH", "MAC", "VIA", "NOTES"), rows)
    if not rows:
        say(f"{here.path} names no boxes.\nhint: llmctl host add BOX [USER@]HOST")


def _facts(name: str, entry: HostEntry) -> dict[str, Any]:
    """The JSON shape of a box; docs/reference/json.md holds it."""
    return {"name": name, **msgspec.to_builtins(entry)}


@host.command()
def check(box: BoxArgument, json: JsonOption = False, verbose: VerboseOption = False) -> None:
    """What it takes to drive a box from here: each finding with what mends it.

    Exits with 1 when something is wrong, and with 5 when nobody can log in.
    """
    if box == LOCAL:
        raise UsageError("this machine needs no ssh.", hint="llmctl doctor")
    from llmctl.cli.doctor import tell
    from llmctl.engine.host_check import check as look

    entry = HostsFile(LocalHost()).boxes.get(box)
    ours = datetime.now(UTC).timestamp()
    tell(look(open_box(box, verbose=verbose), name=box, entry=entry, ours=ours), as_json=json)


@host.command()
def remove(box: BoxArgument, json: JsonOption = False) -> None:
    """Take a box out of hosts.yaml. Nothing is changed on the box itself."""
    here = HostsFile(LocalHost())
    if box not in here.boxes:
        known = ", ".join(here.boxes) or "none"
        raise UsageError(f"there is no box {box} in {here.path}.", hint=f"There is {known}.")
    here.remove(box)
    KnownBoxes(LocalHost()).forget(box)
    if json:
        answer_json({"removed": box})
    else:
        answer(f"removed {box} from {here.path}")
