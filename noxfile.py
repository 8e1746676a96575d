"""The checks of the monorepo. `nox --list` shows them, plain `nox` runs all but the benchmarks.

One build serves every session: what is tested is the wheels in dist/, never the tree.
"""

import hashlib
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"  # uv is quicker by minutes
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False  # also where CI is set: use what is there

ROOT = Path(__file__).parent
DIST = ROOT / "dist"
BUILT_FROM = DIST / ".built-from"
PROJECT = nox.project.load_toml("pyproject.toml")
PACKAGES: list[str] = PROJECT["tool"]["uv"]["workspace"]["members"]
SOURCES = [f"{package}/src" for package in PACKAGES]
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
THIS_PYTHON = "{}.{}".format(*sys.version_info)
SAME_EVERYWHERE = [
    *("cli", "docs", "packaging", "postgres"),
    *(f"conformance/test_{what}.py" for what in ("broken_brokers", "postgres", "redis")),
]
"""What in tests/ no Python changes, or a server answers: run on the one that runs nox, as what is
slow. The others meet the servers in tests/redis and tests/loops."""
LESS = {"AIOQ_CONFORMANCE_ROUNDS": "50", "AIOQ_CONFORMANCE_EXAMPLES": "20"}
"""How far the kit goes on the other Pythons: all its cases, but less often by chance."""


def group(name: str) -> list[str]:
    """Requirements of a dependency group, held to the versions of constraints.txt."""
    return ["-c", "constraints.txt", *nox.project.dependency_groups(PROJECT, name)]


def files_of(package: str) -> Iterator[Path]:
    """Every file that ends up in the package's wheel or sdist, or says how to build them."""
    for path in sorted((ROOT / package).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def fingerprint() -> str:
    """A digest of all packages' files: the same digest, the same wheels."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in files_of(package):
            digest.update(f"{path.relative_to(ROOT)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def wheel(package: str) -> str:
    """Path of the package's wheel in dist/."""
    (path,) = DIST.glob(f"{package.replace('-', '_')}-*.whl")
    return str(path)


def install_wheels(session: nox.Session, packages: list[str], *more: str) -> None:
    """Install exactly these wheels, and what they need, into the session's environment."""
    wheels = [wheel(package) for package in packages]
    # A reused environment may hold an older build of the same version: replace it first.
    session.install("--force-reinstall", "--no-deps", *wheels)
    session.install("-c", "constraints.txt", *wheels, *more)


def readme_command(number: int) -> str:
    """The `number`-th (from 1) shell block of README.md, as it is printed there."""
    text = (ROOT / "README.md").read_text("utf-8")
    blocks: list[str] = re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, re.M | re.S)
    return blocks[number - 1]


@nox.session
def build(session: nox.Session) -> None:
    """Wheels and sdists of all packages into dist/; nothing to do while they are up to date."""
    current = fingerprint()
    if BUILT_FROM.exists() and BUILT_FROM.read_text("utf-8") == current:
        session.log("dist/ is up to date")
        return
    shutil.rmtree(DIST, ignore_errors=True)
    session.install(*group("build"))
    for package in PACKAGES:
        # The sdist first, then the wheel from it: a file that the sdist lacks is found here.
        session.run(
            "pyproject-build", "--no-isolation", "--outdir", str(DIST), package, silent=True
        )
        names = zipfile.ZipFile(wheel(package)).namelist()
        if not any(name.endswith("/py.typed") for name in names):
            session.error(f"the wheel of {package} has no py.typed")
        if stray := [name for name in names if "tests" in Path(name).parts]:
            session.error(f"the wheel of {package} brings tests: {stray}")
        session.log(f"built {Path(wheel(package)).name}")
    BUILT_FROM.write_text(current, "utf-8")


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting, and who may import what."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": os.pathsep.join(SOURCES)})


