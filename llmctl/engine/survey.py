"""A box far away is asked once for everything that most commands look at.

One script finds out what `status`, `list` and the beginning of a switch would ask in forty steps,
each a round trip. It decides nothing and may miss anything: what it does not bring is asked for
when it is needed (engine/known.py). Records come as lines: a word, more words, base64.

Needs sh, coreutils, findutils, grep, sed; bash where ports are asked (its /dev/tcp), else they are
asked by `direct-tcpip`.
"""

import base64
import binascii
import contextlib
import zlib
from collections.abc import Iterable, Iterator

import msgspec

from llmctl.health import request
from llmctl.host.base import Entry
from llmctl.systemd import SHOW, UNITS_ARGV, parse_show

TIMEOUT_S = 30.0

COMMON = r"""
b() { base64 -w0; echo; }
ask() { # PORT PATH [KEY]: what a server answers. bash takes a child of sshd for a login (--norc)
    printf 'http %s %s ' "$1" "$2"
    { printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1:%s\r\n' "$2" "$1"
      [ -z "${3-}" ] || printf 'Authorization: Bearer %s\r\n' "$3"
      printf '\r\n'
    } | timeout 2 bash --norc -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" && cat >&3 && exec cat <&3' "$1" \
        2>/dev/null | b
}
process() { # PID: what /proc has of it
    for f in cmdline stat status environ io; do
        printf 'file /proc/%s/%s ' "$1" $f
        base64 -w0 <"/proc/$1/$f" 2>/dev/null
        echo
    done
}
main_pids() { sed -n 's/^MainPID=\([1-9][0-9]*\)$/\1/p'; }
"""

_SCRIPT = r"""
base() { case $1 in /*) printf %s "$1" ;; *) printf %s "$HOME/$2" ;; esac; }
config=$(base "${XDG_CONFIG_HOME-}" .config)
state=$(base "${XDG_STATE_HOME-}" .local/state)/llmctl
cache=$(base "${XDG_CACHE_HOME-}" .cache)/llmctl
units=$config/systemd/user
config=$config/llmctl
printf 'env '; env -0 | b

set -- "$config" "$config/profiles" "$units" "$state" "$state/plans" "$state/ready" \
    "$state/observed" "$cache/flags" /sys/class/drm /proc/driver/nvidia/gpus
printf 'dirs '; printf '%s\0' "$@" | b
printf 'look '; find -L "$@" -maxdepth 1 -printf '%p\0%y\0%s\0%T@\0%m\0' 2>/dev/null | b

files() {
    find -L "$config/config.yaml" "$config/profiles" "$units" "$state/plans" "$state/ready" \
        "$state/observed" "$state/server.key" "$cache/documents.json" "$cache/flags" \
        -maxdepth 1 -type f -size -512k \( -name '*.yaml' -o -name 'llm*' -o -name '*.json' \
        -o -name server.key \) "$@" 2>/dev/null
}
stamps() { files -printf '%p\0%s\0%T@\0'; }
printf 'stamps '; stamps | b
printf 'bytes '; files -print0 | xargs -0r cat -- 2>/dev/null | gzip -1 | b
printf 'stamps '; stamps | b

# Paths that profiles and units name: builds and models.
paths=$(grep -ohE '~?/[^][:space:]"{},]+' "$config/config.yaml" "$config"/profiles/*.yaml \
    "$units"/llm-*.service 2>/dev/null | sort -u)
IFS='
'
set -f; set --
for p in $paths; do
    case $p in '~/'*) p=$HOME/${p#'~/'} ;; esac
    set -- "$@" "$p"
done
for d in $(printf %s "$PATH" | tr : '\n') "$HOME/.local/bin" /usr/local/bin /usr/bin /bin; do
    if [ -f "$d/llama-server" ] && [ -x "$d/llama-server" ]; then
        set -- "$@" "$d/llama-server"
        printf 'which llama-server '; printf %s "$d/llama-server" | b
        break
    fi
done
for p; do
    if [ -f "$p" ] && [ -x "$p" ]; then printf 'which - '; printf %s "$p" | b; fi
done
if [ $# -gt 0 ]; then
    printf 'look '; find -L "$@" -maxdepth 0 -printf '%p\0%y\0%s\0%T@\0%m\0' 2>/dev/null | b
    models() {
        find -L "$@" -maxdepth 0 -name '*.gguf' -type f -size +3c -readable -print0 2>/dev/null
    }
    printf 'models '; models "$@" | b
    printf 'magic '; models "$@" | xargs -0r head -qc4 -- 2>/dev/null | b
fi
unset IFS

if told=$(@UNITS@ 2>/dev/null </dev/null); then
    printf 'units '; printf '%s\n' "$told" | b
    set +f
    set --
    for f in "$units"/llm-*.service; do
        case $f in *@.service|*'*'*) ;; *) set -- "$@" "${f##*/}" ;; esac
    done
    set -f
    set -- "$@" $(printf '%s\n' "$told" | grep -oE '^[^[:space:]]+')
    shown=
    [ $# -eq 0 ] || shown=$(@SHOW@ -- "$@" 2>/dev/null </dev/null)
    printf 'show '; printf '%s\n' "$shown" | b
    printf 'file /proc/uptime '; b </proc/uptime
    key=$(sed -n '/^[[:space:]]*#/d;/[^[:space:]]/{p;q;}' "$state/server.key" 2>/dev/null)
    [ -z "$key" ] || { printf 'key '; printf %s "$key" | b; }
    for p in $(printf '%s\n' "$shown" | main_pids | sort -u); do
        process "$p"
        port=$(tr '\0' '\n' <"/proc/$p/cmdline" 2>/dev/null | sed -n '/^--port$/{n;p;q;}')
        if [ -n "$port" ] && command -v bash >/dev/null; then
            ask "$port" /health
            ask "$port" /v1/models "$key"
            ask "$port" /metrics "$key"
        fi
    done
fi
listens='s/^ListenStream=\(127\.0\.0\.1\|0\.0\.0\.0\):\([0-9]*\)$/\2/p'
port=$(sed -n "$listens" "$units/llmctl-proxy.socket" 2>/dev/null | head -n 1)
if [ -n "$port" ] && command -v bash >/dev/null; then ask "$port" /llmctl/status; fi
echo end
"""


