"""One-shot semi-supervised learning, reproduced: FixMatch, its one-shot study, and BOSS."""

__version__ = "0.1.0"
