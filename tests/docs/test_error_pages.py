"""The pages that errors name are there, with the section they name."""

import re
from pathlib import Path

import pytest

from aioq import errors
from aioq.errors import AioqError

DOCS = Path(__file__).parents[2] / "docs"
KINDS = [getattr(errors, name) for name in errors.__all__]
NAMING = [kind for kind in KINDS if issubclass(kind, AioqError) and kind.page]


@pytest.mark.parametrize("kind", NAMING, ids=lambda kind: kind.__name__)
def test_the_page_of_an_error_is_there(kind: type[AioqError]):
    assert kind.page is not None
    page, _, section = kind.page.partition("#")
    headings = re.findall(r"^#+ (.*)$", (DOCS / page).read_text("utf-8"), re.M)
    if section:
        assert section in {heading.lower().replace(" ", "-") for heading in headings}


def test_what_is_wrong_with_the_program_or_a_call_names_a_page():
    told = {"ConfigurationError", "InvalidArguments", "SerializationError", "PayloadTooLarge"}
    assert {kind.__name__ for kind in NAMING} >= {*told, "EnqueueError", "NoBroker"}
    assert errors.NoBroker("no broker").__notes__ == ["In the documentation of aioq: install.md"]
