"""All finished points in one file, JSON Lines: published with the edition, and taken up again elsewhere.

``python -m lazyutils.points pack FOLDER FILE`` gathers a sweep's points; ``unpack FILE FOLDER`` lays them out again, so
that ``make sweep`` trains only those that are missing or that other code has made.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from lazyutils import sweep
from lazyutils.command import exit_code
from lazyutils.errors import ClearError, DamagedFileError, MissingArtefactError
from lazyutils.files import write_atomically


def pack(folder: Path, file: Path) -> int:
    """Write every point below ``folder`` as one line of ``file``, sorted by name; the number of points.

    Raises:
        ClearError: there are none.
    """
    found = sorted(path for path in folder.glob("*.json") if not path.name.endswith(".model.json"))
    if not found:
        raise ClearError(f"{folder} holds no finished points: make sweep makes them")
    lines = [json.dumps(json.loads(path.read_text())) for path in found]
    write_atomically(file, ("\n".join(lines) + "\n").encode())
    return len(found)


def unpack(file: Path, folder: Path) -> int:
    """Write each line of ``file`` as a point below ``folder``, but for those that are there; the number written.

    They get the oldest of dates, so that Snakemake has each one looked at, and made again where it is stale.

    Raises:
        MissingArtefactError: there is no such file.
        DamagedFileError: a line is no point.
    """
    if not file.is_file():
        raise MissingArtefactError(f"no {file}: points pack makes it")
    try:
        records = [json.loads(line) for line in file.read_text().splitlines()]
        points = {sweep.record_file(sweep.Point(**record["point"]), folder): record for record in records}
    except (json.JSONDecodeError, TypeError, KeyError) as error:
        raise DamagedFileError(f"{file} holds no points ({error}): check it out again") from None
    missing = {path: record for path, record in points.items() if not path.exists()}
    for path, record in missing.items():
        write_atomically(path, json.dumps(record, indent=2).encode())
        os.utime(path, (0, 0))
    return len(missing)


def main(arguments: list[str] | None = None) -> int:
    """Pack or unpack from the command line."""
    parser = argparse.ArgumentParser(prog="python -m lazyutils.points", description=__doc__)
    parser.add_argument("action", choices=["pack", "unpack"])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args(arguments)
    action = {"pack": pack, "unpack": unpack}[options.action]
    return exit_code(lambda: print(f"{action(options.source, options.target)} points → {options.target}"))


if __name__ == "__main__":
    sys.exit(main())
