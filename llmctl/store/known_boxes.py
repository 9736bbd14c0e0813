"""What was last seen of boxes, kept on the machine one types at: for what cannot wait for ssh, as
completion cannot, and for when a box sleeps."""

import contextlib
from collections.abc import Sequence
from functools import cached_property

import msgspec

from llmctl.errors import HostError
from llmctl.host.base import Entry, Host
from llmctl.store.places import Places
from llmctl.store.store import Store


class Known(msgspec.Struct, frozen=True):
    """A box as it was: its profiles, llmctl's path there, and the proxy's URL as others reach it.
    None: that was not asked for, or there is none."""

    profiles: tuple[str, ...] = ()
    program: str | None = None
    url: str | None = None


class KnownBoxes(Places):
    """What was seen of each box, in a file of its own. host: the machine one types at."""

    def read(self, box: str) -> Known | None:
        """What is kept of a box; None: nothing."""
        try:
            return msgspec.json.decode(self.host.read(self._path(box)), type=Known)
        except (FileNotFoundError, HostError, msgspec.MsgspecError):
            return None

    def keep(self, box: str, known: Known) -> None:
        """Keep what was seen of a box. A disk that takes nothing only costs completions."""
        if known != self.read(box):
            with contextlib.suppress(HostError):
                self.host.write(self._path(box), msgspec.json.encode(known), mode=0o600)

    def keep_names(self, box: str, names: Sequence[str]) -> None:
        """Keep the names of its profiles, and what else is known."""
        before = self.read(box) or Known()
        self.keep(box, msgspec.structs.replace(before, profiles=tuple(names)))

    def forget(self, box: str) -> None:
        """Keep nothing of a box any more."""
        with contextlib.suppress(HostError):
            self.host.remove(self._path(box))

    def _path(self, box: str) -> str:
        # `ssh://llm@big:22` is a name of a box, too.
        name = "".join(one if one.isalnum() or one in "._@-" else "_" for one in box)
        return f"{self.cache_dir}/boxes/{name.lstrip('.')}.json"


class NotedStore(Store):
    """A Store of another box, whose profiles are noted down here whenever they are listed."""

    def __init__(self, host: Host, *, here: KnownBoxes) -> None:
        super().__init__(host)
        self._here = here

    @cached_property
    def _files(self) -> dict[str, Entry]:
        found = dict(super()._files)
        self._here.keep_names(self.host.name, sorted(found))
        return found
