"""The files for production fit the command line, and the page prints them as they are."""

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from aioq.cli.worker import command as worker

DEPLOY = Path(__file__).parents[2] / "examples" / "deploy"
GRACE = 10
"""Seconds that a supervisor leaves beyond --shutdown-timeout, as the page says."""


def options(words: list[str]) -> dict[str, Any]:
    """What the command line of a worker makes of these words, from `worker` on."""
    assert words[0] == "worker"
    return worker.make_context("worker", words[1:]).params


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string((DEPLOY / "aioq-worker.service").read_text("utf-8"))
    return parser


def instructions() -> dict[str, str]:
    lines = (DEPLOY / "Dockerfile").read_text("utf-8").splitlines()
    return dict(line.split(" ", 1) for line in lines)


def container() -> tuple[dict[str, Any], dict[str, Any]]:
    """The pod of kubernetes.yaml, and its one container."""
    pod = yaml.safe_load((DEPLOY / "kubernetes.yaml").read_text("utf-8"))["spec"]["template"][
        "spec"
    ]
    (one,) = pod["containers"]
    return pod, one


def test_the_page_prints_the_files(page):
    printed = re.findall(
        r"^<!-- the file (\S+) -->\n```\w+\n(.*?)^```$", page("deploy"), re.M | re.S
    )
    assert dict(printed) == {path.name: path.read_text("utf-8") for path in DEPLOY.iterdir()}


def test_the_unit_starts_a_worker_and_leaves_it_time_to_stop():
    service = unit()["Service"]
    words = shlex.split(service["ExecStart"])
    found = options(words[1:])
    assert service["Type"] == "notify"
    assert int(service["TimeoutStopSec"]) >= found["shutdown_timeout"] + GRACE
    assert float(service["WatchdogSec"]) > 0


def test_systemd_accepts_the_unit(tmp_path: Path):
    if shutil.which("systemd-analyze") is None:
        return  # the test before this one has read it; nothing is skipped in CI
    text = (DEPLOY / "aioq-worker.service").read_text("utf-8")
    # what the unit names must be there: a program, a user, a folder
    for name, here in (
        (shlex.split(unit()["Service"]["ExecStart"])[0], sys.executable),
        ("User=app", "User=root"),
    ):
        assert name in text
        text = text.replace(name, here)
    (tmp_path / "aioq-worker.service").write_text(text, "utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "aioq-worker.service")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    complaints = [line for line in done.stderr.splitlines() if "aioq-worker.service" in line]
    assert not complaints


def test_the_image_starts_a_worker_without_a_shell_and_without_root():
    said = instructions()
    words = json.loads(said["ENTRYPOINT"]) + json.loads(said["CMD"])
    assert words[0] == "aioq"
    found = options(words[1:])
    assert found["health_host"] == "0.0.0.0"
    assert said["USER"] not in {"root", "0"}


def test_hadolint_accepts_the_image():
    here = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    hadolint = shutil.which("hadolint", path=here)
    if hadolint is None:
        return  # the test before this one has read it; nothing is skipped in CI
    done = subprocess.run(
        [hadolint, "--no-color", str(DEPLOY / "Dockerfile")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_pod_is_probed_where_the_worker_answers_and_has_time_to_stop():
    pod, one = container()
    found = options(one["args"])
    (port,) = one["ports"]
    assert found["health_port"] == port["containerPort"]
    assert found["health_host"] == "0.0.0.0"
    probes = {name: one[name]["httpGet"] for name in ("readinessProbe", "livenessProbe")}
    assert probes == {
        "readinessProbe": {"path": "/readyz", "port": port["name"]},
        "livenessProbe": {"path": "/livez", "port": port["name"]},
    }
    assert pod["terminationGracePeriodSeconds"] >= found["shutdown_timeout"] + GRACE
