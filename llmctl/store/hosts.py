"""hosts.yaml of the machine one types at: read once per change, and edited with its comments."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import msgspec

from llmctl.core.document import parse_yaml
from llmctl.core.hosts import HostEntry, parse_hosts
from llmctl.core.profile_edit import added, removed
from llmctl.core.yaml_text import flow
from llmctl.errors import LlmctlError, ProfileError
from llmctl.store.documents import Documents
from llmctl.store.places import Places


class HostsFile(Places):
    """The boxes that this machine knows. host: this machine, not one of them."""

    @property
    def path(self) -> str:
        """Where it lies."""
        return f"{self.config_dir}/hosts.yaml"

    @cached_property
    def boxes(self) -> Mapping[str, HostEntry]:
        """Boxes by name, in the file's order; none where there is no file. ProfileError: it is
        wrong."""
        entry = self.host.stat(self.path)
        if entry is None:
            return {}
        documents = Documents(self.host, f"{self.cache_dir}/documents.json")
        raw = documents.read(self.path, entry)
        documents.save()
        return parse_hosts(raw, file=self.path)

    def add(self, name: str, entry: HostEntry) -> None:
        """Write a box into the file, or what changed of it; the rest stays as it is.

        ProfileError: the file is wrong, or written in a way that only a person can change.
        """
        facts = _facts(entry)
        wanted = {**self._document(), name: facts}
        parse_hosts({"boxes": wanted}, file=self.path)
        hint = f"Write there yourself, below `boxes:`: {name}: {flow(facts)}"
        text = self._text()
        if name in self.boxes:  # its keys may be fewer now
            text = removed(text, "boxes", name)
        self._write(added(text, "boxes", name, facts), wanted, hint=hint)

    def remove(self, name: str) -> None:
        """Take a box out of the file. ProfileError as for `add`."""
        wanted = {key: one for key, one in self._document().items() if key != name}
        hint = f"Remove {name} there yourself."
        self._write(removed(self._text(), "boxes", name), wanted, hint=hint)

    def _text(self) -> str:
        try:
            return self.host.read(self.path).decode()
        except FileNotFoundError:
            return ""

    def _document(self) -> dict[str, Any]:
        raw = parse_yaml(self._text(), file=self.path) or {}
        return dict(raw.get("boxes") or {}) if self.boxes else {}

    def _write(self, text: str, wanted: Mapping[str, Any], *, hint: str) -> None:
        if not self._says(text, wanted):
            raise ProfileError(
                f"{self.path} is written in a way that llmctl does not change.", hint=hint
            )
        entry = self.host.stat(self.path)
        mode = entry.mode if entry and entry.mode else 0o644
        self.host.write(self.path, text.encode(), mode=mode)
        self.__dict__.pop("boxes", None)

    def _says(self, text: str, wanted: Mapping[str, Any]) -> bool:
        try:
            return ((parse_yaml(text, file=self.path) or {}).get("boxes") or {}) == wanted
        except LlmctlError:
            return False


def _facts(entry: HostEntry) -> dict[str, Any]:
    return {key: one for key, one in msgspec.to_builtins(entry).items() if one not in (None, "")}
