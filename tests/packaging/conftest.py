"""The packages of the workspace, as their own pyproject.toml files describe them."""

import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
WORKSPACE: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
MEMBERS: list[str] = WORKSPACE["tool"]["uv"]["workspace"]["members"]


@dataclass(frozen=True)
class Package:
    """One package: its folder has the name of its distribution."""

    name: str

    @property
    def folder(self) -> Path:
        return ROOT / self.name

    @property
    def import_name(self) -> str:
        return "aioq" if self.name == "aioq-core" else self.name.replace("-", "_")

    @property
    def source(self) -> Path:
        return self.folder / "src" / self.import_name

    @cached_property
    def pyproject(self) -> dict[str, Any]:
        return tomllib.loads((self.folder / "pyproject.toml").read_text("utf-8"))

    @property
    def project(self) -> dict[str, Any]:
        return self.pyproject["project"]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def workspace() -> dict[str, Any]:
    """The root pyproject.toml."""
    return WORKSPACE


@pytest.fixture(scope="session")
def packages() -> list[Package]:
    return [Package(name) for name in MEMBERS]


@pytest.fixture(scope="session")
def plugins(packages: list[Package]) -> list[Package]:
    return packages[1:]


@pytest.fixture(scope="session", params=MEMBERS)
def package(request: pytest.FixtureRequest) -> Package:
    """Each package in turn."""
    return Package(request.param)