@nox.session
def typing(session: nox.Session) -> None:
    """Mypy and pyright, both strict, on the sources and on what users and plugins may write."""
    editable = [argument for package in PACKAGES for argument in ("-e", package)]
    session.install(*group("typing"), *editable)
    session.run("mypy", *SOURCES, "tests/typing", "examples/aioq-filebroker/src")
    session.run("pyright")
    session.run("python", "tests/typing/check_refused.py")
    session.run("python", "tests/typing/check_pages.py")


@nox.session(requires=["build"])
def docs(session: nox.Session) -> None:
    """The site of docs/, into build/site; a warning fails it."""
    install_wheels(session, PACKAGES, *group("docs"))
    session.run(
        "sphinx-build", "-W", "--keep-going", "-q", "-d", "build/doctrees", "docs", "build/site"
    )
    session.log("open build/site/index.html")


@nox.session(requires=["build"])
def core_only(session: nox.Session) -> None:
    """aioq-core with nothing beside it."""
    install_wheels(session, PACKAGES[:1], "pytest")
    session.run("pytest", "tests/core_only")


@nox.session(venv_backend="none")
def quickstart(session: nox.Session) -> None:
    """The first command of README.md, as written, in a fresh copy of the tree."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "aioq"
        ignored = shutil.ignore_patterns(
            ".*", "__pycache__", "dist", "build", "node_modules", "aioq.db*"
        )
        shutil.copytree(ROOT, copy, ignore=ignored)
        with session.chdir(copy):
            session.run("bash", "-c", readme_command(1), external=True)


@nox.session(requires=["build"])
def install(session: nox.Session) -> None:
    """Each package and extra in an empty environment; the quickstarts and tutorials, as printed."""
    session.install(*group("install"))
    wheelhouse = Path(session.create_tmp()).resolve() / "wheelhouse"
    shutil.rmtree(wheelhouse, ignore_errors=True)
    wheels = [wheel(package) for package in PACKAGES]
    # What the wheels, the plugins of examples/ and their tests need: fetched once, then no index.
    needed = [*wheels, "filelock", "hatchling", "hypothesis", "pytest"]
    fetch = ["pip", "download", "-q", "-c", "constraints.txt", "-d", str(wheelhouse)]
    session.run(*fetch, *needed, silent=True)
    side_by_side = ["-n", "logical", "--dist", "worksteal"]
    session.run(
        *("pytest", *side_by_side, *(session.posargs or ["tests/install"])),
        env={"AIOQ_WHEELHOUSE": str(wheelhouse)},
    )


@nox.session(default=False, requires=["build"])
def bench(session: nox.Session) -> None:
    """The benchmarks, against the wheels; arguments after `--` go to bench/run.py."""
    install_wheels(session, PACKAGES, *group("bench"))
    session.run("python", "bench/run.py", *session.posargs)


@nox.session(requires=["build"])
def slow(session: nox.Session) -> None:
    """The tests marked slow, on the Python that runs nox: they kill, cut and stall."""
    install_wheels(session, PACKAGES, *group("test"))
    # They wait more than they compute, so more than two share a core.
    side_by_side = ["-n", str(1 + 2 * (os.cpu_count() or 1)), "--dist", "worksteal"]
    session.run("pytest", *side_by_side, *(session.posargs or ["-m", "slow", "tests"]))


# Last, so that pytest's closing line stands at the end of a full run.
@nox.session(python=PYTHONS, requires=["build"])
def tests(session: nox.Session) -> None:
    """All other tests, on each Python that is installed; arguments after `--` go to pytest."""
    install_wheels(session, PACKAGES, *group("test"))
    # One more than cores, since each waits for a server or a process now and then.
    side_by_side = ["-n", str(1 + (os.cpu_count() or 1)), "--dist", "worksteal"]
    left_out, env = ([], {}) if session.python == THIS_PYTHON else (SAME_EVERYWHERE, LESS)
    chosen = ["-m", "not slow", *(f"--ignore=tests/{each}" for each in left_out), "tests"]
    session.run("pytest", *side_by_side, *(session.posargs or chosen), env=env)
