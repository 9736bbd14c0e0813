"""Disk -> core types."""

from llmctl.store.store import Loaded, Store

__all__ = ["Loaded", "Store"]
