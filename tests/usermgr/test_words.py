"""Whatever a profile says arrives as it was written, or is refused with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from usermgr import scenarios
from usermgr.site import PROFILE, to_yaml

if TYPE_CHECKING:
    from usermgr.site import ManagerSite


def test_every_word_arrives_as_it_was_written(site: ManagerSite) -> None:
    scenarios.every_word_arrives_as_it_was_written(site, scenarios.WORDS)


def test_every_path_is_opened_as_it_was_written(site: ManagerSite) -> None:
    scenarios.every_path_is_opened_as_it_was_written(site, scenarios.FILE_NAMES)


# A word that looks like a flag is judged as one; NUL ends a word; half a pair is no text.
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(
    lambda word: not word.startswith("-")
)


@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(WORDS, min_size=60, max_size=60))
def test_any_text_arrives_as_it_was_written(site: ManagerSite, words: list[str]) -> None:
    scenarios.every_argument_arrives(site, words)


def test_every_letter_arrives_as_it_was_written(site: ManagerSite) -> None:
    """All of Unicode, alone and next to what systemd gives a meaning."""
    ends = "\"'\\ $%{}\n\t;#@-"
    awkward = [a + b + c for a in ends for b in ends for c in ends]
    latin = [f"x{chr(code)}y" for code in range(1, 0x300)]
    planes = [chr(code) for code in range(0x300, 0x110000, 997) if not 0xD800 <= code < 0xE000]
    words = [word for word in (*awkward, *latin, *planes) if not word.startswith("-")]
    scenarios.every_argument_arrives(site, words)


@pytest.mark.parametrize("name", sorted(scenarios.CONTROLS))
def test_a_control_character_in_an_environment_value_arrives_or_is_refused(
    site: ManagerSite, name: str
) -> None:
    scenarios.an_environment_value_arrives_or_is_refused(site, scenarios.CONTROLS[name])


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"args": ["a\0b"]}, "args[0]: holds a NUL character"),
        ({"model": "a\0b"}, "model: holds a NUL character"),
        ({"mmproj": "a\0b"}, "mmproj: holds a NUL character"),
        ({"env": {"A B": "x"}}, "env.A B: no name systemd takes"),
        ({"env": {"A=B": "x"}}, "env.A=B: no name systemd takes"),
        ({"env": {"É": "x"}}, "env.É: no name systemd takes"),
        ({"env": {"": "x"}}, "no name systemd takes"),
        ({"env": {"A": "x\0"}}, "env.A: holds the control character"),
        ({"args": ["--alias", "b"]}, "args[0]: --alias is set by llmctl"),
        ({"args": ["--no-such-flag"]}, "args[0]: this llama-server has no --no-such-flag"),
        ({"args": ["--ctx-size=4"]}, "args[0]: --ctx-size is llmctl's to render; use the key ctx"),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value),
)
def test_what_cannot_be_passed_on_is_refused_with_the_reason(
    site: ManagerSite, keys: dict[str, object], says: str
) -> None:
    content = {"model": "m.gguf", **keys}
    site.put({site.profile_path("a"): to_yaml(content)})
    told = site.llmctl("switch", "a", status=PROFILE)
    assert f"error: {site.profile_path('a')}: " in told.stderr
    assert says in told.stderr
    assert not site.exists(site.unit_path("a"))


def test_a_name_that_no_unit_could_have_is_refused(site: ManagerSite) -> None:
    site.profile("good")
    for name in ("A", "é", "a b", "-a", "--", "a@b", "%n", "$HOME", ".a", "a" * 65, "a'b", "a\nb"):
        site.put({site.profile_path(name): "model: m.gguf"})
        told = site.llmctl("switch", "--", name, status=PROFILE)
        assert "is no profile name; expected small letters" in told.stderr
    site.llmctl("switch", "good")
    assert site.group() == ("good", "ready")


@pytest.mark.parametrize("name", ["0", "a" * 64, "qwen3.6-27b_iq3-m", "b.service"])
def test_a_name_of_any_allowed_shape_works(site: ManagerSite, name: str) -> None:
    site.profiles({name: "", "other": ""})
    site.llmctl("switch", "other")
    site.llmctl("switch", name)
    scenarios.back_at_work(site, name)
    assert site.status()["instances"][0]["unit"] == f"llm-{name}.service"


@pytest.mark.parametrize("sign", ["$", "\n", "'", '"', "\\", "\t", "\x7f"])
def test_a_binary_that_systemd_cannot_start_is_refused(site: ManagerSite, sign: str) -> None:
    """systemd: "Executable name contains special characters"; and it expands `$` there."""
    binary = f"{site.home}/a{sign}b"
    site.run("ln", "--symbolic", site.server, binary)
    site.configure(binaries={"upstream": binary})
    site.profile("a")
    told = site.llmctl("switch", "a", status=PROFILE)
    assert "binaries.upstream: " in told.stderr
    assert not site.exists(site.unit_path("a"))
