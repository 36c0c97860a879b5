"""Batched transforms of uint8 images on whatever device holds them.

A policy holds hyperparameters and tables. It draws from a generator (`draw`), and applies
the draws (`__call__`): a pure function of fixed shapes that never waits for the device. `Views`
puts the policies of a run together.
"""

from boss.augment.color_jitter import ColorDraws, ColorJitter
from boss.augment.ctaugment import CTADraws, CTAugment, rate_rows
from boss.augment.cutout import Cutout
from boss.augment.pixels import check_size, to_float
from boss.augment.randaugment import RandAugment, StrongDraws
from boss.augment.resized_crop import CropDraws, ResizedCrop
from boss.augment.views import ViewDraws, Views
from boss.augment.weak import Weak, WeakDraws

__all__ = [
    "CTADraws",
    "CTAugment",
    "ColorDraws",
    "ColorJitter",
    "CropDraws",
    "Cutout",
    "RandAugment",
    "ResizedCrop",
    "StrongDraws",
    "ViewDraws",
    "Views",
    "Weak",
    "WeakDraws",
    "check_size",
    "rate_rows",
    "to_float",
]
