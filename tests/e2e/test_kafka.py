"""The journal on a real Kafka broker, which stops, is killed, loses records, or is not there."""

import random
import threading
import time
import uuid

from envelopes import error
from kafka import Broker
from test_restart import check_exactly_once, join
from weir import UNTIL_S


def on(fresh, broker, topic, **env):
    return fresh(env={"WEIR_JOURNAL__URL": broker.url(topic), **env})


def health(weir):
    return weir.get("/_health/?full").json()


def until(what, holds):
    end = time.monotonic() + UNTIL_S
    while True:
        try:
            found = holds()
        except OSError:
            found = None
        if found:
            return found
        assert time.monotonic() < end, f"not {what} after {UNTIL_S} s"
        time.sleep(0.1)


def post(weir, project, body):
    """Sends an envelope, whatever it is answered."""
    return weir.post(f"/api/{project.id}/envelope/", body, project.auth)


def send(weir, project, count=1):
    ids = set()
    for _ in range(count):
        body, event_id = error(release="load@1")
        weir.send(body, project)
        ids.add(event_id)
    return ids


class Load:
    """Sends from two threads until it is stopped, whatever happens to the server, and remembers the answers."""

    def __init__(self, weir, project):
        self.weir, self.project = weir, project
        self.acknowledged, self.refused, self.ended = set(), [], threading.Event()
        self.threads = [threading.Thread(target=self._send, daemon=True) for _ in range(2)]
        for thread in self.threads:
            thread.start()

    def _send(self):
        while not self.ended.is_set():
            body, event_id = error(release="load@1")
            try:
                status = post(self.weir, self.project, body).status
            except Exception:  # noqa: BLE001 - the server was killed in the middle of it
                time.sleep(0.05)
                continue
            if status == 200:
                self.acknowledged.add(event_id)
            else:
                self.refused.append(status)
                time.sleep(0.05)

    def until_more(self, count=20):
        wanted = len(self.acknowledged) + count
        until(f"{count} more acknowledged", lambda: len(self.acknowledged) >= wanted)

    def end(self):
        self.ended.set()
        join(self.threads)
        return self.acknowledged


def test_broker_and_weir_are_killed_in_turn_under_load(fresh, broker, topic):
    weir = on(fresh, broker, topic).start()
    load = Load(weir, weir.project)
    for _ in range(2):
        load.until_more()
        weir.kill()
        weir.start()
        load.until_more()
        broker.kill()
        time.sleep(random.uniform(0.5, 2))
        broker.start()
        load.until_more()
    broker.stop()
    until("unhealthy", lambda: not health(weir)["healthy"])
    broker.start()
    load.until_more()
    acknowledged = load.end()
    assert set(load.refused) <= {503}
    check_exactly_once(weir, acknowledged)
    assert weir.stop() == 0
    weir.start()
    check_exactly_once(weir, acknowledged)


def test_what_the_topic_is_made_of(fresh, broker, topic):
    weir = on(fresh, broker, topic, WEIR_JOURNAL__PARTITIONS="3").start()
    others = [weir.create_project(f"shop-{n}") for n in range(6)]
    for project in others:
        weir.send(error()[0], project)
    weir.until_still()
    report = health(weir)["journal"]
    used = [p["partition"] for p in report["partitions"] if p["end"] > 0]
    assert len(report["partitions"]) == 3 and len(used) > 1 and report["place"] == broker.url(topic)
    assert all(p["visible"] == p["end"] and p["lag_records"] == 0 for p in report["partitions"])
    metrics = weir.metrics()
    assert {metrics[("graph_partition_lag_records", f'partition="{n}"')] for n in range(3)} == {0.0}
    # A project is in one partition: the upper half of `seq` names it.
    assert weir.value("SELECT max(n) AS n FROM (SELECT count(DISTINCT seq >> 48) AS n FROM errors GROUP BY project_id)") == 1
    assert weir.value("SELECT count(DISTINCT seq >> 48) AS n FROM errors") > 1
    said = broker.topics("--describe", "--topic", topic)
    assert "PartitionCount: 3" in said and "max.message.bytes=101711872" in said, said
    read = broker.tool("org.apache.kafka.tools.consumer.ConsoleConsumer", "--topic", topic, "--from-beginning", "--timeout-ms", "5000",
                       "--formatter-property", "print.headers=true", "--formatter-property", "print.key=true", "--formatter-property", "print.value=false")
    lines = [line for line in read.splitlines() if "weir-kind:intake" in line]
    assert len(lines) == 6
    for line in lines:
        headers, key = line.split("\t")[:2]
        headers = dict(header.split(":", 1) for header in headers.split(","))
        assert headers["weir-format"] == "1" and headers["weir-project-id"] == key and int(headers["weir-received-ms"]) > 1_700_000_000_000


def test_a_broker_that_is_not_there_at_the_start_is_waited_for(fresh, tmp_path, topic):
    late = Broker(tmp_path / "kafka")
    weir = on(fresh, late, topic).serve()
    report = until("open", lambda: health(weir))
    assert not report["healthy"] and f"no broker of {late.address()} answers" in report["journal"]["error"], report
    project = weir.project
    answer = post(weir, project, error(release="load@1")[0])
    assert answer.status == 503
    assert weir.value("SELECT count(*) AS n FROM errors") == 0
    try:
        late.start()
        until("healthy", lambda: health(weir)["healthy"])
        acknowledged = send(weir, project, 3)
        check_exactly_once(weir, acknowledged)
        # It may be gone again at the next start.
        weir.kill()
        late.kill()
        weir.serve()
        until("open", lambda: health(weir)["journal"]["error"])
        late.start()
        until("healthy", lambda: health(weir)["healthy"])
        check_exactly_once(weir, acknowledged)
    finally:
        late.kill()


