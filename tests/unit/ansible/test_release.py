"""Builds side by side: a release is replaced only by one that was seen to work."""

from __future__ import annotations

import tarfile
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WORKS = "#!/bin/sh\nexit 0\n"
BROKEN = '#!/bin/sh\n[ "$1" = --version ] || { echo "no CUDA here" >&2; exit 3; }\n'


@pytest.fixture(scope="session")
def module(ansible_file: Callable[[str], Any]) -> Any:
    return ansible_file("library/llmctl_release.py")


@pytest.fixture
def build(module: Any, tmp_path: Path) -> Any:
    return module.Build(tmp_path / "upstream")


@pytest.fixture
def archive(tmp_path: Path) -> Callable[..., str]:
    """An archive whose llama-server is a script, some directories down."""

    def make(script: str, suffix: str = ".tar.gz", program: str = "llama-server") -> str:
        path = tmp_path / f"archive{suffix}"
        inside = f"llama-b1/bin/{program}"
        file = tmp_path / "program"
        file.write_text(script, "utf-8")
        file.chmod(0o755)
        if suffix == ".zip":
            with zipfile.ZipFile(path, "w") as made:
                made.write(file, inside)
        else:
            with tarfile.open(path, "w:gz") as tar:
                tar.add(file, inside)
        return str(path)

    return make


def releases(build: Any) -> set[str]:
    return {one.name for one in (build.root / "releases").iterdir()}


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
def test_an_archive_becomes_the_current_release(
    module: Any, build: Any, archive: Callable[..., str], suffix: str
) -> None:
    module.install(build, "one", archive=archive(WORKS, suffix), tree="")
    assert module.is_current(build, "one")
    assert (build.root / "current" / "llama-server").resolve().parent.name == "bin"


def test_a_tree_becomes_the_current_release(module: Any, build: Any, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "llama-server").write_text(WORKS, "utf-8")
    (tree / "llama-server").chmod(0o755)
    module.install(build, "one", archive="", tree=str(tree))
    assert module.is_current(build, "one")


def test_one_that_fails_its_check_replaces_nothing(
    module: Any, build: Any, archive: Callable[..., str]
) -> None:
    module.install(build, "one", archive=archive(WORKS), tree="")
    with pytest.raises(module.ReleaseError, match=r"one stays in use.*no CUDA here"):
        module.install(build, "two", archive=archive(BROKEN), tree="")
    assert module.is_current(build, "one")
    assert releases(build) == {"one"}


def test_the_first_that_fails_leaves_nothing(
    module: Any, build: Any, archive: Callable[..., str]
) -> None:
    with pytest.raises(module.ReleaseError, match="nothing was installed"):
        module.install(build, "one", archive=archive(BROKEN), tree="")
    assert releases(build) == set()
    assert not (build.root / "current").exists()


def test_an_archive_without_the_program_is_refused(
    module: Any, build: Any, archive: Callable[..., str]
) -> None:
    with pytest.raises(module.ReleaseError, match="no llama-server in it"):
        module.install(build, "one", archive=archive(WORKS, program="llama-cli"), tree="")


def test_what_is_no_archive_is_refused(module: Any, build: Any, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<p>Not found", "utf-8")
    with pytest.raises(module.ReleaseError, match="cannot be unpacked"):
        module.install(build, "one", archive=str(tmp_path / "page.html"), tree="")


def test_the_one_before_is_kept_whole_and_older_ones_go(
    module: Any, build: Any, archive: Callable[..., str]
) -> None:
    for name in ("one", "two", "three"):
        module.install(build, name, archive=archive(WORKS), tree="")
    assert releases(build) == {"two", "three"}
    assert module.roll_back(build) == "two"
    assert module.is_current(build, "two")
    assert module.roll_back(build) == "three"  # and forth again


def test_without_one_before_there_is_no_way_back(
    module: Any, build: Any, archive: Callable[..., str]
) -> None:
    module.install(build, "one", archive=archive(WORKS), tree="")
    with pytest.raises(module.ReleaseError, match="no previous release"):
        module.roll_back(build)


def test_there_is_no_way_back_to_one_that_is_broken(
    module: Any, build: Any, archive: Callable[..., str]
) -> None:
    for name in ("one", "two"):
        module.install(build, name, archive=archive(WORKS), tree="")
    (build.root / "previous" / "llama-server").unlink()
    with pytest.raises(module.ReleaseError, match="does not work either"):
        module.roll_back(build)
    assert module.is_current(build, "two")


def test_one_that_was_damaged_is_put_back(
    module: Any, build: Any, archive: Callable[..., str]
) -> None:
    module.install(build, "one", archive=archive(WORKS), tree="")
    (build.root / "current" / "bin" / "llama-server").unlink(missing_ok=True)
    (build.root / "current" / "llama-b1" / "bin" / "llama-server").unlink()
    assert not module.is_current(build, "one")
    module.install(build, "one", archive=archive(WORKS), tree="")
    assert module.is_current(build, "one")
    assert releases(build) == {"one"}


def test_the_programs_environment_is_that_of_the_build(
    module: Any, tmp_path: Path, archive: Callable[..., str]
) -> None:
    build = module.Build(tmp_path / "tq3", env={"NEEDED": "yes"})
    script = '#!/bin/sh\n[ "$NEEDED" = yes ]\n'
    module.install(build, "one", archive=archive(script), tree="")
    assert module.is_current(build, "one")


def test_a_program_that_hangs_does_not_work(
    module: Any, tmp_path: Path, archive: Callable[..., str]
) -> None:
    build = module.Build(tmp_path / "slow", timeout=0.2)
    with pytest.raises(module.ReleaseError, match="timed out"):
        module.install(build, "one", archive=archive("#!/bin/sh\nexec sleep 60\n"), tree="")
