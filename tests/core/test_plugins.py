"""The registry: it finds plugins, names the broken ones and refuses two of one name."""

import sys
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

import click
import pytest

from aioq import Aarq, Middleware
from aioq._json import JSONSerializer
from aioq.backends import MemoryBroker
from aioq.errors import ConfigurationError, PluginError
from aioq.plugins import BrokerSpec, SerializerSpec, hookimpl
from aioq.plugins._registry import DISABLE, Plugin, Registry, registry


@dataclass
class Point:
    """An entry point that need not be installed."""

    name: str
    plugin: Any
    owner: str = "their-package"
    loads: list[str] = field(default_factory=list[str])

    @property
    def dist(self) -> Any:
        return SimpleNamespace(name=self.owner, version="1.2")

    def load(self) -> Any:
        self.loads.append(self.name)
        if isinstance(self.plugin, Exception):
            raise self.plugin
        return self.plugin


class Hooks:
    """A plugin with these hook functions."""

    def __init__(self, **hooks: Any) -> None:
        for name, hook in hooks.items():
            setattr(self, name, hookimpl(hook))


plugin = Hooks


def found(*points: Any) -> Registry:
    return Registry(found=points)


def brokers(*specs: BrokerSpec) -> Any:
    return plugin(aioq_brokers=lambda: specs)


def spec(name: str = "TheirBroker", *schemes: str, **more: Any) -> BrokerSpec:
    return BrokerSpec(name=name, schemes=schemes, load=lambda: MemoryBroker, **more)


def test_core_registers_its_own_parts_through_the_same_hooks() -> None:
    own = Registry(external=False)
    assert set(own.brokers()) == {"MemoryBroker"}
    assert set(own.serializers()) == {"json"}
    assert len(own.middlewares(Aarq("memory://"))) == 4
    assert own.plugins == []


def test_a_plugin_is_loaded_and_listed_with_its_origin() -> None:
    one = found(Point("mine", brokers(spec("MyBroker", "my"))))
    assert one.plugins == [Plugin("mine", "their-package", "1.2", "loaded")]
    assert one.load_broker(one.brokers()["MyBroker"]) is MemoryBroker
    assert one.brokers() is one.brokers()


def test_the_process_has_one_registry_of_each_kind() -> None:
    assert registry() is registry(external=True)
    assert registry(external=False) is not registry()


def test_a_plugin_that_cannot_be_loaded_is_named_and_not_fatal() -> None:
    with pytest.warns(RuntimeWarning) as warned:
        one = found(
            Point("broken", ImportError("no module named driver")), Point("fine", brokers(spec()))
        )
    assert [str(warning.message) for warning in warned] == [
        "aioq plugin 'broken' of their-package is not used, it is broken: ImportError: no module "
        "named driver"
    ]
    assert [entry.state for entry in one.plugins] == [
        "broken: ImportError: no module named driver",
        "loaded",
    ]
    assert "TheirBroker" in one.brokers()


@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        ("aioq_brokerz", "unknown hook 'aioq_brokerz'"),
        ("aioq_brokers", "Argument"),
    ],
)
def test_an_unknown_hook_or_argument_is_named_and_nothing_of_the_plugin_used(
    hook: str, reason: str
) -> None:
    class Wrong:
        @hookimpl
        def aioq_serializers(self) -> Any:
            return [SerializerSpec(name="theirs", load=lambda: JSONSerializer)]

    def odd(surprise: Any) -> Any: ...

    setattr(Wrong, hook, hookimpl(odd if hook == "aioq_brokers" else lambda: None))
    wrong = Wrong()
    wrong.__dict__[hook] = getattr(Wrong, hook)
    one = Registry(external=False)
    with pytest.raises(PluginError, match=f"(?s)^plugin 'odd': .*{reason}"):
        one.add(wrong, "odd")
    assert set(one.serializers()) == {"json"}
    with pytest.warns(RuntimeWarning, match="aioq plugin 'odd' of their-package is not used, it"):
        assert set(found(Point("odd", wrong)).serializers()) == {"json"}


