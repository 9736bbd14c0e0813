"""docs/: everything a person can type, write or get is in the reference."""

from __future__ import annotations

import inspect
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import typer
from support.commandline import CommandLine
from support.heads import write_head
from support.oracle import oracle
from support.reference import BLOCKS, DOCS, block, found, keys, renewed
from support.world import World

from llmctl import errors
from llmctl.cli.app import COMMANDS, app
from llmctl.cli.overview import facts
from llmctl.core.config import Config, parse_config
from llmctl.core.document import parse_yaml
from llmctl.core.guard.settings import GuardSettings
from llmctl.core.hosts import HostEntry, parse_hosts
from llmctl.core.profile import Profile, parse_profile
from llmctl.core.proxy_settings import ProxySettings
from llmctl.core.state import State
from llmctl.engine.proxy_view import ProxyView
from llmctl.engine.status import overview
from llmctl.proxy.guard_record import Finding, finding_entry
from llmctl.proxy.record import Record, entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import msgspec

ROOT_COMMAND: Any = typer.main.get_command(app)


def page(name: str) -> str:
    path = DOCS / "reference" / name
    return path.read_text("utf-8") if path.exists() else ""


def section(command: str) -> str:
    """The reference of one command: from its heading to the next."""
    match = re.search(rf"^## `llmctl {command}\b.*?(?=^## |\Z)", page("cli.md"), re.M | re.S)
    return match[0] if match else ""


def commands() -> Iterator[tuple[str, Any]]:
    """Every command, those of a group by both words."""
    for name in COMMANDS:
        command = ROOT_COMMAND.get_command(None, name)
        yield name, command
        for word, one in getattr(command, "commands", {}).items():
            yield f"{name} {word}", one


def options() -> Iterator[tuple[str, str]]:
    for name, command in commands():
        for parameter in command.params:
            for spelling in parameter.opts:
                if spelling.startswith("-"):
                    yield name, spelling


COMMON = {"--host", "--json", "--verbose", "-v"}


@pytest.mark.parametrize("command", [name for name, _ in commands()])
def test_a_command_has_its_section(command: str) -> None:
    assert section(command)


@pytest.mark.parametrize(("command", "option"), list(options()))
def test_an_option_is_in_its_commands_section_or_common_to_all(command: str, option: str) -> None:
    text = page("cli.md") if option in COMMON else section(command)
    assert re.search(rf"`{option}[` ]", text)


@pytest.mark.parametrize("option", [o for p in ROOT_COMMAND.params for o in p.opts])
def test_an_option_of_llmctl_itself_is_in_the_reference(option: str) -> None:
    assert option in page("cli.md")


def test_no_section_is_about_a_command_that_does_not_exist() -> None:
    sections = set(re.findall(r"^## `llmctl ([a-z]+)", page("cli.md"), re.M))
    assert sections <= set(COMMANDS)


STATUSES = sorted({
    one.exit_status for _, one in inspect.getmembers(errors, inspect.isclass)
    if issubclass(one, errors.LlmctlError)
})  # fmt: skip


@pytest.mark.parametrize("status", [0, *STATUSES])
def test_an_exit_status_is_in_the_table(status: int) -> None:
    assert re.search(rf"^\| *{status} *\|", page("cli.md"), re.M)


@pytest.mark.parametrize("key", [field.name for field in keys(Profile)])
def test_a_key_of_a_profile_is_in_the_reference(key: str) -> None:
    assert f"`{key}`" in page("profile.md")


@pytest.mark.parametrize("key", [field.name for field in keys(HostEntry)])
def test_a_key_of_a_box_is_in_the_reference(key: str) -> None:
    row = next(row for row in block("hosts").splitlines() if row.startswith(f"| `{key}` "))
    (example,) = re.findall(rf"`({key}: .*?)`", row)
    ssh = "" if key == "ssh" else "ssh: x, "
    parse_hosts(parse_yaml(f"boxes: {{a: {{{ssh}{example}}}}}", file="docs"), file="docs")


@pytest.mark.parametrize("key", [field.name for field in keys(Config)])
def test_a_key_of_the_configuration_is_in_the_reference(key: str) -> None:
    assert f"`{key}`" in page("config.md")


SECTIONS: list[tuple[str, type[msgspec.Struct]]] = [
    ("proxy", ProxySettings),
    ("guard", GuardSettings),
]


