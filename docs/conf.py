"""The site made of these pages: `nox -s docs` builds it, without a warning.

The pages are plain Markdown that reads well on a code host too. What only a site can show is put in
here: the table of contents is that of index.md, a comment `<!-- autodoc: MODULE -->` becomes the
docstrings of the module's public names, `<!-- on the site: FILE -->` makes a page of another file,
and links to folders of the repository lose their link.
"""

import importlib
import inspect
import re
from collections.abc import Iterator
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from aioq._contract import BrokerContract

ROOT = Path(__file__).parent.parent

project = "aioq"
author = "the aioq authors"
copyright = author  # noqa: A001 - Sphinx calls it so
version = release = version_of("aioq-core")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"aioq {release}"
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["site.css"]

myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Keys", "params_style")]

MODULES = [
    "aioq.errors",
    "aioq.backends",
    "aioq.middleware",
    "aioq.plugins",
    "aioq.testing",
    "aioq",
]
"""A name that several of them offer is described in the first."""


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", complete)
    app.connect("missing-reference", find_home)
    app.connect("autodoc-skip-member", is_for_aioq_itself)
    app.connect("autodoc-process-signature", hide_constructor)
    app.connect("autodoc-process-bases", hide_private_bases)


# -- pages -------------------------------------------------------------------------------------


def complete(app: Sphinx, page: str, source: list[str]) -> None:
    """Put into a page what it leaves to the site."""
    text = source[0]
    if other := re.search(r"^<!-- on the site: (\S+) -->$", text, re.M):
        text = (ROOT / other[1]).read_text("utf-8")
    if page == "index":
        text += contents(text)
    text = text.replace("](../aioq-sqlite/README.md", "](sqlite.md")
    text = re.sub(r"\[([^\]]+)\]\(\.\./[^).]*\)", r"\1", text)  # a folder of the repository
    source[0] = re.sub(
        r"^<!-- autodoc: (\S+) -->$", lambda found: docstrings(found[1]), text, flags=re.M
    )


def contents(index: str) -> str:
    """A table of contents for each heading that stands above a table of pages."""
    trees: list[str] = []
    for section in re.split(r"^## ", index, flags=re.M)[1:]:
        pages = re.findall(r"^\| \[([^\]]+)\]\((\w[\w-]*)\.md\) \|", section, re.M)
        if pages:
            title = section.partition("\n")[0]
            entries = "\n".join(f"{name} <{page}>" for name, page in pages)
            trees.append(f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{entries}\n```\n")
    return "".join(trees)


# -- docstrings --------------------------------------------------------------------------------


def public_names(module_name: str) -> Iterator[tuple[str, Any]]:
    """What a module offers, the installed brokers of `aioq.backends` included."""
    module = importlib.import_module(module_name)
    names = dir(module) if module_name == "aioq.backends" else module.__all__
    for name in names:
        if not name.startswith("_"):
            yield name, getattr(module, name)


def homes() -> dict[str, str]:
    """Public name -> the module that describes it."""
    found: dict[str, str] = {}
    for module_name in MODULES:
        for name, _ in public_names(module_name):
            found.setdefault(name, module_name)
    return found


HOMES = homes()


def docstrings(module_name: str) -> str:
    """Directives for the names whose home this module is."""
    lines = [f".. py:module:: {module_name}", ""]
    for name, value in public_names(module_name):
        if HOMES[name] != module_name:
            continue
        if isinstance(value, type):
            lines += [f".. autoclass:: {module_name}.{name}", "   :members:"]
            if value.__base__ is BrokerContract:  # private: described as a part of BaseBroker
                lines += ["   :inherited-members: ABC"]
            elif value.__base__ is not object:
                lines += ["   :show-inheritance:"]
        elif inspect.isroutine(value):
            lines += [f".. autofunction:: {module_name}.{name}"]
        else:
            lines += [f".. autodata:: {module_name}.{name}"]
        lines += [""]
    return "```{eval-rst}\n" + "\n".join(lines) + "\n```\n"


def find_home(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, child: nodes.Element
) -> nodes.Element | None:
    """Lead an annotation such as `aioq._job.Job` to where the name is public."""
    name = node.get("reftarget", "").rpartition(".")[2]
    if node.get("refdomain") != "py" or name not in HOMES:
        return None
    domain = env.get_domain("py")
    target = f"{HOMES[name]}.{name}"
    kind = node["reftype"]
    return domain.resolve_xref(env, node["refdoc"], app.builder, kind, target, node, child)


def is_for_aioq_itself(app: Sphinx, kind: str, name: str, value: Any, *_: object) -> bool | None:
    """Leave out what its docstring says to be for another part of aioq."""
    summary = (inspect.getdoc(value) or "").partition("\n\n")[0]
    return True if "(for " in summary or name in {"codec", "connections", "freeze"} else None


def hide_constructor(app: Sphinx, kind: str, name: str, *_: object) -> tuple[str, str] | None:
    """Nobody calls these classes: aioq makes their objects."""
    return ("", "") if name in {"aioq.Job", "aioq.TaskDef"} else None


def hide_private_bases(
    app: Sphinx, name: str, value: type, options: object, bases: list[type]
) -> None:
    """Tell of public bases only."""
    bases[:] = [Exception if base.__name__.startswith("_") else base for base in bases]
