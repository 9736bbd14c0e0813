"""core/hosts.py: what hosts.yaml may say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from llmctl.core.document import parse_yaml
from llmctl.core.hosts import HostEntry, Hosts, json_schema, parse_hosts
from llmctl.errors import ProfileError

if TYPE_CHECKING:
    from collections.abc import Mapping


def parse(text: str) -> Mapping[str, HostEntry]:
    return parse_hosts(parse_yaml(text, file="hosts.yaml"), file="hosts.yaml")


def problem(text: str) -> str:
    with pytest.raises(ProfileError) as caught:
        parse(text)
    (one,) = caught.value.problems
    return one


def test_a_box_needs_no_more_than_where_it_is() -> None:
    assert parse("boxes: {big: {ssh: llm@big}}") == {"big": HostEntry(ssh="llm@big")}


def test_a_box_may_say_how_it_is_woken() -> None:
    text = """
boxes:
  big:
    ssh: big.tail1234.ts.net
    mac: 00:11:22:33:44:55
    via: raspi
    broadcast: 192.168.1.255
    notes: two 3090
"""
    assert parse(text)["big"] == HostEntry(
        ssh="big.tail1234.ts.net", mac="00:11:22:33:44:55", via="raspi",
        broadcast="192.168.1.255", notes="two 3090",
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "boxes:\n", "boxes: {}\n"])
def test_a_file_without_boxes_is_no_error(text: str) -> None:
    assert parse(text) == {}


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("big: {}", "hosts.yaml: boxes.big.ssh: missing; expected [user@]host"),
        ("big: {ssh: -oProxyCommand=x}", "hosts.yaml: boxes.big.ssh: expected [user@]host, ssh://"),
        ("big: {ssh: 'a b'}", "hosts.yaml: boxes.big.ssh: expected [user@]host, ssh://"),
        ("big: {ssh: b, mac: 12:34}", "hosts.yaml: boxes.big.mac: expected six pairs of hexa"),
        ("big: {ssh: b, ma: x}", "hosts.yaml: boxes.big.ma: unknown key; did you mean mac?"),
        ("big: {ssh: b, via: big}", "hosts.yaml: boxes.big.via: expected a machine that is awake"),
        ("big: {ssh: b, broadcast: 1.2.3.256}", "boxes.big.broadcast: expected an IPv4 address"),
        ("big: {ssh: b, broadcast: lan}", "boxes.big.broadcast: expected an IPv4 address"),
        ("Big: {ssh: b}", "hosts.yaml: boxes.Big: expected a name of small letters"),
        ("local: {ssh: b}", "boxes.local: local is the machine you type at; take another name"),
        ("big: llm@big", "hosts.yaml: boxes.big: expected"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(entry: str, told: str) -> None:
    assert told in problem(f"boxes:\n  {entry}\n")


def test_names_stand_below_boxes() -> None:
    assert problem("big: {ssh: b}\n") == "hosts.yaml: big: unknown key; there is boxes"


def test_the_schema_is_that_of_the_file() -> None:
    schema = json_schema()
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert {one.name for one in msgspec.structs.fields(Hosts)} == {"boxes"}
    assert set(schema["$defs"]["HostEntry"]["properties"]) == set(HostEntry.__struct_fields__)
