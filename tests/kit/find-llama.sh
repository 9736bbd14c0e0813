#!/bin/bash
# find-llama.sh: prints the path of a real llama-server: $LLMCTL_TEST_LLAMA, else the one on PATH,
# else one fetched into the cache (get-llama.sh).
# find-llama.sh --vulkan: of one that sees two GPUs, made of software; fetched, whatever else there is.
set -eu
# shellcheck source=tests/kit/common.sh
. "$(dirname "$(readlink -f "$0")")/common.sh"
if [ "${1:-}" = --vulkan ]; then
    "$kit/get-llama.sh" --vulkan
    echo "$cache/llama-vulkan/llama-server"
elif [ -n "${LLMCTL_TEST_LLAMA:-}" ]; then
    [ -x "$LLMCTL_TEST_LLAMA" ] || die "LLMCTL_TEST_LLAMA names no program: $LLMCTL_TEST_LLAMA"
    echo "$LLMCTL_TEST_LLAMA"
elif command -v llama-server; then
    : # printed
else
    "$kit/get-llama.sh"
    echo "$cache/llama/root/usr/bin/llama-server"
fi
