"""Errors that a person can act on: one line that says what was wrong and what to do."""

from __future__ import annotations


class ClearError(ValueError):
    """Bad input, said in one line. A notebook shows that line instead of a traceback."""

    def _render_traceback_(self) -> list[str]:
        """IPython's hook for an exception that formats itself."""
        return [f"{type(self).__name__}: {self}"]


class MissingArtefactError(ClearError, FileNotFoundError):
    """A file that an earlier task makes is not there."""


class DamagedFileError(ClearError):
    """A file's content is not what its checksum or format promises."""


class DivergedError(ClearError, ArithmeticError):
    """Training met a loss that is not a finite number."""
