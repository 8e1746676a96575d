"""Importing aioq, or asking what plugins there are, loads no driver and no test tool."""

import json
import subprocess
import sys

DRIVERS = {"asyncpg", "opentelemetry", "pydantic", "redis", "sqlite3"}
TEST_TOOLS = {"hypothesis", "pytest"}
SERVERS = {"http", "socketserver"}


def loaded_by(statement):
    """Top-level modules in a fresh interpreter after `statement`."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps([*sys.modules]))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in json.loads(done.stdout)}


def test_importing_aioq_loads_no_driver_no_server_and_no_test_tool(plugins):
    strangers = DRIVERS | TEST_TOOLS | {plugin.import_name for plugin in plugins}
    assert not loaded_by("import aioq") & (strangers | SERVERS)


def test_importing_the_public_doors_loads_no_driver():
    doors = "aioq.backends, aioq.errors, aioq.middleware, aioq.plugins, aioq.testing"
    assert not loaded_by(f"import {doors}") & (DRIVERS | TEST_TOOLS)


def test_the_pytest_plugin_costs_nothing_until_a_fixture_is_asked_for():
    loaded = loaded_by("import pytest_aioq")
    assert not loaded & {"aioq", "anyio", "hypothesis", "msgspec", "structlog"}


def test_announcing_a_plugin_loads_no_driver(plugins):
    for plugin in plugins:
        entry_points = plugin.project["entry-points"]["aioq"]
        assert entry_points, plugin.name
        for module in entry_points.values():
            assert not loaded_by(f"import {module}") & (DRIVERS | TEST_TOOLS), module
