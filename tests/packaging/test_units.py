"""What each service could do to its host, as systemd counts it: no more than the documents say."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
TOLD = (CHECKOUT / "docs/operating/security.md").read_text()
UNITS = sorted(
    path.stem.removeprefix("outlast-") for path in (CHECKOUT / "packaging/systemd").iterdir()
)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
@pytest.mark.parametrize("unit", UNITS)
def test_its_exposure_is_what_the_documents_say(unit: str) -> None:
    told = re.search(rf"^\| {unit} \| ([\d.]+) \|", TOLD, re.MULTILINE)
    assert told is not None, f"docs/operating/security.md leaves {unit} out"
    tenths = round(10 * float(told[1]))
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={tenths}",
         CHECKOUT / f"packaging/systemd/outlast-{unit}.service"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout[-200:]
