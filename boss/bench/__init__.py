"""`boss-study bench`: what a training step costs here, beside its floor and beside what users would
write without this package, all measured in one run.

Nothing else of the package imports this one.
"""
