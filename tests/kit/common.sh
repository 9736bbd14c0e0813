# shellcheck shell=bash
# shellcheck disable=SC2034  # the variables are for whoever sources this
# common.sh: what the scripts beside it share. Sourced, never run.

kit=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
repo=$(cd "$kit/../.." && pwd -P)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/llmctl-test
images=${LLMLAB_HOME:-/var/cache/llmlab} # box images are large and shared by all checkouts

say() { echo "${0##*/}: $*" >&2; }
die() {
    say "$@"
    exit 1
}

# The Python for helper steps: the caller's choice, else the checkout's, else the machine's.
find_python() {
    local candidate
    for candidate in "${PYTHON:-}" "$repo/.venv/bin/python" python3; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "no python3 found; install it, or name one in \$PYTHON"
}

# The Debian mirror this machine itself is set up with. `Label` tells Debian's archive from its
# security archive and from third parties; it is unknown until `apt-get update` has run once, so
# a machine with emptied lists falls back to the first repository that is not the security one.
debian_mirror() {
    if [ -n "${DEBIAN_MIRROR:-}" ]; then
        echo "$DEBIAN_MIRROR"
        return
    fi
    command -v apt-get >/dev/null || return 0
    # shellcheck disable=SC2016  # $(REPO_URI) is apt's own syntax
    {
        apt-get indextargets --format '$(REPO_URI)' 'Label: Debian' 'Created-By: Packages'
        apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security
    } 2>/dev/null | head -n 1
}

# Options under which apt accepts an archive whose Release file has outlived its date (a mirror
# that lags, a clock that is off). Signatures are still checked.
apt_lenient=('Acquire::Check-Valid-Until "false"' 'Acquire::Check-Date "false"' 'Acquire::Languages "none"')

# locked FILE COMMAND...: one at a time per FILE, so that parallel test workers share caches.
locked() {
    local file=$1
    shift
    mkdir -p "$(dirname "$file")"
    (
        flock 9
        "$@" 9>&- # a daemon left behind must not keep the lock
    ) 9>"$file"
}
