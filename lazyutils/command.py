"""What the book's commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable

from lazyutils.errors import ClearError


def exit_code(command: Callable[[], object]) -> int:
    """Call ``command``: 0, or 2 with one line on stderr where a person has to act."""
    try:
        command()
    except ClearError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0
