"""core/guard/settings.py: `guard:` in config.yaml and in a profile."""

from __future__ import annotations

import msgspec
import pytest

from llmctl.core.config import parse_config
from llmctl.core.document import parse_yaml
from llmctl.core.guard.settings import GuardOverrides, GuardSettings, merged
from llmctl.core.profile import parse_profile
from llmctl.errors import ProfileError


def of_config(text: str) -> GuardSettings:
    return parse_config(parse_yaml(text, file="config.yaml"), file="config.yaml").guard


def of_profile(text: str) -> GuardOverrides:
    raw = parse_yaml(f"model: a.gguf\n{text}", file="coder.yaml")
    return parse_profile(raw, name="coder", file="coder.yaml").guard


def test_without_a_section_the_guard_is_on() -> None:
    assert of_config("") == GuardSettings()
    assert GuardSettings().mode == "on"


def test_budgets_are_off_by_default() -> None:
    settings = GuardSettings()
    assert (settings.max_time_s, settings.max_tokens, settings.max_reasoning_tokens) == (None,) * 3


def test_a_profile_that_says_nothing_has_the_settings_of_all() -> None:
    default = GuardSettings(mode="log", max_tokens=7)
    assert merged(default, of_profile("")) is default


def test_a_profile_overrides_key_by_key() -> None:
    default = of_config("guard: {mode: log, retries: 1, exempt_tools: [a]}")
    own = of_profile("guard: {mode: on, exempt_tools: [b]}")
    assert merged(default, own) == GuardSettings(mode="on", retries=1, exempt_tools=("b",))


def test_a_profile_may_take_a_budget_away() -> None:
    assert merged(GuardSettings(max_time="5m"), of_profile("guard: {max_time: null}")) == (
        GuardSettings()
    )


def test_a_profile_may_override_every_key() -> None:
    names = {field.name for field in msgspec.structs.fields(GuardSettings)}
    assert names == {field.name for field in msgspec.structs.fields(GuardOverrides)}


def test_a_time_is_told_in_seconds() -> None:
    assert of_config("guard: {max_time: 2m}").max_time_s == 120.0


WRONG = [
    ("mode: maybe", 'guard.mode: expected on, log or off, got "maybe"'),
    ("mode: true", "guard.mode: expected on, log or off, got true"),
    ("mod: on", "guard.mod: unknown key"),
    ("window: 100", "guard.window: expected a whole number of bytes, from 8192 to 1048576"),
    ("retries: 4", "guard.retries: expected a whole number from 0 to 3, got 4"),
    ("tool_nudges: [3, 5]", "guard.tool_nudges: expected three rising whole numbers"),
    ("tool_nudges: [3, 3, 5]", "guard.tool_nudges: expected three rising numbers"),
    ("tool_nudges: [1, 2, 3]", "guard.tool_nudges: expected three rising numbers"),
    ('exempt_tools: [""]', "guard.exempt_tools[0]: expected text (length at least 1)"),
    ("max_time: soon", 'guard.max_time: expected a time such as 90s, 10m or 1h, got "soon"'),
    ("max_time: 0s", "guard.max_time: expected more than nothing"),
    ("max_tokens: 0", "guard.max_tokens: expected a whole number of tokens, got 0"),
]


@pytest.mark.parametrize(("text", "complaint"), WRONG)
@pytest.mark.parametrize("read", [of_config, of_profile])
def test_what_is_wrong_is_named_and_what_would_be_right(read, text: str, complaint: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ProfileError) as caught:
        read(f"guard: {{{text}}}")
    assert complaint in caught.value.message
