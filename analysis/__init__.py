"""Tables, statistics and figures from the results of a study. Never imports torch.

load        store -> DataFrames, every run with the group it may be averaged in
statistics  moments, intervals, pairs, variance components
tables      DataFrame -> DataFrame: the numbers, and the same for human eyes
figures     DataFrame -> Figure
report      writes all of it, in reading order
published/  numbers from the literature, each with its source
"""
