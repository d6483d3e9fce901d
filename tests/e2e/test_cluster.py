"""Two processes over one Kafka topic and one catalog: together they hold every event once, whoever is killed or stands still."""

import os
import signal
import time

import pytest
from envelopes import error
from test_kafka import Load, health, post, until
from weir import UNTIL_S

LEASE_S = 3


@pytest.fixture
def pair(fresh, broker, topic):
    """Two processes, not yet started. Both read the catalog of the first, and write to its lake."""
    env = {
        "WEIR_JOURNAL__URL": broker.url(topic),
        "WEIR_JOURNAL__PARTITIONS": "4",
        "WEIR_CLUSTER__LEASE": f"{LEASE_S}s",
        "WEIR_COMMIT__MAX_AGE": "1s",
    }
    first = fresh(env=env)
    second = fresh(env=env, catalog_url=first.catalog_url)
    for weir in (first, second):
        weir.env["WEIR_STORE__URL"] = str(first.data / "lake")
        weir.data.mkdir()
    for name in ("catalog.key",) if first.catalog_url else ("catalog.sqlite", "catalog.key"):
        (second.data / name).symlink_to(first.data / name)
    return first, second


def held(weir):
    return set((health(weir)["cluster"] or {}).get("partitions", []))


def share(first, second):
    """Both hold something, and together everything, each partition once."""
    a, b = held(first), held(second)
    return a and b and not a & b and a | b == {0, 1, 2, 3}


def projects(weir, count=6):
    return [weir.create_project(f"shop-{n}") for n in range(count)]


def send_to_all(weir, projects, rounds=1):
    ids = set()
    for _ in range(rounds):
        for project in projects:
            body, event_id = error(release="load@1")
            weir.send(body, project)
            ids.add(event_id)
    return ids


def ids(weir):
    return sorted(row["event_id"] for row in weir.query("SELECT event_id FROM errors WHERE release = 'load@1'"))


def until_both_have(weirs, wanted):
    """Exactly these, on each."""
    for weir in weirs:
        end = time.monotonic() + UNTIL_S
        while (found := ids(weir)) != sorted(wanted):
            missing, more = set(wanted) - set(found), len(found) - len(set(found))
            assert time.monotonic() < end, f"{len(missing)} missing, {more} doubled; {health(weir)}"
            time.sleep(0.2)
        assert weir.value("SELECT coalesce(sum(times_seen), 0) AS n FROM issues") == weir.value("SELECT count(*) AS n FROM errors")


def test_two_processes_share_the_partitions_and_show_the_rows_of_both(pair):
    first, second = pair
    first.start()
    assert held(first) <= {0, 1, 2, 3}
    until("it holds everything", lambda: held(first) == {0, 1, 2, 3})
    second.start()
    until("they share", lambda: share(first, second))
    shops = projects(first)
    # Either takes for any project.
    sent = send_to_all(first, shops, 3) | send_to_all(second, shops, 3)
    until_both_have(pair, sent)
    assert {row["project"] for row in second.query("SELECT DISTINCT project FROM issues")} == {shop.slug for shop in shops}
    # One that ends in order gives its partitions back at once.
    assert second.stop() == 0
    until("the first has everything again", lambda: held(first) == {0, 1, 2, 3})
    sent |= send_to_all(first, shops)
    until_both_have([first], sent)
    second.start()
    until("they share again", lambda: share(first, second))
    until_both_have(pair, sent)


def test_what_a_killed_process_held_is_taken_over_from_its_last_commit(pair):
    first, second = pair
    first.start()
    second.start()
    until("they share", lambda: share(first, second))
    shops = projects(first, 4)
    loads = [Load(weir, shop) for weir in pair for shop in shops]
    for load in loads:
        load.until_more(3)
    second.kill()
    until("the other takes over", lambda: held(first) == {0, 1, 2, 3})
    for load in loads[: len(shops)]:
        load.until_more(3)
    second.start()
    until("they share again", lambda: share(first, second))
    for load in loads:
        load.until_more(3)
    first.kill()
    first.start()
    until("they share again", lambda: share(first, second))
    acknowledged = set().union(*(load.end() for load in loads))
    assert set().union(*(load.refused for load in loads)) <= {503}
    for weir in pair:
        until("all acknowledged are there", lambda: acknowledged <= set(ids(weir)))
    until_both_have(pair, ids(first))


def test_one_that_was_taken_for_dead_is_fenced_out_when_it_wakes(pair):
    first, second = pair
    first.env["WEIR_COMMIT__MAX_AGE"] = "1h"
    first.start()
    second.start()
    until("they share", lambda: share(first, second))
    shops = projects(second)
    until("known", lambda: all(post(second, shop, error(release="load@1")[0]).status == 200 for shop in shops))
    first.process.send_signal(signal.SIGSTOP)
    try:
        until("the other takes over", lambda: held(second) == {0, 1, 2, 3})
        before = set(ids(second))
        sent = send_to_all(second, shops, 2)
        until("read", lambda: sent <= set(ids(second)))
    finally:
        os.kill(first.process.pid, signal.SIGCONT)
    until("they share again", lambda: share(first, second))
    assert first.process.poll() is None and "was taken for dead" in first.said()
    until_both_have(pair, set(before) | sent)


def test_a_subscription_is_kept_by_both_and_each_alert_is_recorded_once(pair):
    first, second = pair
    first.start()
    second.start()
    until("they share", lambda: share(first, second))
    query = "SELECT {} count(*) AS n FROM errors WHERE received > now() - INTERVAL '1 hour' GROUP BY {}level HAVING count(*) > 0"
    refused = first.ask("CREATE SUBSCRIPTION all_levels AS " + query.format("level,", ""))
    assert refused.returncode != 0 and "add project or project_id to its GROUP BY" in refused.stderr, refused.stderr
    # After a handover, or in the middle of one.
    first.query("CREATE SUBSCRIPTION levels AS " + query.format("project, level,", "project, "))
    until("the second has it", lambda: [row["name"] for row in second.query("SHOW SUBSCRIPTIONS")] == ["levels"])
    shops = projects(first)
    sent = send_to_all(first, shops) | send_to_all(second, shops)

    def fired():
        return sorted((row["key"], row["kind"]) for row in first.query("SELECT key, kind FROM alerts"))

    until("each shop's alert fires", lambda: len(fired()) >= len(shops))
    # A handover fires nothing again.
    assert second.stop() == 0
    until("the first has everything again", lambda: held(first) == {0, 1, 2, 3})
    until_both_have([first], sent | send_to_all(first, shops))
    time.sleep(LEASE_S)
    assert len(fired()) == len(shops) and {kind for _, kind in fired()} == {"fired"}, fired()
    first.query("DROP SUBSCRIPTION levels")


def test_a_lease_without_a_topic_is_refused(fresh):
    weir = fresh(env={"WEIR_CLUSTER__LEASE": "5s"}).serve()
    assert weir.process.wait(60) != 0
    assert "cluster.lease is set, but journal.url is not" in weir.said()
