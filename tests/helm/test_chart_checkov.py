"""Checkov finds nothing in the chart but what is written down here."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.chart import COMPONENTS, EVERYTHING, ROOT, template
from support.programs import absent

pytestmark = pytest.mark.nightly

SKIPPED = {
    "CKV_K8S_11": "A limit of CPU only slows a pod down when the node has CPU to spare; memory is what is limited.",
    "CKV_K8S_35": "The services read secrets from the environment; they have no settings for files yet.",
}
"""Checks that are not made, and why."""

DIGEST = "sha256:" + "0123456789abcdef" * 4


def checkov(path: Path) -> list[tuple[str, str]]:
    program = ROOT / ".venv-checkov/bin/checkov"
    if not program.exists():
        absent("needs checkov, which 'make helm-test' installs")
    command = [
        str(program),
        "--file",
        str(path),
        "--framework",
        "kubernetes",
        "--skip-download",
        "--compact",
        "--quiet",
    ]
    done = subprocess.run(
        [*command, "--output", "json", "--skip-check", ",".join(SKIPPED)], capture_output=True, text=True, timeout=280
    )
    report: Any = json.loads(done.stdout)
    assert report["summary"]["passed"] > 200
    assert report["summary"]["parsing_errors"] == 0
    return [(each["check_id"], each["resource"]) for each in report["results"]["failed_checks"]]


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_checkov_finds_nothing(values: dict[str, Any], tmp_path: Path) -> None:
    pinned = {name: {**values.get(name, {}), "image": {"digest": DIGEST}} for name in COMPONENTS}
    # Objects of the user's own are the user's.
    objects = template({**values, **pinned, "extraObjects": []})
    path = tmp_path / "objects.yaml"
    path.write_text(yaml.safe_dump_all(objects), encoding="utf-8")
    assert checkov(path) == []


def test_checkov_sees_what_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "objects.yaml"
    broken = template({"tracker": {"securityContext": {"privileged": True}, "image": {"digest": DIGEST}}})
    path.write_text(yaml.safe_dump_all(broken), encoding="utf-8")
    assert "CKV_K8S_16" in {check for check, _ in checkov(path)}
