"""The GGUF files below a directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support.fakes import FakeHost

from llmctl.host.local import LocalHost
from llmctl.store import models
from llmctl.store.models import find_models

if TYPE_CHECKING:
    from pathlib import Path

    from llmctl.store.models import Tree


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


def names(tree: Tree) -> list[str]:
    return [one.name for one in tree.files]


def test_files_are_found_at_every_depth_by_name(host: FakeHost) -> None:
    for path in ("b.gguf", "a/z.gguf", "a/b/c/x.GGUF", ".hub/y.gguf"):
        host.put(f"/m/{path}", b"GGUF")
    for path in ("notes.txt", "a.gguf.part", "._b.gguf", "a/.x.gguf"):
        host.put(f"/m/{path}", b"....")
    host.make_dir("/m/empty.gguf")
    tree = find_models(host, "/m/")
    assert names(tree) == [".hub/y.gguf", "a/b/c/x.GGUF", "a/z.gguf", "b.gguf"]
    assert tree.files[3].path == "/m/b.gguf"
    assert tree.warnings == ()


def test_a_split_model_is_one_with_all_its_parts(host: FakeHost) -> None:
    for number, size in ((1, 10), (2, 20), (3, 30)):
        host.put(f"/m/big-{number:05d}-of-00003.gguf", b"x" * size)
    (one,) = find_models(host, "/m").files
    assert (one.name, one.parts, one.size_bytes) == ("big-00001-of-00003.gguf", 3, 60)
    assert one.missing == ()


@pytest.mark.parametrize("gone", [1, 2])
def test_a_part_that_is_missing_is_named(host: FakeHost, gone: int) -> None:
    host.put(f"/m/big-0000{3 - gone}-of-00002.gguf", b"x" * 10)
    (one,) = find_models(host, "/m").files
    assert (one.name, one.size_bytes) == ("big-00001-of-00002.gguf", 10)
    assert one.missing == (f"/m/big-0000{gone}-of-00002.gguf",)


def test_a_directory_that_cannot_be_read_is_a_warning(host: FakeHost) -> None:
    host.put("/m/a.gguf", b"GGUF")
    host.put("/m/closed/b.gguf", b"GGUF")
    host.failing["/m/closed"] = "Permission denied"
    tree = find_models(host, "/m")
    assert names(tree) == ["a.gguf"]
    assert tree.warnings == ("/m/closed cannot be read: Permission denied",)


def test_a_directory_that_is_not_there_holds_nothing(host: FakeHost) -> None:
    assert find_models(host, "/nowhere").files == ()


def test_the_root_of_all_may_be_looked_into(host: FakeHost) -> None:
    host.put("/a/x.gguf", b"GGUF")
    assert names(find_models(host, "/")) == ["a/x.gguf"]


def test_there_is_an_end_to_looking(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MOST_FILES", 3)
    monkeypatch.setattr(models, "MOST_DIRS", 3)
    for number in range(5):
        host.put(f"/m/{number}.gguf", b"GGUF")
        host.put(f"/n/{number}/x.gguf", b"GGUF")
    assert len(find_models(host, "/m").files) == 3
    assert find_models(host, "/m").warnings == ("/m holds more than 3 GGUF files",)
    assert names(find_models(host, "/n")) == ["0/x.gguf", "1/x.gguf"]
    assert find_models(host, "/n").warnings == ("only 3 directories were looked into",)


def test_there_is_an_end_to_depth(host: FakeHost) -> None:
    steps = [f"d{number}" for number in range(models.DEEPEST + 1)]
    host.put(f"/m/{'/'.join(steps[:-2])}/in.gguf", b"GGUF")
    host.put(f"/m/{'/'.join(steps)}/out.gguf", b"GGUF")
    tree = find_models(host, "/m")
    assert [one.name.rpartition("/")[2] for one in tree.files] == ["in.gguf"]
    assert "too deep" in tree.warnings[0]


# Real directories


@pytest.fixture
def real(tmp_path: Path) -> Path:
    (tmp_path / "sub/deep").mkdir(parents=True)
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    (tmp_path / "sub/deep/b.gguf").write_bytes(b"GGUF")
    return tmp_path


@pytest.mark.parametrize(
    ("link", "target"), [("loop", "."), ("sub/loop", ".."), ("sub/deep/loop", "../..")]
)
def test_links_that_lead_back_up_are_not_gone_round(real: Path, link: str, target: str) -> None:
    (real / link).symlink_to(target)
    tree = find_models(LocalHost(), str(real))
    assert names(tree) == ["a.gguf", "sub/deep/b.gguf"]
    assert tree.warnings == ()


def test_links_between_directories_end(real: Path) -> None:
    (real / "other").mkdir()
    (real / "sub/to").symlink_to("../other")
    (real / "other/to").symlink_to("../sub")
    tree = find_models(LocalHost(), str(real))
    assert {"a.gguf", "sub/deep/b.gguf"} <= set(names(tree))
    assert len(tree.files) < 10


def test_directories_that_are_called_alike_are_no_loop(tmp_path: Path) -> None:
    deep = tmp_path / "x/x/x"
    deep.mkdir(parents=True)
    (deep / "a.gguf").write_bytes(b"GGUF")
    for one in (deep, deep.parent, deep.parent.parent):
        os.utime(one, ns=(1, 1))
    assert names(find_models(LocalHost(), str(tmp_path))) == ["x/x/x/a.gguf"]


def test_links_to_files_and_directories_are_followed(real: Path) -> None:
    (real / "c.gguf").symlink_to("sub/deep/b.gguf")
    (real / "gone.gguf").symlink_to("nowhere")
    (real / "again").symlink_to("sub/deep")
    os.link(real / "a.gguf", real / "hard.gguf")
    assert names(find_models(LocalHost(), str(real))) == [
        "a.gguf", "again/b.gguf", "c.gguf", "hard.gguf", "sub/deep/b.gguf",
    ]  # fmt: skip


def test_a_name_that_is_no_text_is_left_out(real: Path) -> None:
    os.close(os.open(os.fsencode(real) + b"/\xff.gguf", os.O_CREAT | os.O_WRONLY))
    tree = find_models(LocalHost(), str(real))
    assert names(tree) == ["a.gguf", "sub/deep/b.gguf"]
    assert "no UTF-8" in tree.warnings[0]
    tree.warnings[0].encode()