def test_two_distributions_with_one_name_are_an_error_that_names_both() -> None:
    points = Point("mine", plugin(), "first"), Point("mine", plugin(), "second")
    with pytest.raises(PluginError) as refused:
        found(*points)
    assert str(refused.value) == (
        "two distributions bring an aioq plugin named 'mine': first and second; uninstall one, or "
        "set AIOQ_DISABLE_PLUGINS=mine"
    )


def test_nobody_can_take_the_name_of_cores_own_plugin() -> None:
    with pytest.raises(PluginError, match="named 'builtin': aioq-core and their-package"):
        found(Point("builtin", plugin()))


def test_a_distribution_found_twice_is_loaded_once() -> None:
    point = Point("mine", brokers(spec()))
    assert len(found(point, point).plugins) == 1
    assert point.loads == ["mine"]


def test_a_disabled_plugin_is_listed_and_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DISABLE, "other, slow")
    slow, fast = Point("slow", brokers(spec("Slow"))), Point("fast", brokers(spec("Fast")))
    one = found(slow, fast)
    assert slow.loads == []
    assert [(entry.name, entry.state) for entry in one.plugins] == [
        ("fast", "loaded"),
        ("slow", "disabled"),
    ]
    assert set(one.brokers()) == {"MemoryBroker", "Fast"}


def test_disabling_settles_a_quarrel_as_its_message_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DISABLE, "mine")
    one = found(Point("mine", plugin(), "first"), Point("mine", plugin(), "second"))
    assert [entry.state for entry in one.plugins] == ["disabled", "disabled"]


def test_two_brokers_of_one_name_are_an_error_that_names_both() -> None:
    one = found(Point("a", brokers(spec("B", "x"))), Point("b", brokers(spec("B", "y"))))
    with pytest.raises(PluginError, match=r"^two plugins announce a broker named 'B' \(\w+ and \w"):
        one.brokers()


def test_two_brokers_of_one_scheme_are_an_error_that_names_both() -> None:
    one = found(Point("a", brokers(spec("A", "x", "z"))), Point("b", brokers(spec("B", "z"))))
    with pytest.raises(PluginError) as refused:
        one.brokers()
    assert str(refused.value) == (
        "A and B both serve z:// URLs; set AIOQ_DISABLE_PLUGINS to the plugin you do not want"
    )


def test_two_serializers_of_one_name_are_an_error() -> None:
    theirs = plugin(aioq_serializers=lambda: [SerializerSpec(name="json", load=JSONSerializer)])
    with pytest.raises(PluginError, match=r"^two plugins announce a serializer named 'json' "):
        found(Point("a", theirs)).serializers()


@pytest.mark.parametrize(
    ("spi", "upgrade"), [(99, "upgrade aioq-core"), (0, f"upgrade {__name__.partition('.')[0]}")]
)
def test_a_broker_for_another_contract_is_refused_with_what_to_upgrade(
    spi: int, upgrade: str
) -> None:
    one = found(Point("a", brokers(spec("B", "x", spi=spi))))
    with pytest.raises(PluginError) as refused:
        one.load_broker(one.brokers()["B"])
    assert str(refused.value) == (
        f"B was written for broker contract {spi}, this aioq-core has 1: {upgrade}"
    )


def test_a_broker_whose_driver_is_missing_is_named() -> None:
    def load() -> Any:
        raise ImportError("no module named 'driver'")

    with pytest.raises(PluginError, match=r"(?m)^B cannot be imported: no module named 'driver'$"):
        Registry().load_broker(BrokerSpec(name="B", schemes=("x",), load=load))


def breaks(*arguments: Any) -> Any:
    raise ValueError("boom")


def breaks_half_way(app: Any = None) -> Any:
    yield Middleware()
    raise ValueError("boom")


