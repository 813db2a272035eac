"""Records of measurements: CSV files that rows are only ever appended to."""

import csv
import subprocess
from pathlib import Path


def commit() -> str:
    """The commit that is measured, marked where the tree differs from it."""
    told = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return told.stdout.strip() or "unknown"


def append(path: Path, rows: list[dict]) -> None:
    """Append ``rows`` to the CSV file ``path``, with a header where it is new."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        if new:
            writer.writeheader()
        writer.writerows(rows)
