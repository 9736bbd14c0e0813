"""llmctl guard test"""

import sys
from typing import Annotated, Any

import typer

from llmctl.cli.boxes import LOCAL, open_box
from llmctl.cli.options import JsonOption
from llmctl.cli.output import answer, answer_json
from llmctl.cli.paths import absolute
from llmctl.core.guard.survey import Sighting, Survey, survey
from llmctl.core.guard.verdict import Channel
from llmctl.errors import UsageError

_KINDS = {
    "exact": "{copies:.1f} equal copies of {block} bytes",
    "drift": "at least {copies:.0f} copies of about {block} bytes that differ a little",
    "endless": "nothing new for {span} bytes",
}


def look(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A text; - for standard input.")],
    channel: Annotated[
        Channel, typer.Option(help="Where a model would have written it.")
    ] = Channel.CONTENT,
    window: Annotated[
        int, typer.Option(metavar="N", min=4096, help="Bytes that are looked back at.")
    ] = 65536,
    json: JsonOption = False,
) -> None:
    """Look for loops in a text, as the proxy does in what models write."""
    text = _read(file)
    found = survey(text, channel, window=window)
    if json:
        answer_json(facts(found, file=file, channel=channel, size=len(text)))
        return
    for one in found.sightings:
        answer(f"{file}:{one.line}: {_said(one)}")
        answer(f"  begins at byte {one.loop.start}, certain after {one.loop.span} bytes")
        answer(f"  a client is shown {one.shown} bytes of it")
        answer(f"  {one.sample!r}")
    if not found.sightings:
        answer(f"{file}: no loop; at most {found.held_most} bytes were held back at once")


def _read(file: str) -> bytes:
    if file == "-":
        if sys.stdin is None:  # it was closed by who started this
            raise UsageError("There is no standard input.", hint="Name a file, or pipe a text in.")
        return sys.stdin.buffer.read()
    box = open_box(LOCAL)
    try:
        return box.host.read(absolute(box, file))
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read: {error.strerror or error}.",
            hint="Name a file, or - to read standard input.",
        ) from None


def _said(one: Sighting) -> str:
    loop = one.loop
    return _KINDS[loop.kind].format(copies=one.copies, block=loop.block, span=loop.span)


def facts(found: Survey, *, file: str, channel: Channel, size: int) -> dict[str, Any]:
    """The JSON shape of `guard test`; docs/reference/json.md holds it."""
    return {
        "file": file,
        "channel": channel.value,
        "text_bytes": size,
        "held_most_bytes": found.held_most,
        "loops": [
            {
                "kind": one.loop.kind,
                "line": one.line,
                "start_bytes": one.loop.start,
                "block_bytes": one.loop.block,
                "span_bytes": one.loop.span,
                "end_bytes": one.end,
                "copies": round(one.copies, 1),
                "shown_bytes": one.shown,
                "sample": one.sample,
            }
            for one in found.sightings
        ],
    }
