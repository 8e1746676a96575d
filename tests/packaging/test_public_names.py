"""Public means `__all__` of six modules: it names all that is visible, and nothing else."""

import importlib
import typing
from types import ModuleType

import pytest

PUBLIC = [
    "aioq",
    "aioq.backends",
    "aioq.errors",
    "aioq.middleware",
    "aioq.plugins",
    "aioq.testing",
]


def is_ours(name, value):
    """Whether a visible name is something of aioq, not an import from elsewhere or a submodule."""
    if isinstance(value, ModuleType) or name in vars(typing):
        return False
    return getattr(value, "__module__", "aioq").split(".")[0].startswith("aioq")


@pytest.mark.parametrize("module_name", PUBLIC)
def test_every_promised_name_is_there(module_name):
    module = importlib.import_module(module_name)
    missing = set()
    for name in module.__all__:
        try:
            getattr(module, name)
        except AttributeError:
            missing.add(name)
        except ImportError as error:  # a broker of aioq.backends whose package is not installed
            if f"pip install {error.name}" not in str(error):
                raise
    assert not missing


@pytest.mark.parametrize("module_name", PUBLIC)
def test_every_visible_name_is_promised(module_name):
    module = importlib.import_module(module_name)
    visible = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and is_ours(name, value)
    }
    promised = set(module.__all__)
    if module_name == "aioq.backends":  # installed brokers appear once they have been asked for
        promised |= set(dir(module))
    assert visible <= promised, sorted(visible - promised)


@pytest.mark.parametrize("module_name", PUBLIC)
def test_every_promised_name_is_public(module_name):
    module = importlib.import_module(module_name)
    assert [name for name in module.__all__ if name.startswith("_")] in ([], ["__version__"])
    assert len(set(module.__all__)) == len(module.__all__)


def test_a_plugin_package_has_one_public_name_each(plugins):
    for plugin in plugins:
        module = importlib.import_module(plugin.import_name)
        # opentelemetry-instrument looks for a second one
        others = {"AioqInstrumentor"} if plugin.name == "aioq-otel" else set()
        assert len({*module.__all__} - others) == 1, plugin.name
