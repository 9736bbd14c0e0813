#!/bin/bash
# lab.sh: real boxes for end-to-end tests: Debian with systemd as PID 1, journald and sshd, in
# namespaces that vanish with the caller. Needs root on Linux, and systemd-container.
#
#   lab.sh build OS      build the image of OS (bookworm, trixie, forky) if it is not there
#   lab.sh site OS       install llmctl's dependencies for the box's Python, if they are not there
#   lab.sh root OS       print where the unpacked image of OS is
#   lab.sh missing       say why this machine cannot run boxes (prints nothing when it can)
#   lab.sh run CMD...    a hermetic lab: own network, mounts, processes, cgroups; boxes die with it
#
# Inside the lab:
#   up NAME OS N [--volatile]   make and boot a box at 10.213.0.N (--volatile: journal in memory)
#   wait NAME                   until ssh logs in
#   ssh [USER@]NAME CMD...      as root, admin (may sudo), or llm (ordinary, lingers)
#   sh NAME CMD...              as root without ssh
#   off | on | cut-power NAME   orderly poweroff; power on; pull the plug
#   down NAME                   remove it for good
#   freeze | thaw NAME          a box that hangs: TCP connects, nothing answers
#   link NAME down | up         pull the network cable
#   console NAME                what the box printed since it first booted
#
# Boxes see, read-only: this checkout on /srv/llmctl, its dependencies on /srv/site (both on the
# path of the box's own python3), a real llama-server in /srv/llama, and what LLMLAB_BINDS names
# (SRC:DEST, one per line). `llmctl` and `llama-server` are in /usr/local/bin.
set -eu
# shellcheck source=tests/kit/common.sh
. "$(dirname "$(readlink -f "$0")")/common.sh"
self=$kit/lab.sh
lab=/run/llmlab # a tmpfs of the lab's own
bridge=lab0
net=10.213.0
groups=/sys/fs/cgroup
packages=systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,openssh-server,python3,sudo,iproute2,ca-certificates
# A box is this plus what is unpacked; raise it when prepare() changes.
generation=1

# ------------------------------------------------------------------------ images and caches

image() { echo "$images/tar/$1.tar.zst"; }
unpacked() { echo "$images/unpacked/$1-$generation"; }
python_of() { find "$(unpacked "$1")/usr/bin" -name 'python3.[0-9]*' -printf '%f\n' | sed 's/python//;q'; }

build() {
    local os=$1 mirror option options=()
    if [ -f "$(image "$os")" ]; then return; fi
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || die "apt on this machine names no package mirror; set DEBIAN_MIRROR"
    say "building the image of $os (about 40 s)"
    mkdir -p "$images/tar"
    for option in "${apt_lenient[@]}"; do options+=(--aptopt="$option"); done
    for option in man doc locale; do options+=(--dpkgopt="path-exclude=/usr/share/$option/*"); done
    # mmdebstrap leaves the host's resolv.conf and hostname behind; every name look-up in the box
    # would hang. An empty machine-id is filled in at the first boot.
    # shellcheck disable=SC2016  # $1 is the hook's
    mmdebstrap --quiet --mode=root --variant=minbase --components=main --include="$packages" \
        "${options[@]}" \
        --customize-hook='rm -f "$1"/etc/resolv.conf "$1"/etc/hostname "$1"/var/lib/dbus/machine-id' \
        --customize-hook=': > "$1"/etc/machine-id' \
        "$os" "$images/tar/$os.part.tar.zst" "$mirror" >&2
    mv "$images/tar/$os.part.tar.zst" "$(image "$os")"
}

# The users of a fresh box: admin may sudo, llm is an ordinary one who lingers.
prepare() {
    local root=$1
    chroot "$root" /bin/sh -eu <<'SH'
id admin >/dev/null 2>&1 || useradd -m -s /bin/bash -u 1000 admin
echo 'admin ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/admin
useradd -m -s /bin/bash -u 1001 llm
mkdir -p /var/lib/systemd/linger /var/log/journal
: >/var/lib/systemd/linger/llm
SH
    install -m 755 /dev/stdin "$root/usr/local/bin/llmctl" <<'SH'
#!/bin/sh
exec /usr/bin/python3 -m llmctl "$@"
SH
    ln -s /srv/llama/box-bin/llama-server "$root/usr/local/bin/llama-server"
    local version
    version=$(find "$root/usr/bin" -name 'python3.[0-9]*' -printf '%f\n' | sed 's/python//;q')
    mkdir -p "$root/usr/local/lib/python$version/dist-packages"
    # A .pth file instead of PYTHONPATH: it also holds in units and in ssh sessions.
    printf '/srv/llmctl\n/srv/site\n' >"$root/usr/local/lib/python$version/dist-packages/llmctl.pth"
}

