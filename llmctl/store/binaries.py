"""What a llama-server build can do, asked once and kept until the file changes."""

import contextlib
import zlib
from collections.abc import Mapping

import msgspec

from llmctl.core.config import UNSAFE_IN_PROGRAM, Binary
from llmctl.core.flags import Flags, parse_help
from llmctl.errors import HostError, ProfileError
from llmctl.host.base import Host

PROBE_TIMEOUT_S = 20.0


def find(host: Host, name: str, binary: Binary, *, file: str) -> str:
    """The absolute path of a build; ProfileError, about `file`, when a unit cannot start it."""
    found = host.which(binary.path)
    if found is None:
        raise ProfileError(
            f"{file}: binaries.{name}: {binary.path} is not an executable file on {host.name}",
            hint=f"Say where it is: binaries: {{{name}: /path/to/llama-server}}",
        )
    if sign := UNSAFE_IN_PROGRAM.search(found):
        raise ProfileError(
            f"{file}: binaries.{name}: a path with {sign[0]!r} cannot start a unit",
            hint="Link the binary from a plainer path, and name that.",
        )
    return found


class _Probed(msgspec.Struct, frozen=True):
    """What a binary could do, in an environment, when it had this size and time of change."""

    size_bytes: int
    mtime_ns: int
    env: dict[str, str | int]
    flags: Flags


def flags_of(host: Host, path: str, binary: Binary, *, cache_dir: str) -> Flags:
    """Flags of the build at `path`: from the cache, else from its --help (10 ms)."""
    entry = host.stat(path)
    stamp = (entry.size_bytes, entry.mtime_ns) if entry else (0, 0)
    cache = f"{cache_dir}/flags/{_file_name(path, binary)}.json"
    known = _known(host, cache)
    if known and (known.size_bytes, known.mtime_ns, known.env) == (*stamp, binary.env):
        return known.flags
    flags = _probe(host, path, binary)
    # On a full or read-only disk the next command asks the binary again.
    with contextlib.suppress(HostError):
        host.write(cache, msgspec.json.encode(_Probed(*stamp, binary.env, flags)), mode=0o600)
    return flags


def _file_name(path: str, binary: Binary) -> str:
    """One file for each build: the same program with other libraries is another build."""
    env = zlib.crc32(msgspec.json.encode(binary.env, order="sorted"))
    return f"{path.strip('/').replace('/', '_')}-{env:08x}"


def argv_with(env: Mapping[str, str | int], *words: str) -> tuple[str, ...]:
    """A command in an environment; env(1) brings it there over SSH, too."""
    assignments = (f"{key}={value}" for key, value in env.items())
    return ("env", *assignments, *words) if env else words


def _known(host: Host, cache: str) -> _Probed | None:
    try:
        return msgspec.json.decode(host.read(cache), type=_Probed)
    except (FileNotFoundError, HostError, msgspec.MsgspecError):
        return None


def _probe(host: Host, path: str, binary: Binary) -> Flags:
    result = host.run(argv_with(binary.env, path, "--help"), timeout=PROBE_TIMEOUT_S)
    flags = parse_help(result.stdout + result.stderr)
    if "--port" not in flags:
        said = (result.stderr.strip().splitlines() or [f"status {result.status}"])[-1]
        raise ProfileError(
            f"{path} --help is not a llama-server's: {said}",
            hint="Check binaries: in config.yaml, and that the build's libraries are found.",
        )
    return flags
