"""The file of API keys, looked at more often than the box: a key that was taken back is refused
within a second or so, and one that was written just now is known when it comes.

What is looked at is when the file was changed, so it costs next to nothing. The look of every
second is made in a thread, since a file may be on a disk that hangs; a key that is not known can
wait for nothing, and there it is made at once.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from llmctl.proxy.tasks import spawn

if TYPE_CHECKING:
    from llmctl.proxy.keys import Keyring
    from llmctl.proxy.switchboard import Switchboard

Read = Callable[[], "Keyring | None"]
"""The keys as their file has them now; the same object while it is unchanged. None: there is no
file of keys."""


class KeyWatch:
    """Of one board. read: None, where keys are looked at with the rest alone."""

    def __init__(self, board: "Switchboard", read: Read | None) -> None:
        self._board, self._read = board, read
        self._is_looking = False

    def pulse(self) -> None:
        """Once a second."""
        if self._read is not None and self._board.keys is not None and not self._is_looking:
            self._is_looking = True
            spawn(self._look(self._read), name="look at the keys")

    async def _look(self, read: Read) -> None:
        try:
            self._are(await asyncio.to_thread(read))
        finally:
            self._is_looking = False

    def has_news(self) -> bool:
        """A key came that is not known. Look at once: are there others by now?"""
        return self._read is not None and self._are(self._read())

    def _are(self, ring: "Keyring | None") -> bool:
        """Whether there is to be a file at all is said by config.yaml, and not here."""
        known = self._board.keys
        if ring is None or known is None or ring is known:
            return False
        self._board.keys = ring
        return True
