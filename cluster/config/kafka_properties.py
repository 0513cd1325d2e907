"""Which Kafka client properties a dataset may set: a list of those that do nothing to the node but talk to Kafka.

librdkafka's properties can load shared libraries, run commands, read and write files and flood logs. Whoever may set a
dataset up must not have that power over the machine, so only what is listed here reaches the client. Of the rest,
what librdkafka would act on is refused by name, and what it does not know (Java's and FiloDB's own words) or what is
decided here (commits, acknowledgements, partitions) is read and has no effect, as FiloDB's files have it.
"""

from __future__ import annotations

from collections.abc import Mapping

from filoray.cluster.config.dataset_limits import KAFKA_FILE_PROPERTIES, DatasetLimits

CONSUMER, PRODUCER = "consumer.", "producer."

_ALLOWED_NAMES = """
    allow.auto.create.topics api.version.fallback.ms api.version.request api.version.request.timeout.ms
    auto.commit.interval.ms batch.num.messages batch.size broker.address.family broker.address.ttl
    broker.version.fallback check.crcs client.dns.lookup client.id client.rack compression.codec compression.level
    compression.type connections.max.idle.ms enable.random.seed enable.ssl.certificate.verification
    fetch.error.backoff.ms fetch.max.bytes fetch.message.max.bytes fetch.min.bytes fetch.queue.backoff.ms
    fetch.wait.max.ms group.id group.instance.id heartbeat.interval.ms isolation.level linger.ms max.in.flight
    max.in.flight.requests.per.connection max.partition.fetch.bytes max.poll.interval.ms message.copy.max.bytes
    message.max.bytes metadata.max.age.ms metadata.recovery.rebootstrap.trigger.ms metadata.recovery.strategy
    queue.buffering.backpressure.threshold queue.buffering.max.kbytes queue.buffering.max.messages
    queue.buffering.max.ms queued.max.messages.kbytes queued.min.messages queuing.strategy
    receive.message.max.bytes reconnect.backoff.jitter.ms reconnect.backoff.max.ms reconnect.backoff.ms
    request.timeout.ms retry.backoff.max.ms retry.backoff.ms security.protocol session.timeout.ms
    socket.connection.setup.timeout.ms socket.keepalive.enable socket.max.fails socket.nagle.disable
    socket.receive.buffer.bytes socket.send.buffer.bytes socket.timeout.ms sasl.mechanism sasl.mechanisms
    sasl.password sasl.username ssl.ca.pem ssl.certificate.pem ssl.cipher.suites ssl.curves.list
    ssl.endpoint.identification.algorithm ssl.key.password ssl.key.pem ssl.keystore.password ssl.sigalgs.list
    sticky.partitioning.linger.ms topic.metadata.propagation.max.ms topic.metadata.refresh.fast.cnt
    topic.metadata.refresh.fast.interval.ms topic.metadata.refresh.interval.ms topic.metadata.refresh.sparse
"""
ALLOWED = frozenset(_ALLOWED_NAMES.split())
"""Passed on to librdkafka, which checks the values."""

SASL_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
"""Those that need no command (GSSAPI runs kinit), no file and no other server (OAUTHBEARER)."""

_REFUSED_NAMES = """
    builtin.features debug default.topic.config default_topic_conf enable.metrics.push
    enable.sasl.oauthbearer.unsecure.jwt enabled_events interceptors log_level logger metadata.broker.list oauth_cb
    on_commit on_delivery opaque statistics.interval.ms
"""
_REFUSED_WORDS = frozenset(_REFUSED_NAMES.split())
_REFUSED_BEGINNINGS = (
    "https.",
    "internal.",
    "log.",
    "offset.store.",
    "plugin.",
    "sasl.",
    "ssl.",
    "ssl_",
    "test.",
)
_REFUSED_ENDINGS = ("_cb", ".cmd", ".file", ".location", ".paths", "_callback_data")


class RefusedProperty(ValueError):
    """``key`` as it was given, and why it may not be set."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"sourceconfig.{key}: {reason}")


def allowed_properties(given: Mapping[str, str], limits: DatasetLimits) -> dict[str, str]:
    """Those of ``given`` that reach a client, with their ``consumer.`` or ``producer.`` prefix if they have one.

    Raises RefusedProperty for one that a dataset may not set.
    """
    allowed = {}
    for key, value in given.items():
        name = key.removeprefix(CONSUMER) if key.startswith(CONSUMER) else key.removeprefix(PRODUCER)
        if name in ALLOWED or name in limits.kafka_file_properties:
            allowed[key] = value
        elif name in KAFKA_FILE_PROPERTIES:
            raise RefusedProperty(
                key,
                f"a dataset may not make the node read a file; give the text itself ({_as_pem(name)}), or have "
                f"filoray.datasets.kafka-file-properties name {name}",
            )
        elif is_refused(name):
            raise RefusedProperty(
                key,
                "a dataset may not set this Kafka property: it can load code, run a command, read or write a file, "
                "or change how the client calls back and logs",
            )
        if name in ("sasl.mechanism", "sasl.mechanisms") and value not in SASL_MECHANISMS:
            raise RefusedProperty(key, f"{value!r} is not one of {', '.join(SASL_MECHANISMS)}")
    return allowed


def check_mechanism(properties: Mapping[str, object]) -> None:
    """Raises RefusedProperty where a client with these properties would fall back on GSSAPI, which runs a command."""
    if str(properties.get("security.protocol", "")).lower().startswith("sasl") and not (
        "sasl.mechanism" in properties or "sasl.mechanisms" in properties
    ):
        raise RefusedProperty("sasl.mechanism", f"this key is needed and missing: {', '.join(SASL_MECHANISMS)}")


def is_refused(name: str) -> bool:
    """Whether librdkafka, or the library around it, would act on that property in a way that is not allowed here."""
    return name in _REFUSED_WORDS or name.startswith(_REFUSED_BEGINNINGS) or name.endswith(_REFUSED_ENDINGS)


def _as_pem(name: str) -> str:
    pem = name.replace(".location", ".pem")
    return pem if pem in ALLOWED else "ssl.certificate.pem and ssl.key.pem"
