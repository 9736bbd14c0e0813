"""Where things are on a box: the XDG base directories.

Source: specifications.freedesktop.org/basedir-spec; relative values are to be ignored.
"""

import string
from functools import cached_property

from llmctl.host.base import Host

SERVER_KEY = "/llmctl/server.key"
"""The end of that path, without anything that units write otherwise (spaces, `%`, `$`)."""


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

    @property
    def request_log(self) -> str:
        """What the proxy notes down of each request; older ones end in .1 and .2."""
        return f"{self.state_dir}/requests.jsonl"

    @property
    def guard_log(self) -> str:
        """What the proxy's guard notes down; older ones end in .1 and .2."""
        return f"{self.state_dir}/guard.jsonl"

    @property
    def bench_log(self) -> str:
        """What `llmctl bench` and `llmctl tune` measured."""
        return f"{self.state_dir}/bench.jsonl"

    @property
    def server_key(self) -> str:
        """The file with the key that the models' servers want, where clients need keys."""
        return self.state_dir.removesuffix("/llmctl") + SERVER_KEY

    def in_config(self, path: str | None) -> str | None:
        """A file that config.yaml names; a relative path begins beside config.yaml."""
        if path is None:
            return None
        found = self.expand(path)
        return found if found.startswith("/") else f"{self.config_dir}/{found}"

    def expand(self, path: str) -> str:
        """`~` and `$VARIABLE` of the box, in a path from config.yaml."""
        environ = self.host.environ()
        home = environ["HOME"] + path[1:] if path == "~" or path.startswith("~/") else path
        return string.Template(home).safe_substitute(environ)
