"""`boss-study bench`: what a training step costs here, beside its floor and beside what users would
write without this package, all measured in one run.

Of the rest of the package only `boss.cli` imports it, when the command is called.
"""
