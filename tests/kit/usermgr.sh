#!/bin/bash
# usermgr.sh [--user USER] [--home DIR] [--log FILE] [--] CMD...
#
# Runs CMD beside a real, private `systemd --user` (and a private journald) on this very machine:
# no container, no login, no systemd as PID 1. Needs root. All of it is gone when CMD ends,
# however it ends: units, processes, cgroups, mounts, files.
#
#   --user USER   whose manager (default: the caller)
#   --home DIR    its HOME, kept afterwards (default: a fresh one, removed afterwards)
#   --log FILE    where to keep what the manager says (default: shown only when it does not start)
#
# CMD finds HOME, XDG_RUNTIME_DIR, and UM_PID (the manager). XDG_RUNTIME_DIR is an ordinary
# directory, so `systemctl --user` also works from outside with these two variables alone;
# journalctl needs the manager's mount namespace (nsenter --target $UM_PID --mount).
set -eu
# shellcheck source=tests/kit/common.sh
. "$(dirname "$(readlink -f "$0")")/common.sh"
self=$kit/usermgr.sh

# One cgroup holds everything. It is named like a slice, with user@UID.service below it, because
# journald learns from the cgroup path which user unit a line belongs to.
new_cgroup2_mount() {
    if mountpoint -q /sys/fs/cgroup; then umount --recursive /sys/fs/cgroup; fi
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
}

# Outlives everybody else and cleans up. Its stdin ends when the outer script ends, be it by
# kill -9: a dead man's switch that needs no process id namespace, whose other process ids would
# make MainPID useless to whoever looks from outside.
reap() {
    local slice=$1 dir=$2 deadline
    trap '' INT TERM HUP
    cat >/dev/null
    deadline=$((SECONDS + 10)) # from here: the wait above is as long as CMD
    new_cgroup2_mount # in a mount namespace of our own: see main
    local cgroup=/sys/fs/cgroup/$slice
    while [ -d "$cgroup" ] && [ $SECONDS -lt $deadline ]; do
        echo 1 >"$cgroup/cgroup.kill" || true
        find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.01
    done
    rm -rf "$dir"
}

start_journald() {
    # Persistent, on a tmpfs: only then does journald keep a file per user, as on a real box.
    mount -t tmpfs -o mode=755 tmpfs /var/log
    mkdir -p /run/systemd/journald.conf.d /run/systemd/journal
    : >/run/systemd/journal/flushed
    # It must take nothing from the machine: no kernel messages, no audit socket.
    printf '[Journal]\nStorage=persistent\n' >/run/systemd/journald.conf.d/private.conf
    printf '%s=no\n' Audit ReadKMsg ForwardToSyslog ForwardToWall \
        >>/run/systemd/journald.conf.d/private.conf
    (
        echo "$BASHPID" >"$1/journald/cgroup.procs"
        exec /lib/systemd/systemd-journald
    ) >>"$2" 2>&1 </dev/null &
}

inside() {
    local slice=$1 dir=$2 user=$3 home=$4 log=$5
    shift 5
    local uid gid cgroup=/sys/fs/cgroup/$slice
    uid=$(id -u "$user") gid=$(id -g "$user")
    new_cgroup2_mount
    mkdir -p "$cgroup/cmd" "$cgroup/journald" "$cgroup/user@$uid.service"
    echo $$ >"$cgroup/cmd/cgroup.procs"
    chown -R "$uid:$gid" "$cgroup/user@$uid.service"
    # What sd_booted() looks for: a user manager refuses to start without it.
    mkdir -p /run/systemd
    mount -t tmpfs -o mode=755 tmpfs /run/systemd
    mkdir /run/systemd/system
    start_journald "$cgroup" "$log"

    local drop=()
    if [ "$uid" != 0 ]; then drop=(setpriv --reuid "$uid" --regid "$gid" --clear-groups); fi
    unset DBUS_SESSION_BUS_ADDRESS XDG_CONFIG_HOME XDG_DATA_HOME XDG_STATE_HOME XDG_CACHE_HOME
    export HOME=$home XDG_RUNTIME_DIR=$dir/run USER=$user LOGNAME=$user
    # The manager hands its environment to every unit, so it starts with that of a fresh login.
    (
        echo "$BASHPID" >"$cgroup/user@$uid.service/cgroup.procs"
        cd /
        exec "${drop[@]}" env -i PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 SHELL=/bin/sh \
            HOME="$home" USER="$user" LOGNAME="$user" XDG_RUNTIME_DIR="$XDG_RUNTIME_DIR" \
            /lib/systemd/systemd --user --log-target=console
    ) >>"$log" 2>&1 </dev/null &
    export UM_PID=$!
    await_manager "$log" "${drop[@]}"
    exec "${drop[@]}" "$@"
}

await_manager() {
    local log=$1 deadline=$((SECONDS + 20))
    shift
    until [ -S "$XDG_RUNTIME_DIR/systemd/private" ] && [ -S /run/systemd/journal/stdout ] &&
        "$@" systemctl --user is-system-running --wait >/dev/null 2>&1; do
        if [ $SECONDS -ge $deadline ] || ! kill -0 "$UM_PID" 2>/dev/null; then
            cat "$log" >&2
            die "the user manager did not start; its last words are above"
        fi
        sleep 0.01
    done
}

main() {
    local user home='' log='' slice dir rc=0
    user=$(id -un)
    while [ $# -gt 0 ]; do
        case $1 in
        --user) user=$2 && shift 2 ;;
        --home) home=$(readlink -f "$2") && shift 2 ;;
        --log) log=$(readlink -f "$2") && shift 2 ;;
        --) shift && break ;;
        -*) die "unknown option $1" ;;
        *) break ;;
        esac
    done
    [ $# -gt 0 ] || die "what shall I run?"
    [ "$(uname)" = Linux ] || die "a systemd user manager needs Linux"
    [ -x /lib/systemd/systemd ] || die "systemd is not installed (package systemd)"
    [ "$(id -u)" = 0 ] || die "a private user manager needs root: mounts, and a cgroup of its own"

    # Short, since a socket's path must stay below 108 bytes. Not in /tmp, which PrivateTmp= hides.
    dir=$(mktemp -d /run/um.XXXXXX)
    chmod 755 "$dir"
    slice=llmctl_um$$.slice
    # Forked before anything is made; the mount namespace is the reaper's own.
    exec 9> >(exec setsid unshare --mount --propagation private "$self" _reap "$slice" "$dir")
    local reaper=$!
    if [ -z "$home" ]; then home=$dir/home && mkdir "$home"; fi
    if [ -z "$log" ]; then log=$dir/manager.log; fi
    install -d -m 700 "$dir/run"
    chown "$user:" "$dir/run" "$home"
    unshare --mount --propagation private \
        "$self" _inside "$slice" "$dir" "$user" "$home" "$log" "$@" 9>&- || rc=$?
    exec 9>&-
    wait "$reaper" || true
    exit $rc
}

case ${1:-} in
_inside) shift && inside "$@" ;;
_reap) shift && reap "$@" ;;
*) main "$@" ;;
esac
