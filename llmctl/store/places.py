"""Where things are on a box: the XDG base directories.

Source: specifications.freedesktop.org/basedir-spec; relative values are to be ignored.
"""

import string
from functools import cached_property

from llmctl.host.base import Host


class Places:
    """Directories of a box."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def xdg(self, variable: str, default: str) -> str:
        """A base directory: what the variable says, else `default` below home."""
        environ = self.host.environ()
        given = environ.get(variable, "")
        return given if given.startswith("/") else f"{environ['HOME']}/{default}"

    @cached_property
    def config_dir(self) -> str:
        """Configuration and profiles."""
        return self.xdg("XDG_CONFIG_HOME", ".config") + "/llmctl"

    @cached_property
    def state_dir(self) -> str:
        """What llmctl notes down, and logs where the journal cannot be read."""
        return self.xdg("XDG_STATE_HOME", ".local/state") + "/llmctl"

    @cached_property
    def cache_dir(self) -> str:
        """What can be found out again."""
        return self.xdg("XDG_CACHE_HOME", ".cache") + "/llmctl"

    def expand(self, path: str) -> str:
        """`~` and `$VARIABLE` of the box, in a path from config.yaml."""
        environ = self.host.environ()
        home = environ["HOME"] + path[1:] if path == "~" or path.startswith("~/") else path
        return string.Template(home).safe_substitute(environ)
