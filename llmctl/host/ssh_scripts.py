"""What SSHHost has the box's shell do. POSIX sh, GNU coreutils and findutils: no Python needed.

The login shell (fish, or one that prints a banner) only ever sees a line that every shell reads
alike: plain letters between single quotes. The script is in there as base64; or, where it is long
or holds a secret, it comes by stdin, since other users of the box see the words of a command. That
takes one round trip more: sshd takes no data before it has run the line.
"""

import base64
import shlex
from collections.abc import Sequence

_INLINE = "exec /bin/sh -c 'eval \"$(echo %s | base64 -d)\"'"
_BY_STDIN = 'exec /bin/sh -c \'read -r n && s=$(head -c "$n") && eval "$s"\''
"""Reads the length of a script, a line; then the script; and leaves the rest to the script. `read`
takes byte by byte, and `head -c` no more than it is told (POSIX; GNU coreutils)."""
INLINE_BYTES = 12000
"""Far below what a packet (RFC 4253, 6.1) and any shell's line may hold."""

_PRELUDE = """\
export LC_ALL=C.UTF-8
[ -n "$USER" ] || export USER="$(id -un)"
if ! [ -O "${XDG_RUNTIME_DIR:-/.}" ] && r=/run/user/$(id -u) && [ -d "$r" ]; then
    export XDG_RUNTIME_DIR="$r"
fi
"""
"""Commands in English. Without PAM, or after su, there is no XDG_RUNTIME_DIR, or another user's;
the user manager listens there anyway."""
MORE_PATH = ("$HOME/.local/bin", "/usr/local/bin", "/usr/bin", "/bin")
NO_PROGRAM = "none"


def door(script: str, mark: str, *, secret: bool) -> tuple[str, bytes]:
    """The line for the login shell, and what its stdin begins with.

    The answer on either stream begins after a line with the mark, so that what the login shell
    prints before is told apart. On stdout the mark is followed by the process id.
    """
    whole = f"echo {mark} >&2; echo {mark} $$\n{_PRELUDE}{script}".encode(errors="surrogateescape")
    if secret or len(whole) > INLINE_BYTES:
        return _BY_STDIN, b"%d\n" % len(whole) + whole
    return _INLINE % base64.b64encode(whole).decode(), b""


def words(argv: Sequence[str]) -> str:
    """Words as the shell reads them back."""
    return shlex.join(argv)


def command(argv: Sequence[str]) -> str:
    """Become a program, with an empty stdin. The first line says whether there is one."""
    return f"""\
set -- {words(argv)}
case $1 in
*/*) [ -f "$1" ] && [ -x "$1" ] ;;
*) command -v "$1" >/dev/null 2>&1 ;;
esac || {{ echo {NO_PROGRAM}; exit 0; }}
echo found
exec "$@" </dev/null
"""


def aside(argv: Sequence[str]) -> str:
    """A command whose answer is nobody's business, before another one."""
    return f"{words(argv)} </dev/null >/dev/null 2>&1\n"


ENVIRON = "env -0"


def read(path: str, start: int, length: int | None) -> str:
    """The bytes of a file, or a complaint on stderr. /proc is read as it comes."""
    file = words([path])
    if length is not None and start == 0:
        return f"head -c {length} -- {file}"
    if start == 0:
        return f"cat -- {file}"
    rest = f"tail -c +{start + 1} -- {file}"
    return rest if length is None else f"{rest} | head -c {length}"


def write(path: str, size: int, mode: int) -> str:
    """Replace a file by `size` bytes of stdin: a new one, flushed, then renamed over it.

    The size is compared, since a connection that is lost on the way looks like the end of the data.
    """
    return f"""\
t=$(readlink -m -- {words([path])}) && d=${{t%/*}} && mkdir -p -- "${{d:-/}}" || exit 1
[ ! -d "$t" ] || {{ echo "$t: Is a directory" >&2; exit 1; }}
x=$(mktemp -- "$d/.${{t##*/}}.XXXXXXXX") || exit 1
trap 'rm -f -- "$x"' EXIT
head -c {size} >"$x" && [ "$(wc -c <"$x")" -eq {size} ] && chmod {mode:o} -- "$x" &&
sync -- "$x" && mv -T -- "$x" "$t" && trap - EXIT && sync -- "$d/"
"""


def remove(path: str) -> str:
    """Remove a file."""
    return f"rm -f -- {words([path])}"


def make_dir(path: str) -> str:
    """Make a directory and those above it."""
    return f"mkdir -p -- {words([path])}"


_FIELDS = r"'%p\0%y\0%s\0%T@\0%m\0'"


def look(path: str, depth: int) -> str:
    """What is at a path, and at depth 1 what it holds: five fields each, links followed.

    SFTP would tell times in whole seconds: two versions of a file would look alike.
    """
    return f"find -L {words([path])} -maxdepth {depth} -printf {_FIELDS}"


def which(program: str) -> str:
    """The path of an executable, or nothing."""
    more = ":".join(MORE_PATH)
    return f"""\
p={words([program])}
case $p in '~/'*) p=$HOME/${{p#'~/'}} ;; esac
case $p in
*/*) set -- "$p" ;;
*) set -f; IFS=:; set --; for d in $PATH:{more}; do set -- "$@" "$d/$p"; done ;;
esac
for f; do if [ -f "$f" ] && [ -x "$f" ]; then printf %s "$f"; exit 0; fi; done
"""


def end(pid: int, *, seconds: int) -> str:
    """End a process; return when it is gone. seconds: until it is killed."""
    return f"""\
kill -TERM {pid} 2>/dev/null || exit 0
i=0
while kill -0 {pid} 2>/dev/null; do
    i=$((i + 1))
    [ $i -lt {seconds * 20} ] || kill -KILL {pid} 2>/dev/null
    [ $i -lt {seconds * 40} ] || exit 1
    sleep 0.05
done
"""
