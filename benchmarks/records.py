"""Records of measurements: CSV files that rows are only ever appended to."""

import csv
from pathlib import Path


def append(path: Path, rows: list[dict]) -> None:
    """Append ``rows`` to the CSV file ``path``, with a header where it is new."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        if new:
            writer.writeheader()
        writer.writerows(rows)
