#!/bin/bash
# demo.sh: the main job before your eyes, on a real llama-server and a real systemd user manager.
#
# Where this user has a manager it is used: with profiles, a group and a port of the demo's own, and
# with units in its run-time directory, so that nothing is left behind even by a crash. Elsewhere a
# private one is started (root only). `make demo` sets up the rest and calls this.
set -eu
# shellcheck source=tests/kit/common.sh
. "$(dirname "$(readlink -f "$0")")/common.sh"

bold='' dim='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; fi

tell() { printf '\n%s%s%s\n' "$dim" "$*" "$plain"; }

# Shows a command as it would be typed, and runs it. Exit status $1 is the one to expect.
run() {
    local wanted=$1 status=0
    shift
    printf '%s$ %s%s\n' "$bold" "$*" "$plain"
    "$@" || status=$?
    if [ $status != "$wanted" ]; then
        die "exit status $status where $wanted was due: the demo has failed"
    fi
}

free_port() { python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# Where none answers, systemctl says so in a word: "offline", or nothing at all.
has_manager() {
    case $(systemctl --user is-system-running 2>/dev/null) in
    running | degraded | starting | initializing) true ;;
    *) false ;;
    esac
}

write_models() {
    python "$kit/mkgguf.py" "$1" llama-script qwen3-script >/dev/null
    # The right magic, and then nothing that makes sense: only the server itself can find out.
    head -c 4096 "$1/llama-script.gguf" >"$1/broken.gguf"
}

write_config() {
    mkdir -p "$1/llmctl/profiles"
    cat >"$1/llmctl/config.yaml" <<EOF
models_dir: $2
binaries: {upstream: $3}
groups: {demo: {port: $4}}
unit_dir: \$XDG_RUNTIME_DIR/systemd/user
EOF
    local name
    for name in hello=llama-script world=qwen3-script broken=broken; do
        printf 'model: %s.gguf\ngroup: demo\nctx: 4096\n' "${name#*=}" \
            >"$1/llmctl/profiles/demo-${name%%=*}.yaml"
    done
}

chat() {
    printf '%s$ chat "%s"%s\n' "$bold" "$2" "$plain"
    python - "$1" "$2" <<'EOF'
import json, sys, urllib.request

body = {"messages": [{"role": "user", "content": sys.argv[2]}]}
request = urllib.request.Request(
    f"http://127.0.0.1:{sys.argv[1]}/v1/chat/completions",
    json.dumps(body).encode(),
    {"Content-Type": "application/json"},
)
with urllib.request.urlopen(request, timeout=60) as answer:
    reply = json.load(answer)
print(f"{reply['model']}: {reply['choices'][0]['message']['content'].strip()}")
EOF
}

clean_up() {
    # Quietly, and whatever happened before: the models stop, their units and files go.
    trap - EXIT INT TERM
    llmctl off --group demo >/dev/null 2>&1 || true
    rm -f "$work"/config/llmctl/profiles/*.yaml
    llmctl apply --prune >/dev/null 2>&1 || true
    rm -rf "$work"
}

show() {
    local llama=$1 port
    work=$(mktemp -d -t llmctl-demo.XXXXXX)
    trap clean_up EXIT
    trap 'exit 130' INT TERM
    port=$(free_port)
    export XDG_CONFIG_HOME=$work/config XDG_CACHE_HOME=$work/cache XDG_STATE_HOME=$work/state
    mkdir "$work/models"
    write_models "$work/models"
    write_config "$work/config" "$work/models" "$llama" "$port"

    tell "Three profiles: two tiny models, and a file that is not what it seems."
    run 0 cat "$work/config/llmctl/profiles/demo-hello.yaml"
    run 0 llmctl apply
    tell "Make one the running model, and talk to it."
    run 0 llmctl switch demo-hello
    chat "$port" "Who are you?"
    tell "The other one, at the same address. systemd stops the first before it starts the second."
    run 0 llmctl switch demo-world
    chat "$port" "Please THINK: what is two plus two?"
    run 0 llmctl status
    tell "The broken one. Its switch fails, says why, and the model that ran before is back."
    run 6 llmctl switch demo-broken
    run 0 llmctl status
    chat "$port" "Are you still there?"
    tell "Off, and all traces of the demo go."
    run 0 llmctl off --group demo
    clean_up
    tell "That was the main job. Next: docs/quickstart.md, with a model of yours."
}

if [ "${1:-}" = --inside ]; then
    show "$2"
    exit
fi
command -v systemctl >/dev/null || die "MISSING: systemd. llmctl drives systemd on Linux; here it can only be read and tested in part (make test)."
llama=$("$kit/find-llama.sh") || die "MISSING: a llama-server. Put one on PATH, then try again."
say "llama-server: $llama"
if has_manager; then
    say "using the systemd user manager of $(id -un)"
    exec "$0" --inside "$llama"
fi
if [ "$(id -u)" != 0 ]; then
    die "MISSING: a systemd user manager. Log in with one (or loginctl enable-linger $(id -un)), or run this as root for a private one."
fi
say "no systemd user manager here: starting a private one, which goes when the demo ends"
exec "$kit/usermgr.sh" -- "$0" --inside "$llama"
