"""The tree at the top of aioq/errors.py is the real one."""

import builtins
import re

from aioq import errors


def drawn_tree():
    """Name of each drawn error -> the names of its bases, as drawn."""
    tree, ancestors = {}, []
    for line in errors.__doc__.splitlines():
        match = re.match(r"    ((?:[│ ]   )*)(?:[├└]── )?(\w+)(?: +\(also (\w+)\))?", line)
        if match is None or not hasattr(errors, match[2]):
            continue
        drawn_under = "── " in line
        depth = len(match[1]) // 4 + drawn_under
        del ancestors[depth:]
        tree[match[2]] = [*ancestors[-1:], *([match[3]] if match[3] else [])]
        ancestors.append(match[2])
    return tree


def test_every_error_is_drawn_under_its_bases():
    real = {
        name: [base.__name__ for base in value.__bases__]
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.AioqError)
    }
    real["AioqError"] = []
    assert drawn_tree() == real


def test_every_error_says_what_it_means():
    for name in errors.__all__:
        assert getattr(errors, name).__doc__, name


def test_no_error_hides_a_builtin():
    assert not set(errors.__all__) & set(vars(builtins))