unpack() {
    local os=$1 dir
    dir=$(unpacked "$os")
    if [ -d "$dir" ]; then return; fi
    [ -f "$(image "$os")" ] || die "there is no image of $os; build it: $self build $os"
    rm -rf "$dir.part"
    mkdir -p "$dir.part"
    tar -C "$dir.part" --numeric-owner --xattrs --xattrs-include='*' -I zstd -xpf "$(image "$os")"
    prepare "$dir.part"
    mv "$dir.part" "$dir"
}

requirements() {
    "$(find_python)" - "$repo/pyproject.toml" <<'PY'
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    print(*sorted(tomllib.load(file)["project"]["dependencies"]), sep="\n")
PY
}

# Where the dependencies for OS's Python are: named after what is in it.
site_dir() {
    local version
    version=$(python_of "$1")
    echo "$images/site/$version-$(requirements | sha256sum | cut -c1-12)"
}

# Wheels for the box's Python, not for ours: some dependencies are compiled.
site() {
    local os=$1 dir version platforms=() glibc
    dir=$(site_dir "$os")
    if [ -d "$dir" ]; then return; fi
    version=$(python_of "$os")
    say "installing llmctl's dependencies for Python $version ($os)"
    for glibc in 2014 _2_17 _2_28 _2_34; do platforms+=(--platform "manylinux${glibc}_$(uname -m)"); done
    rm -rf "$dir.part"
    mkdir -p "$dir.part"
    requirements >"$dir.part/requirements.txt"
    "$(find_python)" -m pip --quiet --disable-pip-version-check install --target "$dir.part" \
        --python-version "$version" --implementation cp --only-binary=:all: "${platforms[@]}" \
        --no-compile --requirement "$dir.part/requirements.txt" >&2
    # Boxes see it read-only, so it is compiled now, by the Python that will read it.
    unshare --mount --propagation private "$self" _compile "$(unpacked "$os")" "$dir.part"
    mv "$dir.part" "$dir"
}

compile() {
    local root=$1 dir=$2 work
    work=$(mktemp -d)
    mount -t tmpfs tmpfs "$work"
    mkdir "$work/up" "$work/work" "$work/root"
    mount -t overlay overlay -o "lowerdir=$root,upperdir=$work/up,workdir=$work/work" "$work/root"
    mkdir -p "$work/root/srv/site"
    mount --bind "$dir" "$work/root/srv/site"
    chroot "$work/root" python3 -m compileall -q --invalidation-mode unchecked-hash /srv/site
    umount "$work/root/srv/site" "$work/root"
    umount "$work"
    rmdir "$work"
}

missing() {
    local tool os
    [ "$(uname)" = Linux ] || { echo "boxes need Linux" && return; }
    [ "$(id -u)" = 0 ] || { echo "boxes need root" && return; }
    for tool in systemd-nspawn ip unshare setpriv nsenter ssh ssh-keygen zstd; do
        command -v $tool >/dev/null || { echo "boxes need $tool; run tests/kit/bootstrap.sh test" && return; }
    done
    for os in bookworm trixie forky; do
        [ -d "$(unpacked $os)" ] || { echo "there is no image of $os; run tests/kit/bootstrap.sh test" && return; }
    done
}

# -------------------------------------------------------------------------------- the lab

# A killed lab leaves empty cgroup directories, nothing else; the next one removes them.
sweep() {
    local dir
    for dir in "$groups"/unified/llmlab.* "$groups"/llmlab.*; do
        if [ -d "$dir" ] && [ ! -d "/proc/${dir##*.}" ] && grep -q 'populated 0' "$dir/cgroup.events"; then
            find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null || true
        fi
    done
}

remove_cgroup() {
    local dir deadline=$((SECONDS + 5))
    for dir in "$groups/unified/$1" "$groups/$1"; do
        [ -d "$dir" ] || continue
        echo 1 >"$dir/cgroup.kill" 2>/dev/null || true
        while [ -d "$dir" ] && [ $SECONDS -lt $deadline ]; do
            find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.02
        done
    done
}

run() {
    local rc=0
    export LLMLAB_CG=llmlab.$$
    sweep
    setpriv --pdeathsig KILL unshare --mount --net --pid --fork --kill-child=KILL --mount-proc \
        --propagation private -- "$self" _inside "$@" || rc=$?
    remove_cgroup "$LLMLAB_CG"
    exit $rc
}

