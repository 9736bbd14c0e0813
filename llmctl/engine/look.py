"""One look at a unit and its port, in one round trip; it waits on the box until there is news."""

import shlex
from collections.abc import Sequence

from llmctl.engine.survey import COMMON

WAIT_S = 1.0
"""How long a look may wait on the box; so long is a person's progress line behind."""
_STEPS = 20
_STATE = "ActiveState,SubState,MainPID,Job,NRestarts,InvocationID,Result"

_SCRIPT = r"""
shown() { @SHOW@ </dev/null; }
state() { systemctl --user show --property=@STATE@ -- @UNITS@ </dev/null 2>/dev/null; }
answers() {
    printf 'GET /health HTTP/1.0\r\n\r\n' |
        timeout 2 bash --norc -c 'exec 3<>/dev/tcp/127.0.0.1/@PORT@ && cat >&3 && head -c 12 <&3' \
            2>/dev/null
}
is_ready() { case $(answers) in 'HTTP/1.'?' 200') return 0 ;; *) return 1 ;; esac; }
is_news() { # the state is another one, and no step on the way up
    now=$(state)
    [ "$now" != "$before" ] || return 1
    before=$now
    case $now in
    *SubState=auto-restart*) return 0 ;;
    *ActiveState=active* | *ActiveState=activating*) return 1 ;;
    esac
}
before=$(state)
if command -v bash >/dev/null; then
    i=0
    while [ $i -lt @STEPS@ ] && ! is_ready && ! is_news; do
        i=$((i + 1))
        sleep @PAUSE@
    done
    has_bash=yes
fi
[ -z "${has_bash-}" ] || { @ASKS@; }
told=$(shown) || exit 0 # after the answers: whose they are is seen by who still runs
printf 'show '; printf '%s\n' "$told" | b
for p in $(printf '%s\n' "$told" | main_pids); do process "$p"; done
"""


def look_script(argv: Sequence[str], port: int, requests: Sequence[bytes]) -> str:
    """What systemctl (`argv`) shows of units, what /proc has of their processes, and what the port
    answers: as soon as it is ready, or the units fail or stop, or WAIT_S have passed."""
    units = argv[argv.index("--") + 1 :]
    asks = "; ".join(f"ask {port} {path_of(one)} {shlex.quote(_key_of(one))}" for one in requests)
    marks = {
        "@SHOW@": shlex.join(argv),
        "@STATE@": _STATE,
        "@UNITS@": shlex.join(units),
        "@PORT@": str(port),
        "@STEPS@": str(_STEPS),
        "@PAUSE@": f"{WAIT_S / _STEPS:g}",
        "@ASKS@": asks,
    }
    script = COMMON + _SCRIPT
    for mark, text in marks.items():
        script = script.replace(mark, text)
    return script


def path_of(request: bytes) -> str:
    """What a request asks for."""
    return request.split(b" ", 2)[1].decode()


def _key_of(request: bytes) -> str:
    _, found, rest = request.partition(b"Authorization: Bearer ")
    return rest.partition(b"\r\n")[0].decode() if found else ""
