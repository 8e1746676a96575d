"""``namespace``: which one an app is in, and how a wrong one is refused."""

from typing import Any

import pytest

from aioq import Aarq
from aioq.backends import MemoryBroker
from aioq.errors import ConfigurationError, InvalidOption, NotSupported


class OfOneApp(MemoryBroker):
    capabilities = MemoryBroker.capabilities._replace(namespaces=False)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("AIOQ_NAMESPACE", raising=False)
    monkeypatch.setenv("AIOQ_BROKER_URL", "memory://")
    return monkeypatch


@pytest.mark.parametrize("broker", [None, "memory://", MemoryBroker()], ids=["env", "url", "own"])
def test_an_app_puts_its_broker_into_its_namespace(broker: Any) -> None:
    assert Aarq(broker, namespace="shop").broker.namespace == "shop"


def test_without_one_it_is_aioq() -> None:
    assert Aarq().broker.namespace == "aioq"
    assert Aarq(namespace="aioq").broker.namespace == "aioq"


def test_the_environment_says_which_unless_the_code_does(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AIOQ_NAMESPACE", "staging")
    assert Aarq().broker.namespace == "staging"
    assert Aarq(namespace="shop").broker.namespace == "shop"
    assert Aarq(MemoryBroker(namespace="shop")).broker.namespace == "shop"
    environment.setenv("AIOQ_NAMESPACE", "")
    assert Aarq().broker.namespace == "aioq"


@pytest.mark.parametrize("name", ["", "Shop", "a.b", "a{b}", "-a", "a b", "ä", "a" * 41, "a\n", 5])
def test_what_cannot_be_a_name_in_every_store_is_refused(name: Any) -> None:
    with pytest.raises(InvalidOption, match=r"^a namespace is a name of 1 to 40 of"):
        Aarq("memory://", namespace=name)


def test_one_broker_is_not_in_two_namespaces() -> None:
    broker = MemoryBroker()
    Aarq(broker, namespace="shop")
    Aarq(broker, namespace="shop")
    with pytest.raises(ConfigurationError) as refused:
        Aarq(broker, namespace="billing")
    assert str(refused.value) == (
        "the broker of memory:// is in the namespace 'shop', not in 'billing': give each namespace "
        "a broker of its own"
    )


def test_a_broker_that_has_none_says_so() -> None:
    Aarq(OfOneApp(), namespace="aioq")
    with pytest.raises(NotSupported) as refused:
        Aarq(OfOneApp(), namespace="shop")
    assert str(refused.value) == "OfOneApp cannot keep namespaces apart: leave the namespace out"
