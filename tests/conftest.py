"""Where the tests find the real material, the rule that CI may not skip, and what is not collected without a GPU."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from agent.engines.cuda.device import is_there

# A loaded machine is no fault of the code: no test fails for being slow.
settings.register_profile("edgewarden", deadline=None)
settings.load_profile("edgewarden")

GPU = is_there()
collect_ignore_glob = [] if GPU else ["gpu/*"]

REPOSITORY = Path(__file__).resolve().parent.parent


def material_folder() -> Path:
    """The folder of real detectors, photos and clips: ``$EDGEWARDEN_MATERIAL`` or beside the checkout."""
    return Path(os.environ.get("EDGEWARDEN_MATERIAL") or REPOSITORY.parent / "shared" / "material")


@pytest.fixture(scope="session")
def material() -> Path:
    """The material, or a skip that says where it was looked for."""
    folder = material_folder()
    if not folder.is_dir():
        pytest.skip(f"no test material in {folder}; set EDGEWARDEN_MATERIAL")
    return folder


def pytest_report_header() -> str:
    """What is left out for want of hardware."""
    return "cuda: a device is there" if GPU else "cuda: no device, the tests in tests/gpu are not collected"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With EDGEWARDEN_NO_SKIP=1 (CI sets it) a skipped test is a failed one."""
    report = yield
    # What was logged goes from a process to another, which takes Unicode alone; hostile messages are more.
    report.sections = [(title, text.encode("utf-8", "replace").decode()) for title, text in report.sections]
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("EDGEWARDEN_NO_SKIP") == "1":
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report
