"""Batched transforms of uint8 images on whatever device holds them.

A policy holds hyperparameters and tables. It draws from a generator (`draw`), and applies
the draws (`__call__`): a pure function of fixed shapes that never waits for the device.
"""

from boss.augment.pixels import check_size, to_float
from boss.augment.randaugment import RandAugment, StrongDraws
from boss.augment.weak import Weak, WeakDraws

__all__ = ["RandAugment", "StrongDraws", "Weak", "WeakDraws", "check_size", "to_float"]
