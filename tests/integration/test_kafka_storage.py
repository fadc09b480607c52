"""Formatting a broker's folder, whatever cluster id its path gives."""

from __future__ import annotations

from itertools import count

from stack.servers.kafka import cluster_id, services
from stack.servers.settings import ServerPorts, StackSettings


def test_a_cluster_id_that_begins_with_a_dash_is_formatted(tmp_path):
    # One id in 64 does; the storage tool then took it for an option.
    homes = (tmp_path / str(n) for n in count())
    candidates = (StackSettings(home=home, ports=ServerPorts.automatic()) for home in homes)
    settings = next(s for s in candidates if cluster_id(s).startswith("-"))
    (broker,) = services(settings)
    broker.prepare()
    written = (broker.folder / "data" / "meta.properties").read_text()
    assert f"cluster.id={cluster_id(settings)}\n" in written
