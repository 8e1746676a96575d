"""One version for all packages; plugins take any core of the same minor series."""

import importlib.metadata
import re


def core_range(version):
    """The cores that fit a package of this version: its minor series while 0.x, its major after."""
    major, minor, _ = (int(part) for part in version.split("."))
    upper = f"0.{minor + 1}" if major == 0 else f"{major + 1}"
    return f">={major}.{minor},<{upper}"


def test_all_packages_have_one_version(packages):
    versions = {package.name: package.project["version"] for package in packages}
    assert len(set(versions.values())) == 1, versions


def test_what_is_installed_has_the_version_of_the_tree(package):
    assert importlib.metadata.version(package.name) == package.project["version"]


def test_the_facade_tells_the_version():
    import aioq

    assert aioq.__version__ == importlib.metadata.version("aioq-core")


def test_plugins_take_any_core_of_their_series(plugins):
    for plugin in plugins:
        wanted = f"aioq-core{core_range(plugin.project['version'])}"
        assert wanted in plugin.project["dependencies"], plugin.name


def test_core_offers_each_plugin_as_an_extra(packages, plugins):
    core = packages[0].project
    extras = dict(core["optional-dependencies"])
    assert [name.partition(">")[0] for name in extras.pop("testing")] == ["hypothesis", "pytest"]
    assert sorted(extras.pop("all")) == sorted(name for names in extras.values() for name in names)
    assert extras == {
        plugin.name.removeprefix("aioq-"): [f"{plugin.name}{core_range(core['version'])}"]
        for plugin in plugins
    }


def test_all_packages_ask_for_the_same_python(packages):
    assert {package.project["requires-python"] for package in packages} == {">=3.11"}


def test_the_changelog_has_a_section_for_the_version(root, packages):
    headings = re.findall(r"^## \[?(\d[^\]\s]*)", (root / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert headings[:1] == [packages[0].project["version"]]
