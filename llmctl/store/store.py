"""Store: configuration, profiles and unit files of a box as core types.

Everything goes through a Host, so that it is the box's disk that is read, wherever llmctl runs.
"""

import contextlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import msgspec

from llmctl.core.argv import Files
from llmctl.core.config import Binary, Config, parse_config
from llmctl.core.flags import Flags
from llmctl.core.gguf_name import shards
from llmctl.core.profile import Profile, parse_profile
from llmctl.core.profile_rules import DRAFT_WORDS
from llmctl.core.unit import read_header
from llmctl.core.words import DEFAULT_GROUP, NAME, profile_of, replicated, unit_name
from llmctl.errors import HostError, ProfileError
from llmctl.host.base import Entry, Host
from llmctl.store.binaries import find, flags_of
from llmctl.store.documents import Documents
from llmctl.store.places import SERVER_KEY, Places
from llmctl.store.server_key import make_server_key


class Loaded(msgspec.Struct, frozen=True):
    """A profile's file: the profile, or what is wrong with it; its group is known either way."""

    name: str
    group: str
    profile: Profile | None = None
    error: ProfileError | None = None


class Store(Places):
    """What a box has on its disk."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._flags: dict[tuple[str, str], Flags] = {}
        self._programs: dict[str, str] = {}

    @cached_property
    def unit_dir(self) -> str:
        """Where units are written."""
        given = self.config.unit_dir
        return (
            self.expand(given)
            if given
            else self.xdg("XDG_CONFIG_HOME", ".config") + "/systemd/user"
        )

    @property
    def profiles_dir(self) -> str:
        """Where profiles are."""
        return f"{self.config_dir}/profiles"

    # Documents

    @cached_property
    def _documents(self) -> Documents:
        return Documents(self.host, f"{self.cache_dir}/documents.json")

    @cached_property
    def config(self) -> Config:
        """config.yaml; the defaults when there is none."""
        path = f"{self.config_dir}/config.yaml"
        entry = self.host.stat(path)
        if entry is None:
            return Config()
        document = self._documents.read(path, entry)
        self._documents.save()
        return parse_config(document, file=path)

    @cached_property
    def _files(self) -> Mapping[str, Entry]:
        found = ((PurePosixPath(entry.name), entry) for entry in self.host.list(self.profiles_dir))
        return {
            path.stem: entry for path, entry in found if path.suffix == ".yaml" and not entry.is_dir
        }

    @property
    def strays(self) -> tuple[str, ...]:
        """What is wrong with the names of files in the profiles' directory."""
        found = [entry.name for entry in self.host.list(self.profiles_dir)]
        wrong = [f"{self.profiles_dir}/{name}" for name in found if name.endswith(".yml")]
        return tuple(f"{path} is not read; profiles end in .yaml" for path in wrong)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all profiles, good or not."""
        return tuple(sorted(self._files))

    @cached_property
    def profiles(self) -> Mapping[str, Loaded]:
        """Every profile by name. A broken one does not hide the others."""
        loaded = {name: self._load(name) for name in self.names}
        self._documents.save()
        return loaded

    def profile(self, name: str) -> Profile:
        """A profile by name; ProfileError when there is none or it is wrong."""
        loaded = self.profiles.get(name)
        if loaded is None:
            raise self._unknown(name)
        if loaded.error is not None:
            raise loaded.error
        assert loaded.profile is not None  # noqa: S101  # one of the two is set
        return loaded.profile

    def require(self, names: Iterable[str]) -> None:
        """ProfileError for the first name that neither a profile nor a unit has."""
        for name in names:
            if name not in self._files and self.unit_text(unit_name(name)) is None:
                raise self._unknown(name)

    def profile_path(self, name: str) -> str:
        """The file of a profile."""
        return f"{self.profiles_dir}/{name}.yaml"

    def _load(self, name: str) -> Loaded:
        file = self.profile_path(name)
        raw: Any = None
        try:
            raw = self._documents.read(file, self._files[name])
            profile = parse_profile(raw, name=name, file=file)
        except ProfileError as error:
            return Loaded(name, _group_of(raw), error=error)
        except HostError as error:
            return Loaded(name, DEFAULT_GROUP, error=ProfileError(error.message, hint=error.hint))
        except FileNotFoundError:  # removed since it was listed
            return Loaded(name, DEFAULT_GROUP, error=self._unknown(name))
        return Loaded(name, profile.group, profile)

    def _unknown(self, name: str) -> ProfileError:
        if not self.names:
            return ProfileError(
                f"there is no profile {name}; {self.profiles_dir} holds none.",
                hint="Write one: llmctl new NAME FILE.gguf; llmctl scan lists the files there are.",
            )
        import difflib  # only complaints need it

        near = difflib.get_close_matches(name, self.names, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"There is {', '.join(self.names)}."
        return ProfileError(f"there is no profile {name} in {self.profiles_dir}.", hint=hint)

    # Units

    def unit_path(self, unit: str) -> str:
        """Where a unit's file is written."""
        return f"{self.unit_dir}/{unit}"

    def unit_text(self, unit: str) -> str | None:
        """The installed text of a unit; None: it is not installed by us or anybody at our place."""
        try:
            return self.host.read(self.unit_path(unit)).decode(errors="replace")
        except FileNotFoundError:
            return None

    def kept_text(self, unit: str) -> str | None:
        """The text that a unit was last ready with; None: it never was, or that is not known."""
        try:
            return self.host.read(f"{self.state_dir}/ready/{unit}").decode(errors="replace")
        except (FileNotFoundError, HostError):
            return None

    def keep_text(self, unit: str) -> None:
        """Remember the installed text of a unit that became ready, to go back to."""
        text = self.unit_text(unit)
        if text is not None and text != self.kept_text(unit):
            # A disk that takes nothing must not spoil a switch that was made.
            with contextlib.suppress(HostError):
                self.write_private(f"{self.state_dir}/ready/{unit}", text)

    def write_unit(self, unit: str, text: str, *, log_of: str | None = None) -> None:
        """Install a unit, and make the directory of the log that it writes."""
        log = self.log_file(log_of) if log_of else None
        if log:
            self.host.make_dir(log.rpartition("/")[0])
        if SERVER_KEY in text:
            make_server_key(self.host, self.server_key)
        self.write_private(self.unit_path(unit), text)

    def write_private(self, path: str, text: str) -> None:
        """A file for its owner alone: env: may hold a key."""
        self.host.write(path, text.encode(), mode=0o600)

    def unit_texts(self) -> Mapping[str, str]:
        """All installed units of models by name: `llm-NAME.service`, `llm-NAME@.service`."""
        return {
            entry.name: self.unit_text(entry.name) or ""
            for entry in self.host.list(self.unit_dir)
            if (profile_of(entry.name) or replicated(entry.name)) and not entry.is_dir
        }

    @cached_property
    def orphans(self) -> Mapping[str, str]:
        """Profiles that are gone, but whose units of ours are installed, with their groups."""
        units = (profile_of(entry.name) for entry in self.host.list(self.unit_dir))
        gone = (name for name in units if name and name not in self._files)
        headers = {name: read_header(self.unit_text(unit_name(name))) for name in gone}
        return {name: its.group for name, its in headers.items() if its.group}

    def unit_group(self, unit: str) -> str:
        """The group that an installed unit was rendered for."""
        return read_header(self.unit_text(unit)).group or DEFAULT_GROUP

    def log_file(self, profile: str) -> str | None:
        """Where a model's output goes when it does not go to the journal."""
        return f"{self.state_dir}/logs/{profile}.log" if self.config.logs == "file" else None

    # What a profile names on the disk

    def files(self, profile: Profile) -> Files:
        """Absolute paths of the binary and of every file the server opens."""
        given = profile.drafting.model
        draft = None if given in DRAFT_WORDS else given
        return Files(
            binary=self.binary_path(profile),
            model=self.model_path(profile.model),
            mmproj=self.beside(profile.mmproj, profile) if profile.mmproj else None,
            draft=self.beside(draft, profile) if draft else None,
        )

    def model_path(self, path: str) -> str:
        """A model's absolute path: as given, below home, or below models_dir."""
        if path.startswith("~/"):
            return self.host.environ()["HOME"] + path[1:]
        return path if path.startswith("/") else f"{self.expand(self.config.models_dir)}/{path}"

    def beside(self, path: str, profile: Profile) -> str:
        """A projector or a draft: as `model_path`; a bare name may also lie beside the model."""
        if "/" not in path:
            near = f"{PurePosixPath(self.model_path(profile.model)).parent}/{path}"
            if self.host.stat(near) is not None:
                return near
        return self.model_path(path)

    def model_bytes(self, profile: Profile) -> int | None:
        """Size of a model's file, all parts of a split one; None: a part is missing."""
        path = self.model_path(profile.model)
        sizes = [self.host.stat(part) for part in shards(path)]
        return None if None in sizes else sum(entry.size_bytes for entry in sizes if entry)

    def missing_file(self, profile: Profile) -> str | None:
        """What keeps a server from opening its files, in a clause; None: nothing we can see."""
        files = self.files(profile)
        for path in (*shards(files.model), files.mmproj, *shards(files.draft or "")):
            if not path:
                continue
            try:
                magic = self.host.read(path, length=4)
            except FileNotFoundError:
                return f"its file {path} does not exist"
            except HostError as error:
                return error.message.rstrip(".")
            if magic != b"GGUF":
                return f"its file {path} is corrupt or no GGUF file: it starts with {magic!r}"
        return None

    def binary(self, profile: Profile) -> Binary:
        """The build a profile names; ProfileError when config.yaml does not know it."""
        found = self.config.binary(profile.binary)
        if found is None:
            known = ", ".join(sorted(self.config.binaries))
            raise ProfileError(
                f"{self.profile_path(profile.name)}: binary: config.yaml has no "
                f"{profile.binary}; it has {known}",
                hint=f"Add it to {self.config_dir}/config.yaml: "
                f"binaries: {{{profile.binary}: /path/to/llama-server}}",
            )
        return found

    def binary_path(self, profile: Profile) -> str:
        """The absolute path of a profile's llama-server; ProfileError when it is not there."""
        file = f"{self.config_dir}/config.yaml"
        if profile.binary not in self._programs:
            binary = self.binary(profile)
            self._programs[profile.binary] = find(self.host, profile.binary, binary, file=file)
        return self._programs[profile.binary]

    def flags(self, profile: Profile) -> Flags:
        """What a profile's binary can do: from the cache, else from its --help (10 ms)."""
        binary, path = self.binary(profile), self.binary_path(profile)
        key = (path, str(sorted(binary.env.items())))
        if key not in self._flags:
            self._flags[key] = flags_of(self.host, path, binary, cache_dir=self.cache_dir)
        return self._flags[key]


def _group_of(raw: Any) -> str:
    """The group that a broken profile most likely means, so that exclusion still counts it."""
    group = raw.get("group", DEFAULT_GROUP) if isinstance(raw, dict) else DEFAULT_GROUP
    return group if isinstance(group, str) and NAME.fullmatch(group) else DEFAULT_GROUP
