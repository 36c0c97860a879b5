"""What a study is. Study files import from here: `from boss.study import Run, Study, grid`."""

from boss.study.run import BUDGETS, Run
from boss.study.study import Comparison, Study, grid

__all__ = ["BUDGETS", "Comparison", "Run", "Study", "grid"]
