"""What is in the wheels of dist/, and what is not."""

import configparser
import zipfile
from pathlib import PurePosixPath

import pytest


@pytest.fixture
def wheel(root, package, unavailable):
    """The package's wheel, opened."""
    found = list((root / "dist").glob(f"{package.name.replace('-', '_')}-*.whl"))
    if not found:
        unavailable(f"no wheel of {package.name} in dist/: run `nox -s build`")
    assert len(found) == 1
    with zipfile.ZipFile(found[0]) as archive:
        yield archive


@pytest.fixture
def dist_info(package):
    """The folder of the wheel's metadata."""
    return f"{package.name.replace('-', '_')}-{package.project['version']}.dist-info"


def test_a_wheel_holds_one_import_package_and_its_metadata(wheel, package, dist_info):
    tops = {PurePosixPath(name).parts[0] for name in wheel.namelist()}
    beside = {"pytest_aioq.py"} if package.name == "aioq-core" else set()
    assert tops == {package.import_name, dist_info} | beside


def test_a_wheel_is_typed(wheel, package):
    assert f"{package.import_name}/py.typed" in wheel.namelist()


def test_a_wheel_brings_no_tests(wheel):
    assert not [name for name in wheel.namelist() if "tests" in PurePosixPath(name).parts]


def test_a_wheel_has_every_file_of_the_source(wheel, package):
    files = {
        path.relative_to(package.source.parent).as_posix()
        for path in package.source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = {name for name in wheel.namelist() if name.startswith(f"{package.import_name}/")}
    assert packed == files


def test_a_wheel_registers_what_its_project_declares(wheel, package, dist_info):
    project = package.project
    declared = dict(project.get("entry-points", {}))
    if scripts := project.get("scripts"):
        declared["console_scripts"] = scripts
    parser = configparser.ConfigParser(delimiters=["="])
    parser.read_string(wheel.read(f"{dist_info}/entry_points.txt").decode())
    assert {name: dict(parser[name]) for name in parser.sections()} == declared
