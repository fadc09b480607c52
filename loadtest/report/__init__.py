"""What people and machines read of a run."""

from loadtest.report.files import fresh, write_all
from loadtest.report.texts import junit, markdown, rows

__all__ = ["fresh", "junit", "markdown", "rows", "write_all"]