inside() {
    # One cgroup v2 tree, as on any machine of today: forky's systemd refuses the old ones.
    if mountpoint -q $groups; then umount -R $groups; fi
    mount -t cgroup2 cgroup2 $groups
    mkdir -p "$groups/$LLMLAB_CG/control"
    echo $$ >"$groups/$LLMLAB_CG/control/cgroup.procs"
    mkdir -p $lab /run/netns /run/systemd
    mount -t tmpfs -o size=4g tmpfs $lab
    mount -t tmpfs tmpfs /run/netns
    mount -t tmpfs tmpfs /run/systemd
    ip link set lo up
    ip link add $bridge type bridge
    ip addr add $net.1/24 dev $bridge
    ip link set $bridge up
    ssh-keygen -q -t ed25519 -N '' -C operator -f $lab/id
    cat >$lab/ssh_config <<CONF
Host *
  User root
  IdentityFile $lab/id
  IdentitiesOnly yes
  BatchMode yes
  ConnectTimeout 3
  LogLevel ERROR
  UserKnownHostsFile $lab/known_hosts
  StrictHostKeyChecking yes
CONF
    exec "$@"
}

# ------------------------------------------------------------------------------ the boxes

group() { echo "$groups/$LLMLAB_CG/box-$1"; }

# The name, host key and authorized keys of a freshly installed machine.
furnish() {
    local name=$1 address=$2 root=$3 user home
    rm -f "$root"/etc/ssh/ssh_host_* # those of the image: every box has its own
    ssh-keygen -q -t ed25519 -N '' -C "$name" -f "$root/etc/ssh/ssh_host_ed25519_key"
    echo "HostKey /etc/ssh/ssh_host_ed25519_key" >"$root/etc/ssh/sshd_config.d/lab.conf"
    echo "$name" >"$root/etc/hostname"
    echo 'options timeout:1 attempts:1' >"$root/etc/resolv.conf"
    printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 %s\n' "$name" >"$root/etc/hosts"
    for user in root:0:/root admin:1000:/home/admin llm:1001:/home/llm; do
        home=$root${user##*:} user=${user%:*}
        install -d -o "${user#*:}" -g "${user#*:}" -m 700 "$home/.ssh"
        install -o "${user#*:}" -g "${user#*:}" -m 600 $lab/id.pub "$home/.ssh/authorized_keys"
    done
    locked $lab/lock introduce "$name" "$address" "$root/etc/ssh/ssh_host_ed25519_key.pub"
}

# How ssh in the lab reaches a box, and knows it.
introduce() {
    local name=$1 address=$2 key=$3
    echo "$name,$address $(cut -d' ' -f1,2 "$key")" >>$lab/known_hosts
    printf 'Host %s\n  HostName %s\n  HostKeyAlias %s\n' "$name" "$address" "$name" |
        cat - $lab/ssh_config >$lab/ssh_config.new
    mv $lab/ssh_config.new $lab/ssh_config
}

connect() {
    local name=$1 address=$2
    ip netns add "$name"
    ip link add "v-$name" type veth peer name host0 netns "$name"
    ip link set "v-$name" master $bridge up
    ip -n "$name" link set lo up
    ip -n "$name" addr add "$address/24" dev host0
    ip -n "$name" link set host0 up
    ip -n "$name" route add default via $net.1
}

binds() {
    local os=$1 llama
    llama=${LLMLAB_LLAMA:-$cache/llama}
    echo "--bind-ro=$repo:/srv/llmctl"
    echo "--bind-ro=$(site_dir "$os"):/srv/site"
    if [ -d "$llama/root/usr/box-bin" ]; then echo "--bind-ro=$llama/root/usr:/srv/llama"; fi
    # shellcheck disable=SC2001  # the start of each line
    if [ -n "${LLMLAB_BINDS:-}" ]; then sed 's/^/--bind-ro=/' <<<"$LLMLAB_BINDS"; fi
}

up() {
    local name=$1 os=$2 address=$net.$3 dir=$lab/$1
    mkdir -p "$dir"/{up,work,root}
    mount -t overlay overlay \
        -o "lowerdir=$(unpacked "$os"),upperdir=$dir/up,workdir=$dir/work" "$dir/root"
    furnish "$name" "$address" "$dir/root"
    if [ "${4:-}" = --volatile ]; then
        rmdir "$dir/root/var/log/journal"
        install -D -m 644 /dev/stdin "$dir/root/etc/systemd/journald.conf.d/volatile.conf" <<'CONF'
[Journal]
Storage=volatile
CONF
    fi
    echo "$address" >"$dir/address"
    binds "$os" >"$dir/binds"
    connect "$name" "$address"
    power_on "$name"
}

power_on() { setsid "$self" _box "$1" >>"$lab/$1/console.log" 2>&1 </dev/null & }

# Each box has a cgroup of its own: with --keep-unit, nspawn builds in the one it is started from.
# With it a reboot inside the box also makes nspawn exit with 133, and means: start me again.
box() {
    local name=$1 dir=$lab/$1 rc=133 binds
    mapfile -t binds <"$dir/binds"
    mkdir -p "$(group "$name")"
    while [ $rc = 133 ]; do
        echo $$ >"$(group "$name")/cgroup.procs"
        rc=0
        SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --boot --quiet --directory="$dir/root" \
            --machine="$name" --hostname="$name" --register=no --keep-unit --console=read-only \
            --network-namespace-path="/run/netns/$name" --capability=CAP_NET_ADMIN \
            --resolv-conf=off --timezone=off "${binds[@]}" || rc=$?
        echo "lab: nspawn ended with $rc"
    done
}

# The first SYN is lost while the bridge port comes up, and would be repeated after a second: so
# short probes first. Right after boot sshd still refuses logins: so ssh itself is tried, too.
await() {
    local name=$1 address deadline=$((SECONDS + 60))
    address=$(cat "$lab/$name/address")
    python3 - "$address" <<'PY' || die "no sshd on $name; see: lab.sh console $name"
import socket, sys, time
end = time.monotonic() + 60
while time.monotonic() < end:
    try:
        with socket.create_connection((sys.argv[1], 22), 0.1) as s:
            s.settimeout(1)
            if s.recv(4) == b"SSH-":
                sys.exit(0)
    except OSError:
        time.sleep(0.02)
sys.exit(1)
PY
    until ssh -F $lab/ssh_config "$name" true 2>/dev/null; do
        [ $SECONDS -lt $deadline ] || die "$name lets nobody in; see: lab.sh console $name"
        sleep 0.05
    done
}

# Killing nspawn would not do: the box's init would run on without it. The cgroups go, too: the
# kernel kills what systemd starts (by CLONE_INTO_CGROUP) in one that was killed before.
cut_power() {
    echo 1 >"$(group "$1")/cgroup.kill"
    gone "$1"
    find "$(group "$1")" -depth -type d -exec rmdir {} +
}

down() {
    local name=$1
    cut_power "$name"
    umount "$lab/$name/root"
    ip netns del "$name" # and with it both ends of the cable
    rm -rf "${lab:?}/$name"
    locked $lab/lock forget "$name"
}

forget() {
    sed -i "/^$1,/d" $lab/known_hosts
    sed -i "/^Host $1\$/,+2d" $lab/ssh_config
}

pid1() { head -n 1 "$(group "$1")/payload/init.scope/cgroup.procs"; }

gone() {
    local deadline=$((SECONDS + 60))
    until grep -q 'populated 0' "$(group "$1")/cgroup.events"; do
        [ $SECONDS -lt $deadline ] || die "$1 is still there"
        sleep 0.02
    done
}

[ $# -gt 0 ] || die "usage: see the head of $self"
command=$1
shift
case $command in
build)
    locked "$images/lock/$1" build "$1"
    locked "$images/lock/$1" unpack "$1"
    ;;
site) locked "$images/lock/site-$1" site "$1" ;;
missing) missing ;;
root) unpacked "$1" ;;
run) run "$@" ;;
up) up "$@" ;;
on) power_on "$1" ;;
wait) await "$1" ;;
ssh) exec ssh -F $lab/ssh_config "$@" ;;
sh)
    pid=$(pid1 "$1")
    shift
    exec nsenter -t "$pid" -m -u -i -n -p -C -- "$@"
    ;;
off)
    kill -RTMIN+4 "$(pid1 "$1")"
    gone "$1"
    ;;
cut-power) cut_power "$1" ;;
down) down "$1" ;;
freeze) echo 1 >"$(group "$1")/cgroup.freeze" ;;
thaw) echo 0 >"$(group "$1")/cgroup.freeze" ;;
link) ip link set "v-$1" "$2" ;;
console) sed 's/\x1b\[[0-9;?!]*[a-zA-Z]//g' "$lab/$1/console.log" ;;
_compile) compile "$@" ;;
_inside) inside "$@" ;;
_box) box "$@" ;;
*) die "unknown: $command" ;;
esac
