"""What hosts.yaml says: the boxes that a person types names of, and how each is reached."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from llmctl.core.document import Path, build
from llmctl.core.words import NAME

LOCAL = "local"
"""The name of the machine one types at; no box may take it."""

# A destination that begins with `-` would be an option of ssh's.
_Destination = Annotated[str, Meta(pattern=r"^[^\s-]\S*$")]
_Mac = Annotated[str, Meta(pattern=r"^[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}$")]
_Address = Annotated[str, Meta(pattern=r"^(?:[0-9]{1,3}\.){3}[0-9]{1,3}$")]


class HostEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One box: how SSH reaches it, and what waking it takes."""

    ssh: Annotated[
        _Destination,
        Meta(
            title="[user@]host, ssh://[user@]host:port, or an alias of ~/.ssh/config",
            description="What you would type after `ssh`. What is not said in it is looked up in "
            "`~/.ssh/config`.",
            examples=["llm@ancalagon"],
        ),
    ]
    mac: Annotated[
        _Mac | None,
        Meta(
            title="six pairs of hexadecimal digits with colons",
            description="The address of its network card, to wake it.",
            examples=["a8:a1:59:00:12:34"],
        ),
    ] = None
    via: Annotated[
        _Destination | None,
        Meta(
            title="another box of this file, or what `ssh` takes",
            description="A machine on its LAN that sends the magic packet, where yours is "
            "elsewhere.",
            examples=["raspi"],
        ),
    ] = None
    broadcast: Annotated[
        _Address | None,
        Meta(
            title="an IPv4 address",
            description="Where the magic packet is sent to; 255.255.255.255 otherwise. That of "
            "its network, where several networks are attached.",
            examples=["192.168.1.255"],
        ),
    ] = None
    notes: Annotated[
        str,
        Meta(
            title="text",
            description="What you want to remember of it.",
            examples=["two 3090 in the closet"],
        ),
    ] = ""


class Hosts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of hosts.yaml."""

    boxes: Annotated[
        dict[str, HostEntry],
        Meta(title="names with {ssh: DESTINATION, ...} each", description="Boxes by name."),
    ] = {}


def parse_hosts(raw: Any, *, file: str) -> Mapping[str, HostEntry]:
    """The boxes that a document (of parse_yaml) describes, by name; ProfileError with every
    complaint about it."""
    # `boxes:` with nothing below it is what is left when the last one goes.
    given = {} if raw == {"boxes": None} else raw
    return build(Hosts, given, file=file, check=lambda made: list(_complaints(made.boxes))).boxes


def _complaints(boxes: Mapping[str, HostEntry]) -> Iterator[tuple[Path, str]]:
    for name, entry in boxes.items():
        if told := wrong_name(name):
            yield ("boxes", name), told
        if entry.via in (name, entry.ssh, LOCAL):
            yield ("boxes", name, "via"), "expected a machine that is awake while this one sleeps"
        if entry.broadcast and any(int(part) > 255 for part in entry.broadcast.split(".")):
            yield (
                ("boxes", name, "broadcast"),
                f'expected an IPv4 address, got "{entry.broadcast}"',
            )


def wrong_name(name: str) -> str | None:
    """Why no box can have that name, in a clause; None: it can."""
    if name == LOCAL:
        return f"{LOCAL} is the machine you type at; take another name"
    if not NAME.fullmatch(name):
        return "expected a name of small letters, digits, dots, dashes and underscores"
    return None


def json_schema() -> Mapping[str, Any]:
    """JSON Schema of hosts.yaml, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **msgspec.json.schema(Hosts),
    }
