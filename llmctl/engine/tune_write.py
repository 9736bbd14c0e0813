"""Writes what a sweep found best into the profile's file, and nothing else."""

from typing import Any

from llmctl.core.document import parse_yaml
from llmctl.core.profile import parse_profile
from llmctl.core.profile_edit import edited
from llmctl.core.tuning import Point
from llmctl.core.yaml_text import flow
from llmctl.engine.box import Box
from llmctl.errors import LlmctlError, ProfileError


def write_point(box: Box, point: Point) -> str:
    """The path of the file. ProfileError: it is written so that only a person can change it."""
    name = point.profile.name
    path = box.store.profile_path(name)
    entry = box.host.stat(path)
    text = box.host.read(path).decode()
    wanted = {**_document(text, path), **point.keys}
    made = edited(text, point.keys)
    if not _says(made, wanted, path):
        told = "; ".join(f"{key}: {flow(one)}" for key, one in point.keys.items())
        raise ProfileError(
            f"{path} is written in a way that llmctl does not change.",
            hint=f"Say there yourself: {told}",
        )
    parse_profile(wanted, name=name, file=path)
    box.host.write(path, made.encode(), mode=entry.mode if entry and entry.mode else 0o644)
    return path


def _document(text: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = parse_yaml(text, file=path)
    return found


def _says(text: str, wanted: dict[str, Any], path: str) -> bool:
    """Does the new text say what it should, and keep all the rest?"""
    try:
        return bool(_document(text, path) == wanted)
    except LlmctlError:
        return False