@pytest.mark.parametrize(
    ("section", "key"), [(name, field.name) for name, kind in SECTIONS for field in keys(kind)]
)
def test_the_examples_of_a_section_are_valid(section: str, key: str) -> None:
    row = next(row for row in block(section).splitlines() if row.startswith(f"| `{key}` "))
    examples = re.findall(rf"`({key}: .*?)`", row)
    assert examples
    for example in examples:
        parse_config(parse_yaml(f"{section}:\n  {example}\n", file="docs"), file="docs")


@pytest.mark.parametrize("name", BLOCKS)
def test_a_generated_table_is_what_the_annotations_say(name: str) -> None:
    text = (DOCS / BLOCKS[name][0]).read_text("utf-8")
    assert found(name, text) == block(name), "run: python tests/support/reference.py --write"


@pytest.mark.parametrize("name", BLOCKS)
def test_renewing_a_page_twice_changes_nothing_more(name: str) -> None:
    once = renewed(name, "# Title\n\ntext\n")
    assert renewed(name, once) == once
    assert once.startswith("# Title\n\ntext\n")


@pytest.mark.parametrize("field", keys(Profile), ids=lambda field: field.name)
def test_the_examples_of_the_reference_are_valid(field: Any) -> None:
    row = next(row for row in block("profile").splitlines() if row.startswith(f"| `{field.name}` "))
    examples = re.findall(rf"`({field.name}: .*?)`", row)
    assert examples
    for example in examples:
        resident = "group: none\n" if field.name == "port" else ""
        port = "port: 12400\n" if example == "group: none" else ""
        model = "" if field.name == "model" else "model: x.gguf\n"
        text = f"{model}{resident}{port}{example}\n"
        parse_profile(parse_yaml(text, file="docs"), name="x", file="docs")


def json_keys(facts: Any) -> Iterator[str]:
    for one in facts if isinstance(facts, list) else [facts]:
        for key, value in one.items() if isinstance(one, dict) else ():
            yield key
            if isinstance(value, dict | list):
                yield from json_keys(value)


def answers(llmctl: CommandLine) -> Iterator[Any]:
    world = World()
    world.profile("a")
    world.apply()
    world.start("llm-a.service")
    proxy = ProxyView(state=State.READY, url="http://127.0.0.1:1234")
    yield facts(overview(world.box), proxy=proxy)
    yield entry(Record(0.0, "other", b"/tokenize", "127.0.0.1"), time="")
    found = Finding(kind="tool", step="forbid", outcome="nudged")
    yield finding_entry(found, Record(0.0, "chat", b"/", "127.0.0.1"), time="")
    shown = llmctl("show", "coder", "--json").json
    yield {key: value for key, value in shown.items() if key != "values"}
    yield [dict.fromkeys(one) for one in shown["values"].values()]
    made = llmctl("new", "fresh", "tiny.gguf", "--json").json
    yield {key: value for key, value in made.items() if key != "values"}
    for words in (
        ["scan"],
        ["list"], ["apply"], ["switch", "coder", "--dry-run"], ["switch", "coder", "--no-wait"],
        ["off"], ["enable", "coder"], ["disable", "coder"], ["show", "nobody"],
        ["proxy", "status"], ["proxy", "uninstall"], ["doctor"],
        ["status", "--host", "local", "--host", "127.0.0.1:1"],
        ["host", "add", "big"], ["host", "list"], ["host", "remove", "big"],
    ):  # fmt: skip
        yield llmctl(*words, "--json").json


def test_every_key_of_every_json_answer_is_in_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llmctl = CommandLine(tmp_path, monkeypatch)
    llmctl.profile("coder", "ctx: 8192")
    write_head(llmctl.home / "models/tiny.gguf", oracle()["models"]["llama31_8b"])
    given = {key for answer in answers(llmctl) for key in json_keys(answer)}
    text = page("json.md")
    assert {key for key in given if f'"{key}"' not in text and f"`{key}`" not in text} == set()


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_json_examples_are_json(path: Path) -> None:
    for text in re.findall(r"^```json\n(.*?)^```", path.read_text("utf-8"), re.M | re.S):
        json.loads(text)


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#\s]+)", path.read_text("utf-8"))
    assert [one for one in targets if not (path.parent / one).exists()] == []
