"""What llama.cpp knows of an architecture without being told by the file.

From src/llama-arch.cpp (LLM_ARCH_NAMES, llm_arch_is_recurrent, llm_arch_is_hybrid,
llm_arch_supports_rs_rollback), src/models/*.cpp (load_arch_hparams) and src/llama-model.cpp
(create_memory) of llama.cpp b11434. An architecture that is not here is sized as if it had full
attention in all layers, and said to be unknown.
"""

import enum

import msgspec


class Recurrence(enum.Enum):
    """Which layers keep a recurrent state instead of keys and values."""

    NONE = "none"
    ALL = "all"  # no attention at all: mamba, rwkv
    BOTH = "both"  # falcon-h1: every layer has both
    NO_HEADS = "no_heads"  # layers whose head_count_kv is 0
    NO_HEADS_NO_FFN = "no_heads_no_ffn"  # nemotron_h: and whose feed_forward_length is 0
    INTERVAL = "interval"  # all but every n-th: full_attention_interval


class Swa(msgspec.Struct, frozen=True):
    """Sliding-window attention. A pattern in the file comes first, if it is read at all.

    period: of n layers one is full (None: the file must say which). dense_first: the first of
    them, else the last. window: when the file has none (None: then no layer slides). forced: the
    file's number is ignored. layers: only models of that many layers have it.
    """

    period: int | None
    dense_first: bool = False
    window: int | None = None
    forced: int | None = None
    layers: int | None = None
    zero_is_off: bool = True


class Indexer(enum.Enum):
    """Which layers have a second, small cache of keys that select what is attended to."""

    NONE = "none"
    ALL = "all"
    FULL = "full"  # those that `attention.indexer.types` names
    SPARSE = "sparse"  # all behind the leading dense ones (minimax-m3)
    ATTENTION = "attention"  # all with attention (qwen4exp)


class Traits(msgspec.Struct, frozen=True):
    """What differs from a plain transformer with keys and values in all its layers.

    interval: default of full_attention_interval. caches_nextn: MTP layers have a cache in the main
    context too. rollback: the state is kept once more per drafted token. cacheless: nothing is
    kept. ties_output: without output.weight, the embedding is. twice: a tied embedding is held
    twice even in one place, as the output is made first. flash: flash attention is not forced off.
    guess: why the rules only bound it.
    """

    recurrence: Recurrence = Recurrence.NONE
    swa: Swa | None = None
    indexer: Indexer = Indexer.NONE
    interval: int = 4
    caches_nextn: bool = False
    rollback: bool = False
    cacheless: bool = False
    ties_output: bool = True
    twice: bool = False
    flash: bool = True
    guess: str | None = None


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_PLAIN = _names("""
llama deci falcon gpt2 gptj gptneox mpt baichuan starcoder refact bloom stablelm qwen qwen2
qwen2moe qwen2vl qwen3 qwen3moe qwen3vl qwen3vlmoe phi2 phi3 phimoe plamo codeshell orion internlm2
minicpm minicpm3 gemma starcoder2 xverse command-r dbrx olmo olmoe openelm arctic deepseek deepseek2
deepseek2-ocr chatglm glm4 glm4moe t5 t5encoder jais jais2 nemotron exaone granite granitemoe
chameleon plm bailingmoe bailingmoe2 dots1 arcee ernie4_5 ernie4_5-moe hunyuan-moe hunyuan-dense
hunyuan_vl hy_v3 smollm3 seed_oss grovemoe apertus minimax-m2 cogvlm pangu-embedded mistral3
mistral4 paddleocr maincoder talkie nanbeige
""")
_CACHELESS = _names("""
bert modern-bert nomic-bert nomic-bert-moe neo-bert jina-bert-v2 jina-bert-v3 eurobert
gemma-embedding dream llada llada-moe rnd1 wavtokenizer-dec
""")
_NO_OUTPUT = _names("""
bert modern-bert nomic-bert nomic-bert-moe neo-bert jina-bert-v2 jina-bert-v3 eurobert
wavtokenizer-dec llama-embed
""")
_SWA = {
    "gpt-oss": Swa(2, zero_is_off=False),
    "gemma2": Swa(2, window=4096, zero_is_off=False),
    "gemma3": Swa(6),
    "gemma3n": Swa(5, zero_is_off=False),
    "gemma4": Swa(None, zero_is_off=False),
    "cohere2": Swa(4, zero_is_off=False),
    "cohere2moe": Swa(4, dense_first=True, zero_is_off=False),
    "afmoe": Swa(4),
    "mellum": Swa(4),
    "olmo2": Swa(4),
    "exaone4": Swa(4, window=4096, layers=64, zero_is_off=False),
    "exaone-moe": Swa(4, window=128, zero_is_off=False),
    "muse-glimmer": Swa(4, zero_is_off=False),
    "llama4": Swa(4, window=8192, forced=8192),
    "plamo3": Swa(8),
    "smallthinker": Swa(4, dense_first=True, forced=4096),
    "laguna": Swa(4, dense_first=True),
    "granite_swa": Swa(None, zero_is_off=False),
    "maple": Swa(None, zero_is_off=False),
    "mimo2": Swa(None, zero_is_off=False),
    "spark2_5": Swa(None, zero_is_off=False),
    "step35": Swa(None, zero_is_off=False),
}
_DRAFT_ONLY = "it drafts for another model, whose layers and cells it shares"

