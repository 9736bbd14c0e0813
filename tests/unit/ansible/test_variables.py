"""What the roles say that they take is what they take, and what the reference says."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from support.variables import ANSIBLE, defaults, roles, spec, used

INTERNAL = {
    "base": {"base_account", "base_busy", "base_login", "base_said"},
    "gpu": {"gpu_found", "gpu_nvidia_units", "gpu_guard"},
    "llama_cpp": {
        "llama_cpp_archive", "llama_cpp_asked", "llama_cpp_backend", "llama_cpp_compile",
        "llama_cpp_compilers", "llama_cpp_configure",
        "llama_cpp_flags", "llama_cpp_log", "llama_cpp_release", "llama_cpp_tools",
        "llama_cpp_work",
    },
    "models": {
        "models_here", "models_host", "models_landed", "models_path", "models_place",
        "models_repo", "models_revision", "models_ssh", "models_target", "models_there",
    },
    "llmctl": {
        "llmctl_applied", "llmctl_binaries", "llmctl_built", "llmctl_copied", "llmctl_fetch",
        "llmctl_gpus", "llmctl_mark", "llmctl_program", "llmctl_proxied", "llmctl_release",
        "llmctl_seen", "llmctl_spec", "llmctl_there", "llmctl_wheel", "llmctl_wheels",
    },
    "power": {"power_states"},
    "tailscale": {"tailscale_named", "tailscale_status"},
    "gpu_guard": set(),
}  # fmt: skip
"""What roles keep for themselves, and the modules whose names begin alike."""


def test_site_runs_every_role() -> None:
    assert sorted(roles()) == sorted(one.name for one in (ANSIBLE / "roles").iterdir())


@pytest.mark.parametrize("role", roles())
def test_a_role_names_each_variable_and_its_default(role: str) -> None:
    assert set(spec(role)["options"]) == set(defaults(role))


@pytest.mark.parametrize("role", roles())
def test_a_role_uses_what_it_names_and_nothing_else(role: str) -> None:
    assert used(role) - INTERNAL[role] == set(defaults(role))


KINDS: dict[str, Any] = {
    "str": str, "path": str, "bool": bool, "int": int, "float": (int, float), "list": list,
    "dict": dict,
}  # fmt: skip


@pytest.mark.parametrize("role", roles())
def test_a_default_has_the_type_that_it_is_said_to_have(role: str) -> None:
    for name, one in spec(role)["options"].items():
        assert isinstance(defaults(role)[name], KINDS[one["type"]]), name
        assert defaults(role)[name] in one.get("choices", [defaults(role)[name]])


def test_the_example_inventory_names_variables_that_exist() -> None:
    inventory = yaml.safe_load((ANSIBLE / "inventory.example.yml").read_text("utf-8"))["all"]
    groups = [inventory["vars"], *inventory["hosts"].values()]
    known = {name for role in roles() for name in defaults(role)}
    said = {name for group in groups for name in group if not name.startswith("ansible_")}
    assert said <= known
    entries = {"llama_cpp_builds": "llama_cpp", "models_files": "models"}
    for group in groups:
        for name, role in entries.items():
            options = set(spec(role)["options"][name]["options"])
            assert all(set(one) <= options for one in group.get(name, []))
