"""Writes what the chart's values are into its README and the docs: `make chart-docs`.

A comment `# -- ` above a key of values.yaml, with the comment lines below it, is the key's row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy/helm/tunevane"
MARK = "# -- "
BLOCKS = ("trainer", "evaluator", "tracker")


@dataclass(frozen=True)
class Value:
    """A row of the table."""

    path: str
    """Keys from the top, joined by dots."""

    default: str
    """The default as JSON."""

    text: str
    """What it does."""


def _comment(lines: list[str], line: int) -> str:
    """Returns the comment right above a line, or nothing if it is none for the table."""
    above: list[str] = []
    while line > 0 and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        above.insert(0, lines[line].strip())
        if above[0].startswith(MARK):
            return " ".join([above[0].removeprefix(MARK), *(each.removeprefix("#").strip() for each in above[1:])])
    return ""


def values(text: str) -> list[Value]:
    """Lists the values of a values.yaml in their order.

    Raises:
        ValueError: A value has no comment.

    """
    lines = text.splitlines()

    def walk(node: yaml.MappingNode, path: str) -> Iterator[Value]:
        for key, value in node.value:
            name = f"{path}.{key.value}" if path else key.value
            comment = _comment(lines, key.start_mark.line)
            if comment:
                yield Value(name, json.dumps(_plain(value), ensure_ascii=False), comment)
            elif isinstance(value, yaml.MappingNode) and value.value:
                yield from walk(value, name)
            else:
                raise ValueError(f"values.yaml, line {key.start_mark.line + 1}: {name} has no comment '{MARK}'")

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode), "values are a mapping"
    return list(walk(root, ""))


def _plain(node: yaml.Node) -> object:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()


def _table(rows: list[Value]) -> str:
    lines = ["| value | default | |", "|---|---|---|"]
    for row in rows:
        # An empty default says nothing that its description does not.
        default = f"`{row.default}`" if row.default not in ('""', "[]", "{}") else ""
        lines.append(
            f"| `{row.path}` | {default.replace('|', chr(92) + '|')} | {row.text.replace('|', chr(92) + '|')} |"
        )
    return "\n".join(lines)


def tables() -> str:
    """Returns the tables of all values: what is common, then a table for each component."""
    rows = values((CHART / "values.yaml").read_text(encoding="utf-8"))
    parts = ["## Of all components", _table([each for each in rows if each.path.split(".")[0] not in BLOCKS])]
    for block in BLOCKS:
        parts += [f"## Of the {block}", _table([each for each in rows if each.path.split(".")[0] == block])]
    return "\n\n".join(parts) + "\n"


README = """# tunevane

The trainer, the evaluator and the tracker on Kubernetes 1.31 or later, by Helm 3.17 or later.

```sh
helm install tunevane deploy/helm/tunevane --namespace tunevane --create-namespace
helm test tunevane --namespace tunevane
```

The chart needs no operator and installs no kinds of its own. Monitors, alerts and scaling by KEDA are left out where
the cluster does not know their kinds. `docs/how-to/deploy.md` says how to size, observe, upgrade, back up and restore;
`../tunevane-stack` brings Qdrant along.

Values are checked by `values.schema.json`: a key that the chart does not know is refused. What Kubernetes itself
defines (`resources`, `affinity`, …) is passed on as it is. This file is generated from `values.yaml` by
`make chart-docs`.

"""

DOCS = """# Values of the chart

Generated from `deploy/helm/tunevane/values.yaml`. [Deploy it](../how-to/deploy.md) says how to choose them. A key that
the chart does not know is refused.

"""


def files() -> dict[Path, str]:
    """Returns the files that are generated, and what is in them."""
    found = tables()
    return {CHART / "README.md": README + found, ROOT / "docs/reference/chart-values.md": DOCS + found}


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
