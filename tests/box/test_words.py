"""Each systemd's own parser gives the server the words that were meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from usermgr import scenarios
from usermgr.site import to_yaml

if TYPE_CHECKING:
    from usermgr.site import BoxSite


def test_every_word_arrives_as_it_was_written(site: BoxSite) -> None:
    scenarios.every_word_arrives_as_it_was_written(site, scenarios.WORDS)


def test_every_argument_arrives_as_it_was_written(site: BoxSite) -> None:
    ends = "\"'\\ $%{}\n\t;#@"
    awkward = [a + b + c for a in ends for b in ends for c in ends]
    scenarios.every_argument_arrives(site, [*awkward, *scenarios.CONTROLS.values()])


def test_every_path_is_opened_as_it_was_written(site: BoxSite) -> None:
    some = ["specifier", "braced variable", "double quotes", "one single quote", "newline",
            "trailing backslash", "emoji", "semicolon", "glob"]  # fmt: skip
    words = {name: scenarios.FILE_NAMES[name] for name in some}
    scenarios.every_path_is_opened_as_it_was_written(site, words)


@pytest.mark.parametrize("name", ["carriage return", "escape", "delete", "next line", "mark"])
def test_a_control_character_in_an_environment_value_arrives_or_is_refused(
    site: BoxSite, name: str
) -> None:
    scenarios.an_environment_value_arrives_or_is_refused(site, scenarios.CONTROLS[name])


def test_the_units_of_all_shipped_profiles_are_flawless(site: BoxSite) -> None:
    """Verified in one call: some faults, such as a cycle of orderings, show only together."""
    binaries = dict.fromkeys(("upstream", "tq3"), site.box.llama_server)
    site.configure(binaries=binaries)
    site.run("cp", "-r", "/srv/llmctl/profiles", site.config_dir)
    shipped = site.names("/srv/llmctl/profiles")
    site.llmctl("apply")
    assert len(shipped) >= 5
    flawless(site, len(shipped) + 1)


def test_units_with_awkward_words_are_flawless(site: BoxSite) -> None:
    words = list(scenarios.WORDS.values())
    for name in ("a", "b"):
        env = {f"WORD_{index}": word for index, word in enumerate(words)}
        args = [word for each in words for word in ("--grammar", each)]
        content = {"model": "a %n $HOME 'é' \\ .gguf", "env": env, "args": args}
        site.put({site.profile_path(name): to_yaml(content)})
    site.llmctl("apply")
    flawless(site, 3)


def flawless(site: BoxSite, units: int) -> None:
    paths = [f"{site.unit_dir}/{name}" for name in sorted(site.names(site.unit_dir))]
    assert len(paths) == units
    told = site.run("systemd-analyze", "--user", "verify", *paths)
    assert (told.stdout, told.stderr) == ("", "")
