"""A site with the real llama-server and the scripted models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from usermgr.site import ManagerSite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kit.managers import UserManager


@pytest.fixture
def site(user_manager: UserManager, llama_server: str, tiny_models: Path) -> Iterator[ManagerSite]:
    made = ManagerSite(user_manager, llama_server)
    made.models_dir = str(tiny_models)
    made.configure()
    yield made
    made.close()
