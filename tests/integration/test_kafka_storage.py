"""Formatting a broker's folder, whatever cluster id its path gives."""

from __future__ import annotations

from itertools import count

from connectors.kafka.admin import OWN_LOGS, ConfigResource, admin_client, configure
from connectors.kafka.client import KafkaException, Producer, TopicPartition
from connectors.kafka.reading import reader
from stack.servers.kafka import OWN_SEGMENT_BYTES, cluster_id, services, set_up
from stack.servers.settings import ServerPorts, StackSettings
from tests.waiting import eventually


def test_a_cluster_id_that_begins_with_a_dash_is_formatted(tmp_path):
    # One id in 64 does; the storage tool then took it for an option.
    homes = (tmp_path / str(n) for n in count())
    candidates = (StackSettings(profile="servers", home=home, ports=ServerPorts.automatic()) for home in homes)
    settings = next(s for s in candidates if cluster_id(s).startswith("-"))
    (broker,) = services(settings)
    broker.prepare()
    written = (broker.folder / "data" / "meta.properties").read_text()
    assert f"cluster.id={cluster_id(settings)}\n" in written


def segment_bytes(admin):
    asked = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in OWN_LOGS]
    return {int(future.result(10)["segment.bytes"].value) for future in admin.describe_configs(asked).values()}


def is_answered(consumer):
    try:
        consumer.committed([TopicPartition("market.ticks", 0)], 10.0)
    except KafkaException:
        return False
    return True


def test_kafkas_own_logs_are_kept_in_small_segments_also_in_a_home_of_before(stack):
    """A broker that was killed loads them twice at once where that takes long, and answers with what it makes of it."""
    # Both are made by whoever needs them first: a group, and a transaction.
    consumer = reader(stack.kafka_bootstrap, "storage")
    eventually(lambda: is_answered(consumer))
    consumer.close()
    producer = Producer({"bootstrap.servers": stack.kafka_bootstrap, "transactional.id": "storage"})
    producer.init_transactions(10.0)
    admin = admin_client(stack.kafka_bootstrap)
    assert segment_bytes(admin) == {OWN_SEGMENT_BYTES}
    configure(admin, {name: {"segment.bytes": "104857600"} for name in OWN_LOGS})
    eventually(lambda: segment_bytes(admin) == {104857600})
    set_up(stack)
    eventually(lambda: segment_bytes(admin) == {OWN_SEGMENT_BYTES})
