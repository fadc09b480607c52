"""Ports are checked before anything starts, and whoever holds one is named."""

from __future__ import annotations

import os
import socket

import pytest

from stack.servers.ports import free_ports, holder, is_free
from stack.servers.settings import ServerPorts, StackSettings
from stack.supervision.checks import check_ports
from trading.errors import ConfigurationError


def test_the_stacks_ports_are_checked_before_anything_starts(tmp_path):
    settings = StackSettings(
        profile="servers", home=tmp_path, ports=ServerPorts.automatic(), model_repository=tmp_path
    )
    check_ports(settings)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", settings.ports.redis))
        taken.listen()
        assert not is_free(settings.ports.redis)
        assert str(os.getpid()) in holder(settings.ports.redis)
        with pytest.raises(ConfigurationError, match=f"port {settings.ports.redis}, which redis needs"):
            check_ports(settings)


def test_free_ports_are_all_different():
    assert len(set(free_ports(20))) == 20
