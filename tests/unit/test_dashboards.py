"""The committed dashboards are those that the code builds, and everything in them follows our rules."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dashboards import built
from dashboards.__main__ import FOLDER
from dashboards.parts import expressions

FILES = sorted(FOLDER.glob("*.json"))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def board(request: pytest.FixtureRequest) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(request.param.read_text(encoding="utf-8"))
    return content


def test_the_committed_files_are_what_the_code_builds() -> None:
    made = built()
    assert {path.name for path in FILES} == set(made)
    for path in FILES:
        assert path.read_text(encoding="utf-8") == made[path.name], f"{path.name}: cd deploy && python -m dashboards"


def test_the_same_code_builds_the_same_bytes() -> None:
    assert built() == built()


def test_uids_are_stable_and_the_data_source_is_a_variable(board: dict[str, Any]) -> None:
    assert board["uid"] in {"tunevane-run", "tunevane-fleet", "tunevane-tracker"}
    # Grafana gives the number; one in the file would overwrite somebody else's dashboard.
    assert board["id"] is None
    first = board["templating"]["list"][0]
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
    used = [panel["datasource"]["uid"] for panel in board["panels"] if panel["type"] != "row"]
    used += [target["datasource"]["uid"] for panel in board["panels"] for target in panel.get("targets", ())]
    used += [each["datasource"]["uid"] for each in board["annotations"]["list"] if not each["builtIn"]]
    assert set(used) == {"${datasource}"}


def test_the_run_is_chosen_from_the_runs_there_are() -> None:
    content = json.loads((FOLDER / "tunevane-run.json").read_text(encoding="utf-8"))
    (run,) = (each for each in content["templating"]["list"] if each["name"] == "run")
    assert run["query"]["query"] == "label_values(tunevane_run_info, run_id)"


def test_every_panel_says_what_it_shows_in_which_unit(board: dict[str, Any]) -> None:
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    for panel in panels:
        assert panel["title"], panel
        assert panel["description"].endswith((".", "?")), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert all(target["expr"] for target in panel["targets"])
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    titles = [panel["title"] for panel in panels]
    assert len(set(titles)) == len(titles)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_panels_neither_overlap_nor_leave_the_grid(board: dict[str, Any]) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken[x, y]}"
                taken[x, y] = panel["title"]


def test_rates_follow_the_scrape_interval(board: dict[str, Any]) -> None:
    for title, expr in expressions(board):
        for word in ("rate(", "increase("):
            if word in expr:
                assert "[$__rate_interval]" in expr, title


def test_one_configmap_holds_all_files() -> None:
    # Kubernetes refuses one of more than 1 MiB, and keys other than these characters.
    assert sum(path.stat().st_size for path in FILES) < 900_000
    assert all(re.fullmatch(r"[-._a-zA-Z0-9]+", path.name) for path in FILES)


def test_provisioning_reads_the_folder_that_docs_name() -> None:
    import yaml

    provisioned = yaml.safe_load((Path(FOLDER).parents[2] / "grafana" / "provisioning" / "dashboards.yaml").read_text())
    (provider,) = provisioned["providers"]
    assert provisioned["apiVersion"] == 1
    assert provider["type"] == "file"
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards/tunevane"