def survey_script() -> str:
    """The script."""
    shown, units = (" ".join(f"'{word}'" for word in argv) for argv in (SHOW, UNITS_ARGV))
    return COMMON + _SCRIPT.replace("@SHOW@", shown).replace("@UNITS@", units)


class Survey(msgspec.Struct):
    """What was found.

    entries, files: by path; a path in neither may be there all the same, but what a directory of
    `listings` does not hold is not there. show: systemctl's words for each unit. answers: by port
    and request, empty where nobody answered.
    """

    environ: dict[str, str] = {}
    entries: dict[str, Entry] = {}
    listings: dict[str, tuple[Entry, ...]] = {}
    files: dict[str, bytes] = {}
    magic: dict[str, bytes] = {}
    programs: dict[str, str] = {}
    units: str | None = None
    show: dict[str, str] = {}
    volatile: dict[str, bytes] = {}
    answers: dict[tuple[int, bytes], bytes] = {}


def parse_survey(raw: bytes) -> Survey:
    """The records; ones that were cut off are left out, and so is what changed meanwhile."""
    records = list(_records(raw))
    found = Survey()
    key = next((data.decode() for (kind, *_), data in records if kind == "key"), None)
    for (kind, *words), data in records:
        _take(found, kind, words, data, key=key)
    of_kind = {words[0]: data for words, data in records}
    found.listings = dict(_listings(found, _fields(of_kind.get("dirs", b""))))
    stamps = [data for (kind, *_), data in records if kind == "stamps"]
    if len(stamps) == 2 and stamps[0] == stamps[1]:
        found.files = dict(_contents(stamps[0], of_kind.get("bytes", b"")))
    names, heads = _fields(of_kind.get("models", b"")), of_kind.get("magic", b"")
    if len(heads) == 4 * len(names):
        found.magic = {name: heads[4 * at : 4 * at + 4] for at, name in enumerate(names)}
    return found


def _take(found: Survey, kind: str, words: list[str], data: bytes, *, key: str | None) -> None:
    """Add what a record says by itself."""
    match kind, words:
        case "env", []:
            pairs = (one.partition("=") for one in _fields(data) if "=" in one)
            found.environ = {name: value for name, _, value in pairs}
        case "look", []:
            found.entries.update(_entries(data))
        case "which", [name]:
            path = data.decode(errors="surrogateescape")
            found.programs[path if name == "-" else name] = path
        case "units", []:
            found.units = data.decode(errors="replace")
        case "show", []:
            found.show = _blocks(data.decode(errors="replace"))
        case "file", [path]:
            found.volatile[path] = data
        case "http", [port, path]:
            has_key = path in ("/v1/models", "/metrics")
            found.answers[int(port), request(int(port), path, key=key if has_key else None)] = data
        case _:
            pass  # taken together with another one


def _records(raw: bytes) -> Iterator[tuple[list[str], bytes]]:
    for line in raw.split(b"\n")[:-1]:  # what follows the last one was cut off
        head, _, coded = line.rpartition(b" ")
        with contextlib.suppress(binascii.Error, UnicodeDecodeError):
            if head:
                yield head.decode("ascii").split(), base64.b64decode(coded, validate=True)


def _fields(data: bytes) -> list[str]:
    return data.decode(errors="surrogateescape").split("\0")[:-1]


def _entries(data: bytes) -> Iterator[tuple[str, Entry]]:
    """By path. Links that lead nowhere are left out, as a Host does."""
    rows = zip(*[iter(_fields(data))] * 5, strict=True)
    for path, kind, size, when, mode in rows:
        if kind not in ("l", "N", "L"):
            name, mtime_ns = path.rpartition("/")[2], nanoseconds(when)
            yield path, Entry(name, int(size), mtime_ns, kind == "d", int(mode, 8))


def nanoseconds(when: str) -> int:
    """Of find's %T@: seconds and ten digits of a fraction."""
    seconds, _, fraction = when.partition(".")
    return int(seconds) * 10**9 + int(fraction[:9].ljust(9, "0"))


def _listings(found: Survey, directories: Iterable[str]) -> Iterator[tuple[str, tuple[Entry, ...]]]:
    for directory in directories:
        held = (
            entry for path, entry in found.entries.items() if path.rpartition("/")[0] == directory
        )
        yield directory, tuple(sorted(held, key=lambda entry: entry.name))


def _contents(stamps: bytes, packed: bytes) -> Iterator[tuple[str, bytes]]:
    fields = _fields(stamps)
    sizes = [(fields[at], int(fields[at + 1])) for at in range(0, len(fields), 3)]
    try:
        data = zlib.decompress(packed, wbits=31) if packed else b""
    except zlib.error:
        return
    if len(data) != sum(size for _, size in sizes):
        return  # one of them could not be read
    at = 0
    for path, size in sizes:
        yield path, data[at : at + size]
        at += size


def _blocks(text: str) -> dict[str, str]:
    """systemctl's words for each unit, by its name."""
    blocks = [block for block in text.split("\n\n") if block.strip()]
    return {parse_show(block)[0].unit: block for block in blocks}
