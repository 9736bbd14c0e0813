"""The words of a command line that memory depends on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.world import HELP

from llmctl.core.argv import Files, server_argv
from llmctl.core.flags import parse_help
from llmctl.core.profile import Profile
from llmctl.core.said import _SWITCHES, _VALUES, of_environment, said


def test_only_what_memory_depends_on_is_kept() -> None:
    words = ["llama-server", "--host", "127.0.0.1", "--api-key", "secret", "-c", "8192", "-nkvo",
             "--api-key-file", "/keys", "-ngl", "49"]  # fmt: skip
    assert said(words) == {"ctx": "8192", "kv_offload": "off", "gpu_layers": "49"}


def test_the_last_of_one_counts_and_lists_grow() -> None:
    assert said(["-c", "1", "--ctx-size", "2"]) == {"ctx": "2"}
    assert said(["-ot", "a=CPU", "-ot", "b=CPU"]) == {"overrides": "a=CPU,b=CPU"}


def test_flash_attention_of_old_builds_has_no_value() -> None:
    assert said(["-fa", "-c", "1"]) == {"flash_attn": "on", "ctx": "1"}
    assert said(["-fa", "off", "-c", "1"]) == {"flash_attn": "off", "ctx": "1"}
    assert said(["-fa"]) == {"flash_attn": "on"}


def test_what_a_profile_says_comes_back() -> None:
    profile = Profile(name="a", model="m", ctx=4096, n_cpu_moe=3, tensor_split=(2, 1), parallel=2)
    argv = server_argv(profile, files=Files("s", "m"), port=1, flags=parse_help(HELP))
    assert said(argv) == {
        "ctx": "4096", "gpu_layers": "all", "n_cpu_moe": "3", "tensor_split": "2,1",
        "parallel": "2", "type_k": "f16", "type_v": "f16", "batch": "2048", "ubatch": "512",
        "flash_attn": "on", "fit": "off",
    }  # fmt: skip


def test_every_flag_is_one_that_a_llama_server_has_or_had() -> None:
    flags = parse_help(HELP)
    gone = {"--draft", "--draft-max", "--draft-n", "--no-mmap", "--mlock"}
    named = {*_SWITCHES, *(flag for flags in _VALUES.values() for flag in flags)}
    assert {flag for flag in named if flag not in flags} <= gone


def test_secrets_of_the_environment_are_not_kept() -> None:
    given_: dict[str, str | int] = {
        "GGML_CUDA_NO_VMM": 1, "LLAMA_API_KEY": "x", "LLAMA_ARG_HF_TOKEN": "x", "PATH": "/bin",
        "LLAMA_ARG_CTX_SIZE": "1", "CUDA_VISIBLE_DEVICES": "1",
    }  # fmt: skip
    assert of_environment(given_) == {
        "GGML_CUDA_NO_VMM": "1", "LLAMA_ARG_CTX_SIZE": "1", "CUDA_VISIBLE_DEVICES": "1",
    }  # fmt: skip


@given(st.lists(st.sampled_from(["-c", "-ngl", "-fa", "-ot", "x=y", "8", "-kvu", "", "="])))
def test_no_command_line_is_an_error(words: list[str]) -> None:
    assert all(isinstance(value, str) for value in said(words).values())
