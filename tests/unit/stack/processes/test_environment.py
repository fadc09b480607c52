"""Variables of our processes: what a person has set, and what he has set in vain."""

from __future__ import annotations

import pytest

from stack.processes.environment import misspelt


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        (
            "ULTRATHINK_GATEWAY_MODEL",
            {"ULTRATHINK_GATEWAY_MODEL": "ULTRATHINK_GATEWAY_MODEL_NAME"},
        ),
        ("ultrathink_gateway_model", {"ultrathink_gateway_model": "ULTRATHINK_GATEWAY_MODEL_NAME"}),
        ("ULTRATHINK_DATA_SERVICE", {}),
        ("ULTRATHINK_GATEWAY_MODEL_NAME", {}),
        # Somebody else's.
        ("ULTRATHINK_HOME", {}),
        ("PATH", {}),
    ],
)
def test_what_is_set_in_vain_is_named(variable, told):
    assert misspelt({variable: "x"}) == told
