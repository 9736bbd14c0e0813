"""What the shell completes: names of boxes and of their profiles. No box is asked: who presses Tab
does not wait for ssh."""

from collections.abc import Sequence

from llmctl.cli.boxes import LOCAL
from llmctl.errors import LlmctlError
from llmctl.host.local import LocalHost
from llmctl.store import Store
from llmctl.store.hosts import HostsFile
from llmctl.store.known_boxes import KnownBoxes


def profiles(host: str | Sequence[str] | None, incomplete: str) -> list[str]:
    """Names of profiles: of the boxes that --host names, as they were last seen; of this machine
    where it names none."""
    hosts = [host] if isinstance(host, str) else host
    return _beginning(incomplete, [name for one in hosts or [LOCAL] for name in _profiles(one)])


def _profiles(host: str) -> Sequence[str]:
    here = LocalHost()
    if host == LOCAL:
        return Store(here).names
    known = KnownBoxes(here).read(host)
    return known.profiles if known else ()


def boxes(incomplete: str) -> list[str]:
    """Names of boxes."""
    try:
        return _beginning(incomplete, list(HostsFile(LocalHost()).boxes))
    except LlmctlError:  # the next command says what is wrong with the file
        return []


def _beginning(incomplete: str, names: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]
