"""What a switch notes of a server's memory, with stand-ins that say what they are told to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kit.waiting import eventually
from usermgr.scenarios import back_at_work

if TYPE_CHECKING:
    from pathlib import Path

    from usermgr.site import ManagerSite

TRUE_KV = 4.0
LOG = """\
I cmn  common_param: common_params_print_info: build 11669 (fake) with Python
I llama_model_loader: loaded meta data with 25 key-value pairs and 39 tensors from x (version 3)
I load_tensors:          CPU model buffer size =     1.83 MiB
I llama_context: constructing llama_context
I llama_context:        CPU  output buffer size =     0.00 MiB
I llama_kv_cache:        CPU KV buffer size = {kv:8.2f} MiB
I sched_reserve:        CPU compute buffer size =     4.77 MiB
"""


def claims(site: ManagerSite, tiny_models: Path, kv: float) -> None:
    """A profile whose server says that it has allocated so much for K/V."""
    path = f"{site.home}/claims"
    site.put({path: LOG.format(kv=kv)})
    model = str(tiny_models / "llama-script.gguf")
    site.profile("a", f"says={path}", model=model, ctx=2048, gpu_layers=0)


def noted(site: ManagerSite) -> str:
    """What a switch noted down, as soon as the journal had it."""
    path = f"{site.home}/.local/state/llmctl/observed/a.json"

    def read() -> str:
        site.llmctl("plan", "a", "--observed")
        return site.run("cat", path, check=False).stdout

    found = eventually(read, 10, why="a record")
    assert found
    return found


def test_a_server_that_took_more_than_it_should_is_reported(
    site: ManagerSite, tiny_models: Path
) -> None:
    claims(site, tiny_models, TRUE_KV + 1.5)
    site.llmctl("switch", "a")
    noted(site)
    said = site.llmctl("plan", "a", "--observed")
    assert "this is a bug" in said.stderr
    row = next(line.split() for line in said.stdout.splitlines() if line.startswith("host    kv"))
    assert row == ["host", "kv", "4.00", "5.50", "+1.50", "DEVIATES"]
    report = next(line for line in said.stdout.splitlines() if line.startswith("report: "))
    assert "architecture llama" in report
    assert report.endswith("; host kv: 4.00 MiB predicted, 5.50 observed")
    claims(site, tiny_models, TRUE_KV)
    site.llmctl("off")
    site.llmctl("switch", "a")
    eventually(
        lambda: site.json("plan", "a", "--observed")["observed"]["report"] is None, 10,
        why="the new start is read",
    )  # fmt: skip


@pytest.mark.parametrize("obstacle", ["file", "nonsense"])
def test_a_switch_does_not_mind_what_cannot_be_noted(
    site: ManagerSite, tiny_models: Path, obstacle: str
) -> None:
    claims(site, tiny_models, TRUE_KV)
    folder = f"{site.home}/.local/state/llmctl/observed"
    site.put({folder: "in the way"} if obstacle == "file" else {f"{folder}/a.json": "{nonsense"})
    told = site.llmctl("switch", "a")
    assert "a is ready" in told.stdout
    assert "noted" not in told.stderr
    back_at_work(site, "a")
    if obstacle == "file":
        site.llmctl("off")
        assert "what it allocated was not noted: " in site.llmctl("switch", "a", "-v").stderr


def test_a_start_that_was_not_asked_for_is_not_read_again(
    site: ManagerSite, tiny_models: Path
) -> None:
    claims(site, tiny_models, TRUE_KV)
    site.llmctl("switch", "a")
    before = noted(site)
    told = site.llmctl("switch", "a", "-v")
    assert "journalctl" not in told.stderr
    assert noted(site) == before
