"""The kit leaves no promise of the broker contract out."""

import inspect

from aioq._contract import BrokerContract
from aioq.testing.conformance import CASES, ELSEWHERE, BrokerSuite, ModelSuite, coverage, table
from aioq.testing.conformance._cases import covered_by, each_test

LATER = {44, *range(52, 64)}
"""Deadlines, unique keys, groups, rate limits, dependencies."""

ON_A_CONNECTION = {"enqueue_inside", "enqueue_inside_sync"}
"""The connection is one of the caller's, of a driver that the kit does not know: each broker that
takes some proves it with its own drivers (tests/postgres/test_inside.py)."""


def test_every_case_is_proved() -> None:
    missing = CASES.keys() - coverage(BrokerSuite, ModelSuite).keys()
    assert not missing, f"no test of the kit names case {sorted(missing)}"


def test_no_number_is_forgotten() -> None:
    numbers = set(range(1, 100))
    assert CASES.keys() | ELSEWHERE.keys() | LATER == numbers
    assert not CASES.keys() & ELSEWHERE.keys()


def test_every_method_of_the_contract_is_proved() -> None:
    contract = {
        name
        for name, member in vars(BrokerContract).items()
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
    }
    missing = contract - ON_A_CONNECTION - coverage(BrokerSuite).keys()
    assert not missing, f"no test of the kit names {sorted(missing)}"


def test_every_test_names_its_promise() -> None:
    silent = [name for name, test in each_test(BrokerSuite) if not covered_by(test)]
    assert not silent


def test_the_table_can_be_printed() -> None:
    lines = table(BrokerSuite, ModelSuite).splitlines()
    assert len(lines) == 2 + len(CASES) + len(ELSEWHERE)
    assert any(line.startswith("| 25 |") and "stale" in line for line in lines)
