"""Rules for the files of the repository as a whole."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def texts(root, unavailable):
    """Path -> text of every text file that is tracked, or would be."""
    if not (shutil.which("git") and (root / ".git").exists()):
        unavailable("not a git checkout")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    found = {}
    for name in filter(None, listing.stdout.split("\0")):
        raw = (root / name).read_bytes() if (root / name).is_file() else b"\0"
        if b"\0" not in raw:
            found[name] = raw.decode()
    return found


def test_constraints_are_plain_pins(root):
    lines = (root / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    odd = [line for line in pins if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[0-9][\w.]*", line)]
    assert not odd
    assert pins == sorted(pins)


def test_no_file_names_a_place_on_somebodys_machine(root, texts):
    home = Path.home()
    places = [re.escape(str(root)), r"/(?:home|Users)/\w", r"[A-Z]:\\Users\\"]
    if len(home.parts) > 1:
        places.append(rf"{re.escape(str(home))}/")
    pattern = re.compile(rf"(?<![\w.])(?:{'|'.join(places)})")
    named = {name: match[0] for name, text in texts.items() if (match := pattern.search(text))}
    # This file spells the patterns out.
    assert named.keys() <= {Path(__file__).relative_to(root).as_posix()}, named


def test_no_file_names_a_registry_host(texts):
    hosts = re.compile(
        r"pypi[.]org|pythonhosted[.]org|npmjs[.](?:org|com)|--(?:extra-)?index[-]url"
    )
    assert not {name: match[0] for name, text in texts.items() if (match := hosts.search(text))}


def test_readme_opens_with_the_quickstart_and_the_test_command(root):
    text = (root / "README.md").read_text("utf-8")
    first, second = re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[:2]
    assert first.strip().endswith("examples/quickstart/run.py")
    assert second.strip().endswith("nox")


def test_the_tool_settings_name_every_package(workspace, packages, plugins):
    tool = workspace["tool"]
    imports = [package.import_name for package in packages]
    contracts = {contract["name"]: contract for contract in tool["importlinter"]["contracts"]}

    assert tool["uv"]["sources"].keys() == {package.name for package in packages}
    assert tool["coverage"]["run"]["source_pkgs"] == imports
    assert tool["importlinter"]["root_packages"] == imports
    assert contracts["Plugins do not see each other"]["modules"] == imports[1:]
    assert set(imports[1:]) <= set(
        contracts["Core knows no plugin and no driver"]["forbidden_modules"]
    )
    for name in ("Only aioq.testing knows a test tool", "Only aioq.plugins knows pluggy"):
        assert contracts[name]["source_modules"] == imports, name


def test_every_folder_with_a_package_is_in_the_workspace(root, packages):
    folders = {path.parent.name for path in root.glob("*/pyproject.toml")}
    assert folders == {package.name for package in packages}
