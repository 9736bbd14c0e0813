#!/usr/bin/python
"""Named builds of llama.cpp side by side, each replaced only by one that was seen to work."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: llmctl_release
short_description: Install one release of a named llama.cpp build
description:
  - ROOT/releases/ID is one release, ROOT/current points to the one in use and ROOT/previous to the
    one before. A release takes its place only when its llama-server answered --version and
    --list-devices; until then, and if it does not, everything is as it was.
options:
  root: {type: path, required: true, description: "The directory of the named build."}
  state:
    type: str
    default: present
    choices: [present, rolled_back]
    description:
      - >-
        rolled_back: use the previous one.
  release: {type: str, default: "", description: "The release's id, a file name."}
  archive:
    type: path
    default: ""
    description:
      - A tar archive or zip file that has llama-server in it. With neither this nor tree, it is
        only told whether the release is wanted.
  tree:
    type: path
    default: ""
    description:
      - Or a directory that has it, which is taken away.
  user: {type: str, default: "", description: "Who runs llama-server for the check."}
  environment_of:
    type: dict
    default: {}
    description:
      - What llama-server needs in its environment.
  timeout: {type: float, default: 120, description: "Seconds for each answer of llama-server."}
"""

PROGRAM = "llama-server"
QUESTIONS = ("--version", "--list-devices")


class ReleaseError(Exception):
    """Why the release is not in place."""


@dataclass(frozen=True)
class Build:
    """A named build: its directory, and how its program is asked."""

    root: Path
    user: str = ""
    env: dict[str, str] = field(default_factory=dict)
    timeout: float = 120.0

    def release(self, name: str) -> Path:
        """Where a release is."""
        return self.root / "releases" / name

    def named(self, link: str) -> str:
        """The release that `current` or `previous` points to; empty for none."""
        try:
            return (self.root / link).readlink().name
        except OSError:
            return ""

    def trouble(self, release: Path) -> str:
        """Why a release does not work; empty when it does."""
        program = release / PROGRAM
        if not program.is_file():
            return f"{program} is not there"
        for question in QUESTIONS:
            told = self._ask(str(program), question)
            if told:
                return told
        return ""

    def _ask(self, program: str, question: str) -> str:
        identity: dict[str, Any] = {}
        if self.user and os.geteuid() == 0:
            who = pwd.getpwnam(self.user)
            identity = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": _groups(who)}
        try:
            done = subprocess.run(
                [program, question], capture_output=True, text=True, errors="replace",
                timeout=self.timeout, cwd="/", env={**os.environ, **self.env}, **identity,
                check=False, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{program} {question}: {error}"
        if done.returncode == 0:
            return ""
        last = (done.stderr or done.stdout).strip().splitlines()[-3:]
        return f"{program} {question} ended with {done.returncode}: {' / '.join(last)}"


def _groups(who: pwd.struct_passwd) -> list[int]:
    return [one.gr_gid for one in grp.getgrall() if who.pw_name in one.gr_mem]


def is_current(build: Build, name: str) -> bool:
    """The release is the one in use, and works."""
    return build.named("current") == name and not build.trouble(build.release(name))


def install(build: Build, name: str, *, archive: str, tree: str) -> None:
    """Put a release in its place, or raise ReleaseError and leave everything as it was."""
    place = build.release(name)
    if build.trouble(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=place.parent))
        try:
            staged.chmod(0o755)
            _fill(staged, archive=archive, tree=tree)
            _link_program(staged)
            if told := build.trouble(staged):
                kept = build.named("current")
                still = f"{kept} stays in use" if kept else "nothing was installed"
                raise ReleaseError(f"the new build does not work, so {still}: {told}")
            _exchange(staged, place)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    use(build, name)


def _fill(staged: Path, *, archive: str, tree: str) -> None:
    if tree:
        shutil.copytree(tree, staged, symlinks=True, dirs_exist_ok=True)
    elif zipfile.is_zipfile(archive):
        _unzip(Path(archive), staged)
    else:
        told = subprocess.run(
            ["tar", "--extract", "--no-same-owner", f"--file={archive}", f"--directory={staged}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if told.returncode:
            raise ReleaseError(f"{archive} cannot be unpacked: {told.stderr.strip()}")


def _unzip(archive: Path, staged: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        for one in file.infolist():
            made = Path(file.extract(one, staged))
            if (mode := one.external_attr >> 16) and made.is_file():
                made.chmod(mode & 0o777)


def _link_program(staged: Path) -> None:
    """Archives differ in where the program is; the link is at the top of each release."""
    found = sorted(one for one in staged.rglob(PROGRAM) if one.is_file())
    if not found:
        raise ReleaseError(f"there is no {PROGRAM} in it.")
    if found[0].parent != staged:
        (staged / PROGRAM).symlink_to(found[0].relative_to(staged))


def _exchange(staged: Path, place: Path) -> None:
    broken = place.with_name(f".{place.name}.broken")
    shutil.rmtree(broken, ignore_errors=True)
    if place.exists():
        place.rename(broken)
    staged.rename(place)
    shutil.rmtree(broken, ignore_errors=True)


def use(build: Build, name: str) -> None:
    """Let `current` point to a release and `previous` to the one before; older ones go."""
    before = build.named("current")
    if before and before != name and build.release(before).is_dir():
        _point(build, "previous", before)
    _point(build, "current", name)
    kept = {name, build.named("previous")}
    for one in (build.root / "releases").iterdir():
        if one.name not in kept:
            shutil.rmtree(one, ignore_errors=True)


def _point(build: Build, link: str, name: str) -> None:
    fresh = build.root / f".{link}.new"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(Path("releases") / name)
    fresh.replace(build.root / link)


def roll_back(build: Build) -> str:
    """Use the previous release again, if it works; its name."""
    name = build.named("previous")
    if not name:
        raise ReleaseError(f"{build.root} has no previous release.")
    if told := build.trouble(build.release(name)):
        raise ReleaseError(f"the previous release does not work either: {told}")
    use(build, name)
    return name


def main() -> None:
    """The module's entry."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "state": {"type": "str", "default": "present", "choices": ["present", "rolled_back"]},
            "release": {"type": "str", "default": ""},
            "archive": {"type": "path", "default": ""},
            "tree": {"type": "path", "default": ""},
            "user": {"type": "str", "default": ""},
            "environment_of": {"type": "dict", "default": {}},
            "timeout": {"type": "float", "default": 120.0},
        },
        supports_check_mode=True,
    )
    given = module.params
    env = {key: str(value) for key, value in given["environment_of"].items()}
    build = Build(Path(given["root"]), given["user"], env, given["timeout"])
    before = build.named("current")
    name = given["release"] if given["state"] == "present" else build.named("previous")
    if given["state"] == "present" and is_current(build, name):
        module.exit_json(changed=False, wanted=False, release=name)
    if given["state"] == "present" and not (given["archive"] or given["tree"]):
        module.exit_json(changed=False, wanted=True, release=before)  # it was only a question
    if not module.check_mode:
        try:
            if given["state"] == "present":
                install(build, name, archive=given["archive"], tree=given["tree"])
            else:
                name = roll_back(build)
        except (ReleaseError, OSError) as error:
            module.fail_json(msg=f"{build.root.name}: {error}")
    diff = {"before": f"{before or 'no release'}\n", "after": f"{name}\n"}
    module.exit_json(changed=True, wanted=False, release=name, diff=diff)


if __name__ == "__main__":
    main()
