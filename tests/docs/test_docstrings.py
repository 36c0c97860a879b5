"""The examples in docstrings are true."""

import doctest
import importlib
import pkgutil

import pytest
import torch

import analysis
import boss

MODULES = [
    module.name
    for package in (boss, analysis)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module, extraglobs={"torch": torch}).failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_modules_say_what_they_are_for(name):
    text = importlib.import_module(name).__doc__ or ""
    assert len(text.split("\n")[0]) > 20, name


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = [importlib.import_module(name) for name in MODULES]
    assert sum(bool(t.examples) for m in modules for t in finder.find(m)) >= 5
