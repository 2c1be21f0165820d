"""The lowest versions that pyproject.toml allows, as a constraints file on stdout: `make test-lowest`."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement


def lowest(project: dict[str, object]) -> list[str]:
    """Pin every requirement of the project, its networks and its tests to its lower bound."""
    extras = project["optional-dependencies"]
    assert isinstance(extras, dict)
    asked = map(
        Requirement, [*project["dependencies"], *extras["finetune"], *extras["torch"], *extras["test"]]
    )  # type: ignore[misc]
    bounds = {
        each.name: bound.version
        for each in asked
        for bound in each.specifier
        if bound.operator in (">=", "==")
    }
    return [f"{name}=={version}" for name, version in sorted(bounds.items())]


if __name__ == "__main__":
    content = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    sys.stdout.write("\n".join(lowest(content["project"])) + "\n")