TRAITS: dict[str, Traits] = {
    **{name: Traits() for name in _PLAIN},
    **{
        name: Traits(cacheless=True, ties_output=name not in _NO_OUTPUT) for name in _CACHELESS
    },
    "llama-embed": Traits(ties_output=False),
    **{
        name: Traits(swa=swa, twice=name in {"gemma3n", "gemma4"}) for name, swa in _SWA.items()
    },
    "bitnet": Traits(ties_output=False),
    "grok": Traits(flash=False),
    **{
        name: Traits(Recurrence.ALL)
        for name in ("mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7")
    },
    **{
        name: Traits(Recurrence.NO_HEADS, caches_nextn=True)
        for name in ("jamba", "plamo2", "granitehybrid", "kimi-linear")
    },
    **{
        name: Traits(Recurrence.NO_HEADS, caches_nextn=True, rollback=True)
        for name in ("lfm2", "lfm2moe", "kimi-k3", "bailingmoe3")
    },
    **{
        name: Traits(Recurrence.NO_HEADS_NO_FFN, caches_nextn=True, rollback=True)
        for name in ("nemotron_h", "nemotron_h_moe")
    },
    "falcon-h1": Traits(Recurrence.BOTH, caches_nextn=True),
    "qwen3next": Traits(Recurrence.INTERVAL),
    "qwen35": Traits(Recurrence.INTERVAL, rollback=True),
    "qwen35moe": Traits(Recurrence.INTERVAL, rollback=True),
    "qwen4exp": Traits(
        Recurrence.INTERVAL, indexer=Indexer.ATTENTION, rollback=True,
        guess="its n-gram embeddings keep a history that is not counted",
    ),
    "minimax-01": Traits(Recurrence.INTERVAL, interval=8),
    "minimax-m3": Traits(indexer=Indexer.SPARSE, caches_nextn=True),
    "deepseek32": Traits(indexer=Indexer.ALL),
    "glm-dsa": Traits(indexer=Indexer.FULL),
    "hy_v4": Traits(indexer=Indexer.FULL, caches_nextn=True),
    "dots3note": Traits(indexer=Indexer.FULL, swa=Swa(None, zero_is_off=False)),
    "glm5-next": Traits(Recurrence.NO_HEADS, indexer=Indexer.FULL, rollback=True),
    "deepseek4": Traits(guess="its cache has rules of its own (llama-kv-cache-dsv4.cpp)"),
    "graniteswitch": Traits(guess="its router layer has a cache of its own"),
    "hrm_text": Traits(guess="its layers are run in cycles"),
    "eagle3": Traits(guess=_DRAFT_ONLY),
    "dflash": Traits(guess=_DRAFT_ONLY),
    "gemma4-assistant": Traits(cacheless=True, guess=_DRAFT_ONLY),
    "qwen3tts": Traits(guess="it is a part of a speech model"),
    "pockettts": Traits(guess="it is a part of a speech model"),
}  # fmt: skip

UNKNOWN = Traits(guess="llmctl does not know it, and assumes full attention in all layers")


def traits_of(architecture: str) -> Traits:
    """What is known of it; for a stranger, the assumptions that need the most memory."""
    return TRAITS.get(architecture, UNKNOWN)
