"""The journal on three brokers of Kafka under load: the leader of a partition is killed, too few replicas are in sync, most brokers are dead.

Weir runs on through all of it. WEIR_KAFKA_SEED draws how long the load runs before each kill; which broker leads is up to Kafka.
"""

import os
import random
import time

import pytest
from envelopes import error
from kafka import Cluster
from test_kafka import Load, health, on, post, until
from test_restart import check_exactly_once

SEED = int(os.environ.get("WEIR_KAFKA_SEED", random.randrange(1 << 32)))
PARTITIONS = 4
PROJECTS = 4


@pytest.fixture(scope="module")
def brokers(tmp_path_factory):
    print(f"seed {SEED}: run again with WEIR_KAFKA_SEED={SEED}", flush=True)
    made = Cluster(tmp_path_factory.mktemp("kafka"))
    try:
        yield made.start()
    finally:
        made.kill()


@pytest.fixture
def cluster(brokers):
    """All three run, whatever the test before left."""
    return brokers.start()


@pytest.fixture
def dice(request):
    return random.Random(f"{SEED}/{request.node.name}")


class Loads:
    """A load of several projects, so that every partition is likely to be written to."""

    def __init__(self, weir):
        self.weir, self.pid = weir, weir.process.pid
        projects = [weir.project, *(weir.create_project(f"shop-{n}") for n in range(1, PROJECTS))]
        # A project that was just made is known to the door a moment later.
        until("known", lambda: all(post(weir, project, error()[0]).status == 200 for project in projects))
        self.loads = [Load(weir, project) for project in projects]

    def until_more(self, count=20):
        for load in self.loads:
            load.until_more(count)

    def refused(self):
        return sum(len(load.refused) for load in self.loads)

    def check(self, what):
        """Ends the load: each acknowledged event is there once, now and after a restart."""
        acknowledged = set().union(*(load.end() for load in self.loads))
        refused = [status for load in self.loads for status in load.refused]
        assert set(refused) <= {503}
        assert self.weir.process.pid == self.pid and self.weir.process.poll() is None
        check_exactly_once(self.weir, acknowledged)
        assert self.weir.stop() == 0
        self.weir.start()
        check_exactly_once(self.weir, acknowledged)
        rows = self.weir.value("SELECT count(*) AS n FROM errors WHERE release = 'load@1'")
        print(f"{what}: {len(acknowledged)} acknowledged, {len(refused)} refused; {rows} rows, none of the acknowledged lost, none doubled", flush=True)


def busiest(weir):
    """The partition with the most records."""
    return max(health(weir)["journal"]["partitions"], key=lambda partition: partition["end"])["partition"]


def until_in_sync(cluster, topic, count):
    """Waits until each partition has so many replicas in sync; returns who leads each."""

    def leaders():
        partitions = cluster.partitions(topic) or {}
        found = {partition: leader for partition, (leader, replicas) in partitions.items() if leader != -1 and len(replicas) == count}
        return len(found) == len(partitions) and found

    return until(f"{count} in sync", leaders)


def until_another_leads(cluster, topic, partition, leader):
    until("another leads", lambda: (cluster.partitions(topic) or {}).get(partition, (leader,))[0] not in (leader, -1))


def until_refused(weir, loads, *words):
    """Waits until requests are refused and the health says why, with one of these texts; queries are answered meanwhile."""
    refused = loads.refused()
    until("refused", lambda: loads.refused() > refused)
    said = until("explained", lambda: (found := health(weir)["journal"]["error"]) and any(word in found for word in words) and found)
    answer = post(weir, weir.project, error()[0])
    assert answer.status == 503 and any(word in answer.text() for word in words), answer.text()
    assert weir.value("SELECT count(*) AS n FROM errors") > 0
    print(f"refused with: {said}", flush=True)


# Which of them comes first is up to Kafka: a leader that lacks replicas does not confirm, and a new one does not tell how far it reaches either.
UNCONFIRMED, UNTOLD = "no broker confirmed the record in time", "does not tell how far it reaches"


def test_the_leader_of_a_partition_is_killed_under_load(fresh, cluster, topic, dice):
    weir = on(fresh, cluster, topic, WEIR_JOURNAL__PARTITIONS=str(PARTITIONS)).start()
    loads = Loads(weir)
    for _ in range(3):
        loads.until_more()
        partition = busiest(weir)
        leader = until_in_sync(cluster, topic, 3)[partition]
        time.sleep(dice.uniform(0, 1))
        cluster.brokers[leader].kill()
        until_another_leads(cluster, topic, partition, leader)
        loads.until_more()
        until("healthy without it", lambda: health(weir)["healthy"])
        cluster.brokers[leader].start()
        until_in_sync(cluster, topic, 3)
        loads.until_more()
    loads.check("a leader killed three times")


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_too_few_replicas_in_sync(fresh, cluster, topic, dice, role):
    """All three have to be in sync. The controllers are still a majority when one is dead, and take it off the list."""
    cluster.topics("--create", "--topic", topic, "--partitions", "1", "--replication-factor", "3", "--config", "min.insync.replicas=3")
    weir = on(fresh, cluster, topic).start()
    loads = Loads(weir)
    loads.until_more()
    leader = until_in_sync(cluster, topic, 3)[0]
    killed = leader if role == "leader" else dice.choice([node for node in cluster.brokers if node != leader])
    time.sleep(dice.uniform(0, 1))
    cluster.brokers[killed].kill()
    until_in_sync(cluster, topic, 2)
    until_refused(weir, loads, UNCONFIRMED, UNTOLD)
    cluster.brokers[killed].start()
    loads.until_more()
    until("healthy", lambda: health(weir)["healthy"])
    loads.check(f"too few in sync without a {role}")


def test_two_of_three_are_killed_under_load(fresh, cluster, topic, dice):
    """No majority of the controllers is left: nobody can lead in the place of the dead, nor be taken off the list of those in sync."""
    weir = on(fresh, cluster, topic, WEIR_JOURNAL__PARTITIONS=str(PARTITIONS)).start()
    loads = Loads(weir)
    loads.until_more()
    until_in_sync(cluster, topic, 3)
    time.sleep(dice.uniform(0, 1))
    first, second = dice.sample(list(cluster.brokers), 2)
    cluster.brokers[first].kill()
    cluster.brokers[second].kill()
    until_refused(weir, loads, UNCONFIRMED, UNTOLD)
    cluster.brokers[first].start()
    loads.until_more()
    until("healthy with two", lambda: health(weir)["healthy"])
    cluster.brokers[second].start()
    until_in_sync(cluster, topic, 3)
    loads.until_more()
    loads.check("two of three killed")
