"""Which runs of a store are whole: only these take part in tables and figures.

A run is whole if each value of its rows is there and lies where its column says
(`boss.results.schema`, `boss.study.run`), no row is missing, none contradicts another of its key,
and numbers that are stored twice agree. A check gives a reason against some runs; `validate` makes
all checks, in an order in which each may rely on those before it.

tables       the rows, their keys, rows stored more than once
values       each value by itself
runs         rows of `runs`: what settings and counts imply, parents
evaluations  rows of `evaluations`: none missing or beyond the last step, as `runs` sums them up
classes      rows of `class_evaluations`: every class once, adding up to the accuracy of all
"""
