"""What a dataset may say to its Kafka client: the list of properties, against those that the library knows."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from mock_kafka import librdkafka_properties

from filoray.cluster.config.dataset import DatasetConfig, parse_dataset_config
from filoray.cluster.config.dataset_limits import NO_FILES
from filoray.cluster.config.kafka_properties import ALLOWED, is_refused
from filoray.cluster.errors import ConfigError
from filoray.nodes.streams.kafka_source import read_kafka_source
from filoray.nodes.streams.sources import check_source, open_stream

DECIDED_HERE = """
    acks auto.commit.enable auto.offset.reset bootstrap.servers consume.callback.max.messages
    coordinator.query.interval.ms delivery.report.only.error delivery.timeout.ms enable.auto.commit
    enable.auto.offset.store enable.gapless.guarantee enable.idempotence enable.partition.eof group.protocol
    group.protocol.type group.remote.assignor max.poll.records message.send.max.retries message.timeout.ms
    msg_order_cmp partition.assignment.strategy partitioner produce.offset.report request.required.acks retries
    share.acknowledgement.mode socket.blocking.max.ms topic.blacklist transaction.timeout.ms transactional.id
"""


def dataset_config(more: str = "") -> DatasetConfig:
    return parse_dataset_config(
        f"""dataset = prometheus, num-shards = 2, min-num-nodes = 1
        sourcefactory = "filodb.kafka.KafkaIngestionStreamFactory"
        sourceconfig {{ filo-topic-name = t, bootstrap.servers = "x:1", {more} }}""",
        "prometheus",
    )


@pytest.mark.parametrize("prefix", ["", "consumer.", "producer."])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("plugin.library.paths", "/tmp/evil"),
        ("ssl.ca.location", "/etc/passwd"),
        ("ssl.certificate.location", "/etc/passwd"),
        ("ssl.key.location", "/etc/shadow"),
        ("ssl.crl.location", "/etc/passwd"),
        ("ssl.keystore.location", "/etc/passwd"),
        ("ssl.engine.location", "/tmp/evil.so"),
        ("ssl.engine.id", "evil"),
        ("ssl.providers", "evil"),
        ("ssl.truststore.location", "/etc/passwd"),
        ("https.ca.location", "/etc/passwd"),
        ("sasl.kerberos.kinit.cmd", "touch /tmp/evil"),
        ("sasl.kerberos.keytab", "/etc/krb5.keytab"),
        ("sasl.oauthbearer.token.endpoint.url", "http://169.254.169.254/"),
        ("sasl.oauthbearer.assertion.file", "/etc/passwd"),
        ("sasl.oauthbearer.assertion.private.key.file", "/etc/passwd"),
        ("sasl.oauthbearer.assertion.jwt.template.file", "/etc/passwd"),
        ("sasl.oauthbearer.config", "principal=admin"),
        ("sasl.mechanism", "GSSAPI"),
        ("sasl.mechanisms", "OAUTHBEARER"),
        ("enable.sasl.oauthbearer.unsecure.jwt", "true"),
        ("offset.store.path", "/tmp/evil"),
        ("offset.store.method", "file"),
        ("debug", "all"),
        ("log.queue", "true"),
        ("log_level", "7"),
        ("error_cb", "evil"),
        ("oauth_cb", "evil"),
        ("resolve_cb", "evil"),
        ("ssl.certificate.verify_cb", "evil"),
        ("interceptors", "evil"),
        ("default.topic.config", "evil"),
        ("test.mock.num.brokers", "3"),
        ("metadata.broker.list", "x:1"),
    ],
)
def test_a_property_that_reaches_past_the_client_is_refused_by_name(prefix: str, key: str, value: str) -> None:
    source = {"filo-topic-name": "t", f"{prefix}{key}": value}
    config = dataclasses.replace(dataset_config(), source_config=source)
    for check in (check_source, lambda config: open_stream(config, 0, None), lambda config: read_kafka_source(config)):
        with pytest.raises(ConfigError, match=re.escape(f"dataset prometheus: sourceconfig.{prefix}{key}: ")) as caught:
            check(config)
        assert caught.value.http_status == 400


def test_every_property_that_librdkafka_knows_is_allowed_refused_or_decided_here(tmp_path: Path) -> None:
    """One that a later librdkafka brings must be looked at before anybody may set it."""
    known = librdkafka_properties(tmp_path / "properties")
    assert len(known) > 150
    undecided = {name for name in known if name not in ALLOWED | set(DECIDED_HERE.split()) and not is_refused(name)}
    assert undecided == set()
    assert not {name for name in ALLOWED if is_refused(name)} - {
        name for name in ALLOWED if name[:4] in ("ssl.", "sasl")
    }
    assert known >= ALLOWED


def test_what_is_not_on_the_list_never_reaches_the_client() -> None:
    config = dataset_config("my.custom.client.namespace = y, key.deserializer = z, producer.acks = 1")
    source = read_kafka_source(config)
    assert not {"my.custom.client.namespace", "key.deserializer"} & source.consumer_properties().keys()
    assert source.producer_properties(1000)["acks"] == "all"


def test_an_operator_may_allow_properties_that_name_a_file() -> None:
    config = dataset_config('ssl.ca.location = "/ca.pem", security.protocol = SSL')
    limits = dataclasses.replace(NO_FILES, kafka_file_properties=("ssl.ca.location",))
    assert read_kafka_source(config, limits).consumer_properties()["ssl.ca.location"] == "/ca.pem"
    with pytest.raises(
        ConfigError, match=r"ssl\.ca\.pem.* filoray\.datasets\.kafka-file-properties name ssl\.ca\.location"
    ):
        read_kafka_source(config)


@pytest.mark.parametrize("more", ["security.protocol = SASL_SSL", "producer.security.protocol = sasl_plaintext"])
def test_a_login_needs_a_mechanism_as_the_default_one_runs_a_command(more: str) -> None:
    with pytest.raises(ConfigError, match=r"sasl\.mechanism: this key is needed and missing: PLAIN"):
        read_kafka_source(dataset_config(more))
    read_kafka_source(dataset_config(f"{more}\n sasl.mechanism = SCRAM-SHA-512"))
