"""The file of API keys: read again when it has changed, refused when others may read it.

A broken file changes nothing: the keys that were known stay, and a problem says so. One that was
never right lets nobody in.
"""

from llmctl.errors import HostError, LlmctlError, ProfileError
from llmctl.host.base import Entry, Host
from llmctl.proxy.keys import ApiKey, Keyring, parse_keys

OTHERS = 0o077
"""Permissions of everybody but the owner, as for an SSH key: with a user of one's own per program a
group is no smaller circle."""


class KeyFile:
    """What is known of it. One is kept for as long as the proxy runs."""

    def __init__(self) -> None:
        self._known: tuple[str | None, Entry | None, Keyring] = None, None, Keyring()

    def read(self, host: Host, path: str | None) -> Keyring | None:
        """The keys as they are now; None: config.yaml names no file. The same object while the file
        is unchanged. Threads may call it at once: what one of them has seen is kept as a whole."""
        known_path, known_entry, ring = self._known
        if path is None:
            self._known = None, None, Keyring()
            return None
        entry = host.stat(path)
        if (path, entry) == (known_path, known_entry):
            return ring
        before = ring.keys if path == known_path else ()
        try:
            ring = Keyring(load_keys(host, path, entry))
        except LlmctlError as error:
            ring = Keyring(before, error.message)
        self._known = path, entry, ring
        return ring


def load_keys(host: Host, path: str, entry: Entry | None) -> tuple[ApiKey, ...]:
    """The keys in a file. LlmctlError: it cannot be used, and why."""
    if entry is None:
        raise ProfileError(f"{path}: there is no such file (proxy: api_keys in config.yaml)")
    if entry.mode & OTHERS:
        raise ProfileError(
            f"{path}: others may read it (mode {entry.mode:04o}); type: chmod 600 {path}"
        )
    try:
        text = host.read(path).decode()
    except FileNotFoundError:
        raise ProfileError(f"{path}: there is no such file") from None
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path}: not UTF-8 text at byte {error.start}") from None
    except HostError as error:
        raise ProfileError(error.message) from None
    return parse_keys(text, file=path)
