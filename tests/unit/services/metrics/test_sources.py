"""What is shown of each server, from what its client told."""

from __future__ import annotations

import psutil
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import ValidationError

from connectors.kafka.groups import ClusterState, PartitionState
from services.metrics import kafka, machine, postgres, redis
from services.metrics.bootstrap import sources_of
from services.metrics.settings import MetricsSettings


def text_of(families):
    registry = CollectorRegistry()

    class All:
        def collect(self):
            return families

    registry.register(All())
    return generate_latest(registry).decode()


def test_lag_is_of_each_group_and_partition_and_what_is_gone_is_told():
    state = ClusterState(
        3,
        {("market.ticks", 0): PartitionState(100, 500, 3, 3), ("market.ticks", 1): PartitionState(200, 300, 3, 2)},
        {"gateway": {("market.ticks", 0): 450, ("market.ticks", 1): 150, ("old.topic", 0): 5}, "empty": {}},
    )
    text = text_of(kafka.families(state))
    place = 'consumergroup="gateway",partition="{}",topic="market.ticks"'
    assert "kafka_brokers 3.0" in text
    assert f"kafka_consumergroup_lag{{{place.format(0)}}} 50.0" in text
    assert f"kafka_consumergroup_lag{{{place.format(1)}}} 150.0" in text
    # 50 records were deleted that it had not read.
    assert f"kafka_consumergroup_records_until_lost{{{place.format(1)}}} -50.0" in text
    assert 'kafka_topic_partition_under_replicated_partition{partition="1",topic="market.ticks"} 1.0' in text
    assert 'kafka_topic_partition_under_replicated_partition{partition="0",topic="market.ticks"} 0.0' in text
    assert "old.topic" not in text


def test_a_group_that_is_ahead_of_what_was_listed_has_no_lag_below_nothing():
    state = ClusterState(1, {("t", 0): PartitionState(0, 10, 1, 1)}, {"g": {("t", 0): 12}})
    assert 'kafka_consumergroup_lag{consumergroup="g",partition="0",topic="t"} 0.0' in text_of(
        kafka.families(state)
    )


def test_a_database_whose_size_may_not_be_asked_has_none():
    rows = [("ultrathink", 5, 100, 2, 0, 50, 4, 8_000_000), ("mlflow", 1, 10, 0, 0, 5, 1, None)]
    text = text_of(postgres.families(rows, 50))
    assert 'pg_stat_database_numbackends{datname="ultrathink"} 5.0' in text
    assert 'pg_stat_database_xact_commit_total{datname="ultrathink"} 100.0' in text
    assert 'pg_database_size_bytes{datname="ultrathink"} 8e+06' in text
    assert 'pg_database_size_bytes{datname="mlflow"}' not in text
    assert "pg_settings_max_connections 50.0" in text


def test_what_redis_does_not_tell_is_left_out():
    info = {"used_memory": 1000, "maxmemory": 4000, "aof_last_write_status": "err", "total_commands_processed": 9}
    text = text_of(redis.families(info))
    assert "redis_memory_used_bytes 1000.0" in text
    assert "redis_aof_last_write_status 0.0" in text
    assert "redis_commands_processed_total 9.0" in text
    assert "redis_connected_clients" not in text


def test_this_machine_is_seen(tmp_path):
    text = text_of(machine.MachineSource(tmp_path).look())
    told = next(line for line in text.splitlines() if line.startswith("node_memory_MemTotal_bytes "))
    assert float(told.split()[1]) == psutil.virtual_memory().total
    assert f'node_filesystem_avail_bytes{{mountpoint="{tmp_path}"}}' in text
    assert 'node_cpu_seconds_total{mode="user"}' in text


def test_what_the_kernel_ended_for_want_of_memory_is_counted_where_it_tells(tmp_path):
    counts = tmp_path / "vmstat"
    counts.write_text("nr_free_pages 12\noom_kill 3\n")
    assert "\nnode_vmstat_oom_kill 3.0" in text_of(machine.ended_for_memory(counts))
    for told in ("nr_free_pages 12\n", "oom_kill\n", "oom_kill many\n"):
        counts.write_text(told)
        assert machine.ended_for_memory(counts) == []
    assert machine.ended_for_memory(tmp_path / "nosuch") == []


def test_what_has_no_address_is_not_watched(monkeypatch):
    monkeypatch.setenv("ULTRATHINK_METRICS_DISK", "")
    found = sources_of(MetricsSettings(kafka_bootstrap="", redis_url="", mlflow_uri=""))
    assert found == []
    assert [source.name for source in sources_of(MetricsSettings(kafka_bootstrap=""))] == ["redis", "mlflow"]
    monkeypatch.setenv("ULTRATHINK_METRICS_MODELS", "")
    assert MetricsSettings().models is None
    with pytest.raises(ValidationError):
        MetricsSettings(every_s=0)
