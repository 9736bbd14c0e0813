"""A site on a private user manager for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite("usermgr.scenarios")

from usermgr.site import ManagerSite  # noqa: E402  # after the line above

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kit.managers import UserManager


@pytest.fixture
def site(user_manager: UserManager, fake_llama: Path) -> Iterator[ManagerSite]:
    made = ManagerSite(user_manager, str(fake_llama)).set_up()
    yield made
    made.close()
