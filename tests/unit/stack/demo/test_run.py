"""The demo begins anew, but only where a demo was."""

from __future__ import annotations

import pytest

from stack.demo.run import begin_anew
from trading.errors import ConfigurationError


def test_the_demo_leaves_another_stacks_folder_alone(tmp_path):
    (tmp_path / "stack.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="no demo"):
        begin_anew(tmp_path)
