"""One file per topic: its tables, its figures, its words."""