@pytest.mark.parametrize(
    "hook", [lambda app: breaks(), lambda app: breaks_half_way(), lambda app: 5], ids="abc"
)
def test_a_plugin_that_breaks_in_a_hook_is_named_and_left_out(hook: Any) -> None:
    one = found(Point("bad", plugin(aioq_middlewares=hook)))
    with pytest.warns(RuntimeWarning, match="^aioq plugin 'bad' broke in aioq_middlewares and is"):
        assert len(one.middlewares(Aarq("memory://"))) == 4


def test_hooks_are_asked_in_order_and_may_take_fewer_arguments() -> None:
    order: list[str] = []
    first = plugin(
        aioq_configure=lambda app: order.append("first"),
        aioq_commands=lambda: [click.Command("extra")],
        aioq_middlewares=lambda: [Middleware()],
    )
    second = plugin(aioq_configure=lambda: order.append("second"))
    one = found(Point("b", second), Point("a", first))
    one.configure(Aarq("memory://"))
    assert order == ["first", "second"]
    assert [command.name for command in one.commands()] == ["extra"]
    assert len(one.middlewares(Aarq("memory://"))) == 5


def test_what_a_plugin_answers_when_it_configures_is_of_no_account() -> None:
    app, layer = Aarq("memory://"), Middleware()
    found(Point("a", plugin(aioq_configure=lambda app: app.use(layer)))).configure(app)
    assert app.layers == (layer,)


async def test_an_app_is_configured_once_before_its_chain_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []
    layer = Middleware()

    def configure(app: Aarq) -> None:
        seen.append("configure")
        app.use(layer)

    def middlewares(app: Aarq) -> list[Middleware]:
        seen.append("middlewares")
        return []

    theirs = found(Point("a", plugin(aioq_configure=configure, aioq_middlewares=middlewares)))
    monkeypatch.setattr("aioq._app.registry", lambda external=True: theirs)
    app = Aarq("memory://")
    assert seen == []
    await app.open()
    await app.open()
    assert seen == ["configure", "middlewares"]
    assert layer in app.freeze().layers


async def test_plugins_false_leaves_out_all_but_the_broker_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = brokers(spec("TheirBroker", "theirs"))
    everything = Registry(
        found=[Point("a", theirs), Point("b", plugin(aioq_configure=lambda app: breaks()))]
    )
    none = Registry(external=False)
    for module in ("_app", "_brokers"):
        monkeypatch.setattr(
            f"aioq.{module}.registry", lambda external=True: everything if external else none
        )
    with pytest.raises(
        ConfigurationError, match=r"^the memory broker's URL is memory://, got 'thei"
    ):
        Aarq("theirs://x", plugins=False)
    await Aarq("memory://", plugins=False).open()


@hookimpl
def aioq_commands() -> list[click.Command]:
    return [click.Command("from-an-entry-point")]


def test_a_real_entry_point_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "their_plugin", sys.modules[__name__])
    one = found(EntryPoint("theirs", "their_plugin", "aioq"))
    assert one.plugins == [Plugin("theirs", "?", "?", "loaded")]
    assert [command.name for command in one.commands()] == ["from-an-entry-point"]


def test_a_serializer_is_chosen_by_name_or_given() -> None:
    app = Aarq("memory://", serializer="json", plugins=False)
    assert app.codec.content_type == "application/json"
    own = JSONSerializer()
    assert Aarq("memory://", serializer=own).codec.default is own
    with pytest.raises(ConfigurationError) as refused:
        _ = Aarq("memory://", serializer="yaml", plugins=False).codec
    assert str(refused.value) == "no installed serializer is named 'yaml'; installed: json"


def test_plugins_add_to_the_lines_of_the_worker() -> None:
    def add_region(logger: Any, method: str, event: Any) -> Any:
        return event

    def broken() -> Any:
        raise ValueError("boom")

    with pytest.warns(RuntimeWarning, match=r"'torn' broke in aioq_log_processors .*boom"):
        processors = found(
            Point("region", plugin(aioq_log_processors=lambda: [add_region])),
            Point("torn", plugin(aioq_log_processors=broken)),
        ).log_processors()
    assert processors == [add_region]
