"""docs/plugins.md has a heading for every hook, with its exact arguments, and for no other."""

import inspect
import re

from aioq.plugins import _hookspecs


def test_docs_tell_every_hook_with_its_arguments(root):
    hooks = {
        f"{name}({', '.join(inspect.signature(value).parameters)})"
        for name, value in vars(_hookspecs).items()
        if hasattr(value, "aioq_spec")
    }
    assert hooks
    text = (root / "docs" / "plugins.md").read_text("utf-8")
    documented = set(re.findall(r"^#{2,} .*?`(aioq_\w+\([^)`]*\))`", text, re.M))
    assert documented == hooks


def test_every_hook_says_when_it_is_called_and_how_often():
    for name, value in vars(_hookspecs).items():
        if hasattr(value, "aioq_spec"):
            assert re.search(r"\b[Cc]alled once\b", value.__doc__), name
