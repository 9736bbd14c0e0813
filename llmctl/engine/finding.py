"""What is on a box that nobody has configured: builds of llama-server, and models."""

from collections.abc import Iterator, Sequence

import msgspec

from llmctl.errors import HostError
from llmctl.host.base import Host
from llmctl.store.models import find_models

USUAL = "llama-server"
_TREES = ("~/llama.cpp", "~/src/llama.cpp", "~/git/llama.cpp", "/opt/llama.cpp")
"""Where people have the sources of llama.cpp; builds are in build*/bin (its CMakeLists.txt)."""
_PROGRAMS = ("~/.local/bin", "~/bin", "/usr/local/bin", "/opt/llama.cpp/bin", "/opt/llama.cpp")
MODEL_DIRS = (
    "~/models", "/models", "/srv/models", "/data/models", "/var/lib/models",
    "~/.lmstudio/models", "~/.cache/lm-studio/models", "~/.cache/llama.cpp",
    "~/.cache/huggingface/hub",
)  # fmt: skip
"""Where models are kept: by people, LM Studio, llama.cpp's -hf, and Hugging Face's tools."""


class Models(msgspec.Struct, frozen=True):
    """A directory, as one writes it, and how many GGUF files are below it."""

    directory: str
    files: int


def builds(host: Host) -> tuple[str, ...]:
    """Paths of llama-server, the best guess first: what the PATH says, then the newest build. A
    bare word: it is found on the PATH."""
    found: list[tuple[int, str]] = []
    for path in _places(host):
        entry = host.stat(_expanded(host, path)) if host.which(path) else None
        if entry is not None:
            found.append((entry.mtime_ns, path))
    newest = [path for _, path in sorted(found, key=lambda one: -one[0])]
    return (*((USUAL,) if host.which(USUAL) else ()), *newest)


def _places(host: Host) -> Iterator[str]:
    yield from (f"{one}/{USUAL}" for one in _PROGRAMS)
    for tree in _TREES:
        for entry in _listed(host, _expanded(host, tree)):
            if entry.startswith("build"):
                yield f"{tree}/{entry}/bin/{USUAL}"


def _listed(host: Host, directory: str) -> list[str]:
    """Names of the directories in it; none, where it may not be read."""
    try:
        return [entry.name for entry in host.list(directory) if entry.is_dir]
    except HostError:
        return []


def models(host: Host, directories: Sequence[str] = MODEL_DIRS) -> tuple[Models, ...]:
    """Directories that hold GGUF files, the one with most of them first."""
    found = []
    for directory in directories:
        try:
            tree = find_models(host, _expanded(host, directory))
        except HostError:
            continue
        if tree.files:
            found.append(Models(directory, len(tree.files)))
    return tuple(sorted(found, key=lambda one: -one.files))


def _expanded(host: Host, path: str) -> str:
    return host.environ()["HOME"] + path[1:] if path.startswith("~/") else path
