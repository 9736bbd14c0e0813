"""llama-server's command line -> what it says that memory depends on, under one name each.

    said(["-c", "8192", "-ngl", "49", "--port", "80"])  # {"ctx": "8192", "gpu_layers": "49"}

Everything else is left out, so the result can be kept: keys and paths of secrets are not in it.
"""

from collections.abc import Mapping, Sequence

_VALUES = {
    "ctx": ("-c", "--ctx-size"),
    "gpu_layers": ("-ngl", "--gpu-layers", "--n-gpu-layers"),
    "tensor_split": ("-ts", "--tensor-split"),
    "split_mode": ("-sm", "--split-mode"),
    "main_gpu": ("-mg", "--main-gpu"),
    "n_cpu_moe": ("-ncmoe", "--n-cpu-moe"),
    "overrides": ("-ot", "--override-tensor"),
    "type_k": ("-ctk", "--cache-type-k"),
    "type_v": ("-ctv", "--cache-type-v"),
    "parallel": ("-np", "--parallel"),
    "batch": ("-b", "--batch-size"),
    "ubatch": ("-ub", "--ubatch-size"),
    "flash_attn": ("-fa", "--flash-attn"),
    "devices": ("-dev", "--device"),
    "mmproj": ("-mm", "--mmproj"),
    "draft": ("-md", "--model-draft", "--spec-draft-model"),
    "spec_type": ("--spec-type",),
    "n_draft": ("--spec-draft-n-max", "--draft-max", "--draft", "--draft-n"),
    # What these do to memory is not computed: they only have to be the same.
    "fit": ("-fit", "--fit"),
    "load_mode": ("-lm", "--load-mode"),
    "draft_type_k": ("-ctkd", "--cache-type-k-draft", "--spec-draft-type-k"),
    "draft_type_v": ("-ctvd", "--cache-type-v-draft", "--spec-draft-type-v"),
    "draft_gpu_layers": ("-ngld", "--gpu-layers-draft", "--spec-draft-ngl"),
    "draft_devices": ("-devd", "--device-draft", "--spec-draft-device"),
    "draft_ubatch": ("--spec-draft-n-ubatch",),
    "image_devices": ("-mmdev", "--mmproj-device"),
    "lora": ("--lora", "--lora-scaled"),
    "control_vector": ("--control-vector", "--control-vector-scaled"),
    "n_cpu_ffn": ("-ncffn", "--n-cpu-ffn"),
    "moe_cache": ("--moe-cache-mib",),
    "pool_per_slot": ("--kv-unified-per-slot",),
    "override_kv": ("--override-kv",),
    "rope": ("--rope-scaling", "--rope-scale", "--yarn-orig-ctx"),
}  # fmt: skip
_SWITCHES = {
    "-kvu": ("unified", "on"), "--kv-unified": ("unified", "on"),
    "-no-kvu": ("unified", "off"), "--no-kv-unified": ("unified", "off"),
    "-nkvo": ("kv_offload", "off"), "--no-kv-offload": ("kv_offload", "off"),
    "-kvo": ("kv_offload", "on"), "--kv-offload": ("kv_offload", "on"),
    "--no-op-offload": ("op_offload", "off"), "--op-offload": ("op_offload", "on"),
    "--swa-full": ("swa_full", "on"),
    "-cmoe": ("cpu_moe", "on"), "--cpu-moe": ("cpu_moe", "on"),
    "--no-repack": ("repack", "off"), "-nr": ("repack", "off"),
    "--no-mmap": ("load_mode", "none"), "--mlock": ("load_mode", "mlock"),
    "--no-mmproj-offload": ("image_offload", "off"),
    "--embeddings": ("embeddings", "on"), "--embedding": ("embeddings", "on"),
    "--reranking": ("embeddings", "rerank"), "--rerank": ("embeddings", "rerank"),
}  # fmt: skip
_NAME_OF = {flag: name for name, flags in _VALUES.items() for flag in flags}
_LISTS = frozenset({"overrides", "lora", "control_vector", "override_kv", "rope"})
_BARE = frozenset({"flash_attn"})
"""Old builds have it without a value."""


def said(words: Sequence[str]) -> dict[str, str]:
    """The words by name; of one that comes twice the last counts, lists are joined."""
    found: dict[str, str] = {}
    at = 0
    while at < len(words):
        flag, _, given = words[at].partition("=")
        at += 1
        if flag in _SWITCHES:
            name, value = _SWITCHES[flag]
            found[name] = value
        elif flag in _NAME_OF:
            name = _NAME_OF[flag]
            if not given:
                given = words[at] if at < len(words) else ""
                if name in _BARE and given not in ("on", "off", "auto", "0", "1"):
                    found[name] = "on"
                    continue
                at += 1
            joins = name in _LISTS and name in found
            found[name] = f"{found[name]},{given}" if joins else given
    return found


_ENVIRONMENT = (
    "GGML_", "LLAMA_ARG_", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES", "HSA_OVERRIDE_", "ONEAPI_DEVICE_SELECTOR", "MESA_VK_DEVICE_SELECT",
)  # fmt: skip
_SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD")


def of_environment(variables: Mapping[str, str | int]) -> dict[str, str]:
    """The variables that memory may depend on; nothing that may be a secret."""
    return {
        name: str(value)
        for name, value in sorted(variables.items())
        if name.startswith(_ENVIRONMENT) and not any(word in name for word in _SECRET)
    }
