"""How much of a model goes where: every byte, per device, from the head of its file alone."""

from llmctl.core.memory.estimate import Estimator, estimate
from llmctl.core.memory.model import Layer, Model, model_of
from llmctl.core.memory.need import Draft, Estimate, Need
from llmctl.core.memory.settings import Device, Era, Override, Settings

__all__ = [
    "Device",
    "Draft",
    "Era",
    "Estimate",
    "Estimator",
    "Layer",
    "Model",
    "Need",
    "Override",
    "Settings",
    "estimate",
    "model_of",
]
