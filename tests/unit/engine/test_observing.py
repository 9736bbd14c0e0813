"""engine/observing.py: which starts are read, and what is kept of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from support.fakes import HOME, Output
from support.world import DATA, SERVER, World

from llmctl.core.memory.saying import SETTINGS_WORDS
from llmctl.engine.observing import (
    MOST_LINES,
    MOST_RECORDS,
    Record,
    apart,
    observe,
    present,
    records,
)
from llmctl.errors import HostError, ProfileError

if TYPE_CHECKING:
    from llmctl.core.state import UnitStatus

A = "llm-a.service"
KEPT = f"{HOME}/.local/state/llmctl/observed/a.json"
LOG = (DATA / "buffers/vk1-gemma3.log").read_text("utf-8").splitlines()
STATE = f"{HOME}/.local/state/llmctl"


def running(text: str = "", *, log: list[str] = LOG, more: str = "") -> World:
    """A profile whose server runs and has logged this."""
    world = World()
    world.profile("a", f"ctx: 4096\n{text}")
    world.apply()
    again(world, log=log, more=more)
    return world


def again(world: World, *, log: list[str] = LOG, more: str = "") -> UnitStatus:
    """Another start of it."""
    world.start(A, again=True)
    world.journal[A] = list(log)
    status = world.unit(A)
    words = [*world.box.resolve("a").argv, *more.split()]
    world.host.put(f"/proc/{status.pid}/cmdline", "\0".join([*words, ""]))
    return status


def seen(world: World) -> Record:
    record = observe(world.box, "a")
    assert record is not None
    return record


def test_a_start_is_read_and_kept() -> None:
    world = running("kv: q8_0\n")
    record = seen(world)
    assert records(world.box, "a") == (record,)
    assert record.invocation == world.unit(A).invocation
    assert record.binary.path == SERVER
    assert [one.path for one in record.files] == ["/models/a.gguf"]
    assert record.said["ctx"] == "4096"
    assert record.said["type_k"] == "q8_0"
    assert record.environment == {"GGML_NO_BACKTRACE": "1"}
    assert record.start.models[0].devices == ("Vulkan0",)
    assert world.host.mode(KEPT) == 0o600


def test_a_run_is_read_once() -> None:
    world = running()
    first = seen(world)
    asked = len(world.host.called("journalctl"))
    assert seen(world) == first
    assert len(world.host.called("journalctl")) == asked


def test_only_what_this_run_wrote_counts() -> None:
    world = running()
    again(world, log=(DATA / "buffers/cpu-fit.log").read_text("utf-8").splitlines())
    assert seen(world).start.models[0].path == "/srv/models/llama-script.gguf"
    assert len(records(world.box, "a")) == 1


def test_the_same_again_takes_the_place_of_what_was_kept() -> None:
    world = running()
    seen(world)
    status = again(world)
    assert [one.invocation for one in (seen(world), *records(world.box, "a"))] == [
        status.invocation
    ] * 2


def test_other_words_are_another_record_and_the_oldest_goes() -> None:
    world = running()
    for number in range(MOST_RECORDS + 3):
        again(world, more=f"-c {4096 + 256 * number}")
        seen(world)
    kept = [one.said["ctx"] for one in records(world.box, "a")]
    assert kept == [str(4096 + 256 * number) for number in range(3, MOST_RECORDS + 3)]


def test_keys_are_not_kept() -> None:
    world = running(more="--api-key sesame --api-key-file /secret")
    seen(world)
    assert "sesame" not in world.host.text(KEPT)
    assert "secret" not in world.host.text(KEPT)


@pytest.mark.parametrize("log", [[], LOG[:9], ["nonsense"], LOG[-1:]])
def test_a_log_that_does_not_say_all_is_not_kept(log: list[str]) -> None:
    world = running(log=log)
    assert observe(world.box, "a") is None
    assert records(world.box, "a") == ()
    world.journal[A] = LOG
    assert observe(world.box, "a") is not None


def test_a_log_is_not_read_for_ever() -> None:
    world = running(log=[*["srv request: x"] * MOST_LINES, *LOG])
    assert observe(world.box, "a") is None


def test_lines_about_requests_are_not_read() -> None:
    """The first of them may be hours of work away from the last."""
    world = running(log=[*LOG, "load_tensors: CUDA7 model buffer size = 1.00 MiB"])
    assert {one.home for one in seen(world).start.models[0].weights} == {"host", "Vulkan0"}


@pytest.mark.parametrize("change", [{"active": "inactive", "pid": 0}, {"job": 3}, {"pid": 0}])
def test_what_does_not_run_is_not_read(change: dict[str, object]) -> None:
    world = running()
    world.shows(A, replace(world.unit(A), **change))
    assert observe(world.box, "a") is None


def test_a_file_that_was_replaced_since_is_not_what_runs() -> None:
    world = running()
    pid = world.unit(A).pid
    fields = " ".join(["S", *["0"] * 18, "500"])
    world.host.put(f"/proc/{pid}/stat", f"{pid} (llama server) {fields} 0 0")
    world.host.put("/proc/stat", "cpu 1 2\nbtime 1600000000\n")  # files here are of 2023
    assert observe(world.box, "a") is None
    world.host.put("/proc/stat", "cpu 1 2\nbtime 1800000000\n")
    assert observe(world.box, "a") is not None


def test_a_disk_that_takes_nothing_is_said() -> None:
    world = running()
    world.host.full.add(f"{STATE}/observed")
    with pytest.raises(HostError, match="No space left"):
        observe(world.box, "a")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 99, "records": []}'])
def test_a_file_that_is_not_ours_is_nothing(text: str) -> None:
    world = running()
    world.host.put(KEPT, text)
    assert records(world.box, "a") == ()
    assert seen(world) == records(world.box, "a")[-1]


def test_a_wrapper_is_known_by_the_name_that_the_unit_has() -> None:
    world = running()
    status = world.unit(A)
    words = world.host.text(f"/proc/{status.pid}/cmdline").replace(SERVER, "/opt/real/server", 1)
    world.host.put("/opt/real/server", "x")
    world.host.put(f"/proc/{status.pid}/cmdline", words)
    assert seen(world).binary.path == SERVER
    world = running()
    status = world.unit(A)
    world.host.put("/opt/real/server", "x")
    world.host.put(f"/proc/{status.pid}/cmdline", words)
    world.host.put(f"/proc/{status.pid}/environ", b"LLMCTL_PROCESS=older\0")
    assert seen(world).binary.path == "/opt/real/server"


def test_a_log_file_is_read_to_its_end_and_its_last_start_counts() -> None:
    world = World()
    world.config("logs: file\n")
    world.profile("a", "ctx: 4096\n")
    world.apply()
    first = (DATA / "buffers/cpu-fit.log").read_text("utf-8")
    world.host.put(f"{STATE}/logs/a.log", first + "\n".join(LOG))

    def grep(argv: object) -> Output:
        assert isinstance(argv, tuple)
        _, _, program, *_, pattern, _, path = argv
        assert program == "grep"
        lines = world.host.text(path).splitlines()
        return Output(stdout="\n".join(one for one in lines if re.search(pattern, one)))

    world.host.install("/usr/bin/timeout", grep)
    again(world)
    assert seen(world).start.models[0].path == "/srv/models/gemma3-script.gguf"


def test_no_log_file_is_nothing() -> None:
    world = World()
    world.config("logs: file\n")
    world.profile("a", "ctx: 4096\n")
    world.apply()
    again(world)
    assert observe(world.box, "a") is None


def differences(world: World, record: Record) -> list[str]:
    box = world.box
    return list(apart(record, present(box, box.store.profile("a")), settings=SETTINGS_WORDS))


def test_what_a_profile_starts_now_is_what_ran() -> None:
    world = running()
    assert differences(world, seen(world)) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("env: {GGML_CUDA_NO_VMM: 1}", "another environment: GGML_CUDA_NO_VMM"),
        ('args: ["--lora", "x"]', "lora not given, now x"),
        ("devices: [Vulkan0]", "devices not given, now Vulkan0"),
        ("draft: mtp", "spec_type not given, now draft-mtp"),
    ],
)
def test_what_is_different_now_is_said(change: str, says: str) -> None:
    world = running()
    record = seen(world)
    world.profile("a", f"ctx: 4096\n{change}\n")
    told = differences(world, record)
    assert says in told
    assert "other model files, or they were replaced" in told  # it was written anew


def test_settings_are_compared_by_what_they_mean() -> None:
    world = running()
    record = seen(world)
    model = world.host.text("/models/a.gguf")
    world.host.put(f"{HOME}/.config/llmctl/profiles/a.yaml", "model: /models/a.gguf\nctx: 9999\n")
    assert world.host.text("/models/a.gguf") == model
    assert differences(world, record) == []


def test_a_binary_that_was_built_anew_is_another() -> None:
    world = running()
    record = seen(world)
    world.host.install(SERVER, world.host.programs[SERVER])
    assert differences(world, record) == ["another binary, or it was built anew"]


def test_a_profile_that_cannot_be_served_is_said() -> None:
    world = running()
    seen(world)
    world.profile("a", "args: [--no-such-flag]\n")
    with pytest.raises(ProfileError):
        present(world.box, world.box.store.profile("a"))
