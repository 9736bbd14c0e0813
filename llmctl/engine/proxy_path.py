"""Builds that a shell finds on its PATH and the proxy does not.

A unit has the PATH of its user manager. That of a shell is not written into the unit: each shell
has another one, so each `apply` would find the unit stale, and restart the proxy.
"""

from collections.abc import Iterator

from llmctl.engine.box import Box
from llmctl.host.local import MORE_PATH


def hidden_builds(box: Box) -> Iterator[str]:
    """What to tell of each of them, and what to write instead."""
    config = box.store.config
    bare = {
        name: one.path for name in config.binaries
        if (one := config.binary(name)) is not None and "/" not in one.path
    }  # fmt: skip
    if not bare:
        return
    home = box.host.environ()["HOME"]
    seen = {*box.systemd.search_path(), *(one.replace("~", home, 1) for one in MORE_PATH)}
    for name, program in bare.items():
        found = box.host.which(program)
        if found is not None and found.rpartition("/")[0] not in seen:
            yield (
                f"{box.store.config_dir}/config.yaml: binaries.{name}: {program} is found on your "
                f"shell's PATH, and not by the proxy. Write: binaries: {{{name}: {found}}}"
            )