def test_records_that_the_topic_lost_are_a_gap_with_both_ends(fresh, broker, topic):
    weir = on(fresh, broker, topic, WEIR_JOURNAL__PARTITIONS="1", WEIR_COMMIT__MAX_AGE="1h").start()
    project = weir.project
    send(weir, project, 5)
    weir.until_still()
    end = health(weir)["journal"]["partitions"][0]["end"]
    weir.kill()
    # All but the last, and nothing of it is committed.
    broker.delete_records(topic, {0: end - 1})
    weir.start()
    until("reported", lambda: health(weir)["journal"]["lost_records"] == end - 1)
    report = health(weir)
    assert any(f"records 0 to {end - 1} (the last excluded) of partition 0 are lost, in topic {topic}" in damage for damage in report["journal"]["damages"]), report
    weir.until_still()
    assert weir.value("SELECT count(*) AS n FROM errors") == 1
    send(weir, project, 2)
    weir.until("SELECT count(*) AS n FROM errors", 3)
    # It is told once: a commit is behind it.
    assert weir.stop() == 0
    weir.start()
    weir.until_still()
    assert health(weir)["journal"]["lost_records"] == 0
    assert weir.value("SELECT count(*) AS n FROM errors") == 3


def test_a_topic_that_ends_before_what_was_read_is_refused(fresh, broker, topic):
    weir = on(fresh, broker, topic, WEIR_JOURNAL__PARTITIONS="1").start()
    project = weir.project
    send(weir, project, 5)
    weir.until_still()
    broker.topics("--delete", "--topic", topic)
    until("unhealthy", lambda: not health(weir)["healthy"])
    assert post(weir, project, error()[0]).status == 503
    broker.topics("--create", "--topic", topic, "--partitions", "1")
    until("explained", lambda: "records up to" in (health(weir)["journal"]["error"] or ""))
    assert post(weir, project, error()[0]).status == 503
    assert weir.value("SELECT count(*) AS n FROM errors") == 5
    assert weir.stop() == 0
    weir.serve()
    assert weir.process.wait(60) != 0
    assert f"partition 0 of topic {topic} ends at record 0, but records up to" in weir.said()


def test_a_topic_with_another_number_of_partitions_is_refused(fresh, broker, topic):
    broker.topics("--create", "--topic", topic, "--partitions", "2")
    weir = on(fresh, broker, topic, WEIR_JOURNAL__PARTITIONS="3").serve()
    assert weir.process.wait(60) != 0
    assert f"topic {topic} has 2 partitions, but journal.partitions is 3: set it to 2" in weir.said()
    weir.env["WEIR_JOURNAL__PARTITIONS"] = "2"
    weir.start()
    send(weir, weir.project)
    broker.topics("--alter", "--topic", topic, "--partitions", "4")
    until("refused", lambda: "has 4 partitions, but had 2" in (health(weir)["journal"]["error"] or ""))
    assert post(weir, weir.project, error()[0]).status == 503
    weir.stop()
    del weir.env["WEIR_JOURNAL__PARTITIONS"]
    weir.serve()
    assert weir.process.wait(60) != 0
    assert "has 4 partitions, but had 2" in weir.said()


def test_another_journal_is_refused(fresh, broker, topic):
    weir = on(fresh, broker, topic).start()
    send(weir, weir.project)
    assert weir.stop() == 0
    weir.env["WEIR_JOURNAL__URL"] = broker.url(topic + "-other")
    weir.serve()
    assert weir.process.wait(60) != 0
    assert f"what is committed here continues from topic {topic}, but journal.url is {broker.url(topic)}-other" in weir.said()
    del weir.env["WEIR_JOURNAL__URL"]
    weir.serve()
    assert weir.process.wait(60) != 0
    assert f"continues from topic {topic} of Kafka, but journal.url is not set" in weir.said()
    segments = fresh().start()
    assert segments.stop() == 0
    segments.env["WEIR_JOURNAL__URL"] = broker.url(topic)
    segments.serve()
    assert segments.process.wait(60) != 0
    assert "continues from segments in the data directory" in segments.said()


def test_a_record_that_is_too_large_for_the_topic_is_refused(fresh, broker, topic):
    broker.topics("--create", "--topic", topic, "--partitions", "1", "--config", "max.message.bytes=20000")
    weir = on(fresh, broker, topic).start()
    project = weir.project
    answer = post(weir, project, error(extra={"much": uuid.uuid4().hex * 2000})[0])
    assert answer.status == 413, answer
    send(weir, project)
    assert health(weir)["healthy"]


def test_properties_are_passed_on_and_named_where_they_are_wrong(fresh, broker, topic):
    weir = on(fresh, broker, topic, WEIR_JOURNAL__KAFKA__ACKS="1").serve()
    assert weir.process.wait(60) != 0
    assert "journal.kafka sets acks, which is weir's own" in weir.said()
    weir = on(fresh, broker, topic, WEIR_JOURNAL__KAFKA__SECURITY__PROTOCOL="nonsense").serve()
    assert weir.process.wait(60) != 0
    assert "security.protocol" in weir.said()
    # TLS to a port that does not speak it: what librdkafka says of it is passed on, too.
    weir = on(fresh, broker, topic, WEIR_JOURNAL__KAFKA__SECURITY__PROTOCOL="SSL").serve()
    until("explained", lambda: "SSL handshake failed" in (health(weir)["journal"]["error"] or ""))
