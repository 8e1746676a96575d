"""These tests are about aioq-core with no plugin beside it: where one is, there is nothing to say.

`nox -s core_only` makes such an environment; pytest fails there when it finds no test.
"""

from importlib.metadata import entry_points

if any(point.dist and point.dist.name != "aioq-core" for point in entry_points(group="aioq")):
    collect_ignore_glob = ["test_*.py"]
