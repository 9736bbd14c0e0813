"""core/causes.py: lines that real servers wrote, and what they mean."""

from __future__ import annotations

import pytest

from llmctl.core.causes import name_cause
from llmctl.core.state import UnitStatus

EXITED = UnitStatus("u", result="exit-code", exit_code=1, exit_status=1)
GPU, RAM, CORRUPT = "the GPU ran out of memory", "the box ran out of memory", "is corrupt"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("ggml_backend_cuda_buffer_type_alloc_buffer: allocating 23000.00 MiB on device 0: "
         "cudaMalloc failed: out of memory", GPU),
        ("alloc_tensor_range: failed to allocate CUDA0 buffer of size 24117248000", GPU),
        ("llama_model_load: error loading model: unable to allocate CUDA0 buffer", GPU),
        ("llama_model_load: error loading model: unable to allocate Vulkan0 buffer", GPU),
        ("ggml_vulkan: Device memory allocation of size 1073741824 failed.", GPU),
        ("ggml_vulkan: vk::Device::allocateMemory: ErrorOutOfDeviceMemory", GPU),
        ("ggml_gallocr_reserve_n_impl: failed to allocate Vulkan0 buffer of size 536870912", GPU),
        ("ggml_gallocr_reserve_n_impl: failed to allocate ROCm0 buffer of size 536870912", GPU),
        ("CUDA error: out of memory", GPU),
        ("ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 99", RAM),
        ("alloc_tensor_range: failed to allocate CPU buffer of size 24117248000", RAM),
        ("terminate called after throwing an instance of 'std::bad_alloc'", RAM),
        ("error: invalid argument: --mlock", "does not know the flag --mlock"),
        ("the argument has been removed. use --spec-draft-n-max instead", "use --spec-draft-n-max"),
        ('error while handling argument "-c": stoi', "refused the value of -c (stoi)"),
        ("couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 12340", "12340 is taken"),
        ("gguf_init_from_file: failed to open GGUF file '/m/x.gguf' (No such file or directory)",
         "/m/x.gguf cannot be opened (No such file or directory)"),
        ("error: failed to open x: Permission denied", "cannot be opened (Permission denied)"),
        ("gguf_init_from_file_impl: invalid magic characters: 'abcd', expected 'GGUF'", CORRUPT),
        ("llama_model_load: error loading model: tensor 'output.weight' data is not within the "
         "file bounds, model is corrupted or incomplete", CORRUPT),
        ("gguf_init_from_file_impl: failed to read key-value pairs", CORRUPT),
        ("error loading model architecture: unknown model architecture: 'qwen9'", "too old for the "
         "architecture qwen9"),
        ("llama_init_from_model: V cache quantization requires flash_attn", "quantized V needs"),
        ("llama_init_from_model: quantized V cache requires flash_attn", "quantized V needs"),
        ("llama_model_load_from_file_impl: no backends are loaded. x", "no backend"),
        ("/opt/x: error while loading shared libraries: libggml.so: cannot open shared object "
         "file: No such file or directory", "library libggml.so is missing"),
        ("srv load_model: failed to load model, '/m/x.gguf'", "the model could not be loaded"),
    ],
)  # fmt: skip
def test_a_line_names_its_cause(line: str, what: str) -> None:
    assert what in name_cause(["starting", line, "srv exiting"], EXITED).what


def test_the_most_telling_line_wins_wherever_it_stands() -> None:
    lines = [
        "ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed: out of memory",
        "llama_model_load: error loading model: unable to allocate CUDA0 buffer",
        "srv load_model: failed to load model, '/m/x.gguf'",
    ]
    assert name_cause(lines, EXITED).what == GPU


@pytest.mark.parametrize(
    ("status", "what"),
    [
        (UnitStatus("u", result="oom-kill", exit_code=2, exit_status=9), "the kernel killed it"),
        (UnitStatus("u", result="exit-code", exit_code=1, exit_status=203), "cannot be executed"),
        (UnitStatus("u", result="exit-code", exit_code=1, exit_status=209), "log file cannot be"),
        (UnitStatus("u", result="start-limit-hit"), "crashed too often in a row"),
        (UnitStatus("u", result="timeout"), "did not stop or start in time"),
        (UnitStatus("u", result="signal", exit_code=2, exit_status=11), "ended by signal SEGV"),
        (UnitStatus("u", result="core-dump", exit_code=3, exit_status=6), "ended by signal ABRT"),
        (UnitStatus("u", result="signal", exit_code=2, exit_status=63), "ended by signal 63"),
        (UnitStatus("u", result="exit-code", exit_code=1, exit_status=7), "ended with status 7"),
    ],
)
def test_without_a_telling_line_systemd_says_how_it_ended(status: UnitStatus, what: str) -> None:
    assert what in name_cause(["nothing of note"], status).what


@pytest.mark.parametrize(
    ("line", "yes"),
    [
        ("couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 12340", True),
        ("error: invalid argument: --port-is-taken", False),
        ("gguf_init_from_file: failed to open GGUF file '/m/port taken.gguf' (x)", False),
        ("nothing of note", False),
    ],
)
def test_a_cause_about_the_port_is_known_as_such(line: str, yes: bool) -> None:
    assert name_cause([line], EXITED).is_port is yes


def test_the_kernels_kill_is_told_before_what_the_server_wrote() -> None:
    status = UnitStatus("u", result="oom-kill")
    assert "kernel" in name_cause(["failed to load model"], status).what


def test_a_signal_is_no_exit_status() -> None:
    status = UnitStatus("u", result="signal", exit_code=2, exit_status=203)
    assert "signal" in name_cause([], status).what


@pytest.mark.parametrize("line", ["error: invalid argument: --{x}", "error: invalid argument: {0}"])
def test_braces_in_a_line_do_no_harm(line: str) -> None:
    assert line.split()[-1] in name_cause([line], EXITED).what


def test_every_cause_says_what_to_do() -> None:
    assert (
        "binaries: {...: {env: ...}}"
        in name_cause(["error while loading shared libraries: libx.so: cannot open"], EXITED).hint
    )
