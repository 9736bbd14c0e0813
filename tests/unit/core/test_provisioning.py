"""What Ansible is told of a box."""

from __future__ import annotations

from typing import Any

import pytest

from llmctl.core.provisioning import Wish, again, inventory, words


@pytest.mark.parametrize(
    ("target", "way"),
    [
        ("box", {"ansible_host": "box"}),
        ("me@box", {"ansible_host": "box", "ansible_user": "me"}),
        ("me@192.0.2.7", {"ansible_host": "192.0.2.7", "ansible_user": "me"}),
        ("ssh://me@box:2222", {"ansible_host": "box", "ansible_user": "me", "ansible_port": 2222}),
        ("ssh://box", {"ansible_host": "box"}),
        ("ssh://[fd7a::1]:22", {"ansible_host": "fd7a::1", "ansible_port": 22}),
        ("fd7a::1", {"ansible_host": "fd7a::1"}),
        ("box:2222", {"ansible_host": "box:2222"}),  # ssh takes no port so; nor do we
        ("local", {"ansible_connection": "local"}),
    ],
)
def test_ssh_finds_the_box_as_it_always_does(target: str, way: dict[str, Any]) -> None:
    told = inventory("box", target, {"llmctl_source": "llmctl==1"})
    assert told == {"all": {"hosts": {"box": {**way, "llmctl_source": "llmctl==1"}}}}


def test_a_wish_becomes_words_and_the_line_to_resume() -> None:
    assert words("i", "site.yml", Wish()) == ("-i", "i", "site.yml")
    wish = Wish(check=True, tags="base,gpu", ask_become_pass=True, files=("/a", "/b"))
    assert words("i", "site.yml", wish) == (
        "-i", "i", "site.yml", "-e", "@/a", "-e", "@/b", "--check", "--diff",
        "--tags", "base,gpu", "--ask-become-pass",
    )  # fmt: skip
    line = "llmctl provision box --vars '/my b' --profiles /p --check --tags base,gpu"
    assert again("box", wish, ("/my b",), "/p") == f"{line} --ask-become-pass"
