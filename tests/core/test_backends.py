"""``aioq.backends``: brokers by name, each imported when it is first used."""

from collections.abc import Iterator
from typing import Any

import pytest

import aioq.backends
from aioq.backends import MemoryBroker
from aioq.errors import PluginError
from aioq.plugins import BrokerSpec, hookimpl
from aioq.plugins._registry import Registry


class Announces:
    """A plugin that brings one broker."""

    def __init__(self, spec: BrokerSpec) -> None:
        self.aioq_brokers = hookimpl(lambda: [spec])


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """Core with no plugin installed, and no broker looked up before."""
    own = Registry(external=False)
    monkeypatch.setattr("aioq.plugins._registry.registry", lambda external=True: own)
    before = dict(vars(aioq.backends))
    for name in ("SQLiteBroker", "RedisBroker", "PostgresBroker"):
        vars(aioq.backends).pop(name, None)
    yield own
    vars(aioq.backends).clear()
    vars(aioq.backends).update(before)


def announce(to: Registry, name: str, load: Any) -> None:
    spec = BrokerSpec(name=name, schemes=(name.lower(),), load=load)
    to.add(Announces(spec), name)


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("RedisBroker", "aioq-redis"),
        ("PostgresBroker", "aioq-postgres"),
        ("SQLiteBroker", "aioq-sqlite"),
    ],
)
def test_a_broker_that_is_not_installed_says_what_to_install(
    alone: Registry, name: str, package: str
) -> None:
    with pytest.raises(ImportError) as missing:
        exec(f"from aioq.backends import {name}")
    assert str(missing.value) == f"{name} ships in {package}: pip install {package}"
    assert missing.value.name == package


def test_an_announced_broker_is_loaded_once(alone: Registry) -> None:
    loads: list[int] = []

    def load() -> Any:
        loads.append(1)
        return MemoryBroker

    announce(alone, "TheirBroker", load)
    first: Any = aioq.backends.TheirBroker  # type: ignore[attr-defined]
    assert first is aioq.backends.TheirBroker is MemoryBroker  # type: ignore[attr-defined]
    assert loads == [1]


def test_a_broker_that_cannot_be_imported_is_named(alone: Registry) -> None:
    def load() -> Any:
        raise ImportError("no driver")

    announce(alone, "HalfBroker", load)
    with pytest.raises(PluginError, match=r"(?m)^HalfBroker cannot be imported: no driver$"):
        aioq.backends.HalfBroker  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("name", ["RedsBroker", "_private", "__path__"])
def test_any_other_name_is_an_attribute_error(name: str) -> None:
    with pytest.raises(
        AttributeError, match=f"(?m)^module 'aioq.backends' has no attribute '{name}'$"
    ):
        getattr(aioq.backends, name)


def test_dir_lists_what_is_installed(alone: Registry) -> None:
    assert dir(aioq.backends) == ["BaseBroker", "MemoryBroker"]
    announce(alone, "TheirBroker", lambda: MemoryBroker)
    alone._brokers = None
    assert dir(aioq.backends) == ["BaseBroker", "MemoryBroker", "TheirBroker"]
