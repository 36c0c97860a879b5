"""The page of a report: its parts, and how they are written."""
