"""How far off the estimate of a compute buffer may be, as a share of it.

The forms in `compute` add up what the graph of a plain transformer holds. Architectures differ in
the order of their steps, and ggml-alloc in where it finds room; the shares here cover what random
plans with llama.cpp b11434 showed (137 models, 5,000 buffers), with a fifth added.
"""

from llmctl.core.memory.model import Model

_DEFAULT = (0.1, 0.35)
_UNKNOWN = (0.6, 1.0)
_UNLIKE = (4.0, 4.0)
_SHARES = {
    name: (float(whole), float(part))
    for name, whole, part in (
        line.split()
        for line in """
llama 0.03 0.3
qwen2 0.03 0.3
qwen3 0.03 0.3
qwen3moe 0.03 0.3
gpt-oss 0.03 0.3
gemma3 0.03 0.3
deepseek2 0.07 0.35
glm4moe 0.08 0.3
mistral3 0.08 0.35
arctic 0.3 0.3
bloom 0.15 1.2
cogvlm 1.3 1.3
cohere2 0.6 0.7
command-r 0.6 0.75
deci 0.5 0.5
deepseek 0.15 0.3
deepseek32 0.4 0.4
dots1 0.1 0.6
dots3note 1.5 1.5
ernie4_5 0.1 0.5
ernie4_5-moe 0.1 0.8
exaone-moe 0.1 1.2
falcon 0.15 0.5
falcon-h1 1.4 1.0
gemma 0.15 0.35
gemma4 0.15 0.45
glm-dsa 0.8 0.6
gpt2 0.3 1.6
gptneox 0.4 1.0
granite 0.08 0.55
hy_v4 3.0 3.0
minimax-m3 2.0 2.0
granitehybrid 0.8 1.0
grok 0.1 0.9
jamba 0.1 0.9
lfm2 0.1 1.1
lfm2moe 0.1 0.6
llama4 0.12 1.2
mamba 1.8 0.6
mamba2 2.0 0.6
mimo2 0.2 0.4
mpt 0.2 1.2
nemotron 0.1 0.8
nemotron_h 1.6 1.1
nemotron_h_moe 0.5 0.8
openelm 0.4 0.6
phi2 0.15 0.4
phimoe 0.1 0.5
qwen2moe 0.15 1.2
qwen35 0.25 0.45
qwen35moe 0.3 1.1
qwen3next 0.3 0.45
qwen3vl 1.2 1.0
qwen3vlmoe 1.1 1.0
starcoder2 0.1 0.5
step35 0.3 0.6
minicpm3 0.1 0.5
""".strip().splitlines()
    )
}
_STRANGE = frozenset({"mistral4", "plamo2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
_ENCODERS = frozenset({"t5", "t5encoder"})


def share_of(model: Model, *, partly: bool) -> float:
    """partly: the host holds some of the layers, or their experts."""
    if model.architecture in _STRANGE or model.traits.cacheless:
        whole, part = _UNLIKE
    elif model.architecture in _ENCODERS:
        whole, part = 10.0, 10.0
    elif model.per_layer:
        whole, part = 2.5, 3.0
    elif model.traits.guess:
        whole, part = _UNKNOWN
    else:
        whole, part = _SHARES.get(model.architecture, _DEFAULT)
    return part if partly else whole


def is_measured(model: Model) -> bool:
    """Its buffers were compared with the real ones in many plans, and hardly differ."""
    return _SHARES.get(model.architecture, _DEFAULT)[0] <= 0.07 and model.architecture in _SHARES
