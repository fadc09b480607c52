"""What people and machines read of a run."""

from loadtest.report.files import write_all
from loadtest.report.texts import junit, markdown, rows

__all__ = ["junit", "markdown", "rows", "write_all"]
