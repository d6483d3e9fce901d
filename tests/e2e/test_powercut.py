"""The power goes at moments drawn from a seed: what was acknowledged is there, whatever of the rest reached the disk.

The disk is simulated above the file system (tests/faults/faults.c): what no sync covered is gone, kept, torn, or there by chance; a name
is there for certain when its folder was synced.

    WEIR_POWER_ROUNDS=200 WEIR_CRASH_SEED=7 … pytest tests/e2e/test_powercut.py -s      a longer soak, or a run again
"""

import collections
import os
import random
import time

import pytest
import watching
from crashes import SETTINGS, Killer, Ledger, Load, subscribe
from faults import Faults, PowerCut, fates
from receivers import Hook

ROUNDS = int(os.environ.get("WEIR_POWER_ROUNDS", "30"))
SEED = os.environ.get("WEIR_CRASH_SEED") or str(random.SystemRandom().randrange(1 << 32))
TARGETS = (
    "any moment",
    "any moment",
    "start",
    watching.JOURNAL_WRITTEN,
    watching.COMMIT_FILE,
    watching.COMMIT_TRANSACTION,
    watching.COMMIT_TRANSACTION,
    watching.MERGED_FILE,
    watching.FILE_REMOVED,
    watching.SEGMENT_REMOVED,
    watching.SEGMENT_BEGUN,
)
PATIENCE_S = 3
CHECKED_WHOLE_EVERY = 10


# A sync that fails makes nothing durable, and neither does one after it.
FAILING = ("sync * eio 0.03", "write * part 0.01", "write * enospc 0.01", "write * short 0.1", "create * eio 0.03", "unlink * eio 0.05")


def partition(weir):
    """The only partition that a journal of segments has, as the health page tells of it."""
    [only] = weir.get("/_health/?full").json()["journal"]["partitions"]
    return only


@pytest.mark.parametrize("rules, rounds", [((), ROUNDS), (FAILING, (ROUNDS + 2) // 3)], ids=["the disk is well", "the disk fails now and then"])
def test_power_cuts_under_load(fresh, rules, rounds):
    print(f"seed {SEED}, {rounds} rounds: run again with WEIR_CRASH_SEED={SEED} WEIR_POWER_ROUNDS={ROUNDS}", flush=True)
    dice, hook = random.Random(f"{SEED}/power"), Hook()
    weir = fresh(env={**SETTINGS, "WEIR_OUTBOUND__ALLOW": "127.0.0.0/8, ::1"}).start()
    project = weir.project
    subscribe(weir, hook)
    # The folders of the lake are there; what becomes of new ones is a test of its own.
    load = Load(weir, project, SEED)
    load.go()
    until(lambda: load.acknowledged() > 10)
    load.pause()
    assert weir.stop() == 0
    faults = Faults(weir.data, SEED, log=True)
    power = PowerCut(faults)
    weir.env.update(faults.env)
    weir.start()
    ledger, killer = Ledger(weir, load, hook), Killer(weir)
    unsynced, kinds = 0, collections.Counter()
    try:
        for number, (fate, chances) in enumerate(fates(SEED, rounds)):
            load.round = number
            before, target = load.acknowledged(), dice.choice(TARGETS)
            faults.rules(*rules)
            load.go()
            until(lambda: load.acknowledged() > before + 10 or weir.process.poll() is not None)
            if target in ("any moment", "start"):
                killer.after("any moment", dice.uniform(0, 0.8))
            else:
                meanwhile = ledger.delete_one if target in (watching.SEGMENT_REMOVED, watching.SEGMENT_BEGUN) else lambda: None
                killer.at(target, dice.choice((0, 0, 0.001, 0.005)), PATIENCE_S, meanwhile)
            load.pause()
            if target == "start":
                # What the start repairs must survive a power cut in the start. On a disk that fails it may end by itself.
                faults.rules()
                weir.serve()
                killer.after("start", dice.uniform(0, 0.12))
            killer.close()
            faults.rules()
            lost = power.cut(chances, fate)
            unsynced += lost
            kinds[fate] += 1
            weir.start()
            try:
                if (number + 1) % CHECKED_WHOLE_EVERY:
                    quick(weir, load, ledger)
                else:
                    ledger.check()
            except AssertionError as error:
                raise AssertionError(f"round {number}, cut at {target}, what was not synced ({lost} changes): {fate}: {error}") from error
            killer = Killer(weir, killer.kills)
        ledger.check()
        ledger.check_files()
        alerts, told = ledger.check_alerts()
        assert weir.stop() == 0
    finally:
        load.close()
        killer.close()
        hook.close()
    fates_seen = ", ".join(f"{fate} {count}" for fate, count in sorted(kinds.items()))
    print(
        f"seed {SEED}: {rounds} power cuts ({killer.said()}; {fates_seen}), {unsynced} changes not synced, {len(faults.injected())} faults; "
        f"{load.acknowledged()} bodies acknowledged, {ledger.events} rows checked; {alerts} transitions, told {told} times",
        flush=True,
    )


def quick(weir, load, ledger):
    """Errors alone, by id."""
    weir.until_still()
    ids = [r["event_id"] for r in weir.query("SELECT event_id FROM errors")]
    acknowledged = {s.ids[0] for s in load.sent if s.kind == "error" and s.answered} - ledger.deleted
    assert len(ids) == len(set(ids)), "errors are there twice"
    lost = acknowledged - set(ids)
    assert not lost, f"{len(lost)} of {len(acknowledged)} acknowledged errors are lost: {sorted(lost)[:3]}"


def test_power_cuts_in_the_first_start(fresh):
    """Whatever is left of a data directory that was being made, the next start makes it whole."""
    dice = random.Random(f"{SEED}/first")
    for fate, chances in fates(f"{SEED}/first", 8):
        weir = fresh(env=SETTINGS)
        faults = Faults(weir.data, SEED, log=True)
        power = PowerCut(faults)
        weir.env.update(faults.env)
        weir.serve()
        time.sleep(dice.uniform(0.01, 0.15))
        weir.kill()
        power.cut(chances, fate)
        try:
            weir.start()
        except AssertionError as error:
            raise AssertionError(f"seed {SEED}: the power went in the first start, what was not synced: {fate}: {error}") from error
        assert len(weir.projects()) == 1
        weir.kill()


def test_power_cut_after_the_first_commits(fresh):
    """Folders that were made for the first files are as durable as the files."""
    for fate, chances in [("gone", random.Random(0)), *fates(f"{SEED}/commits", 3)]:
        weir = fresh(env=SETTINGS)
        faults = Faults(weir.data, SEED, log=True)
        power = PowerCut(faults)
        weir.env.update(faults.env)
        weir.start()
        load = Load(weir, weir.project, SEED)
        load.go()
        until(lambda: load.acknowledged() > 50 and (partition(weir)["committed"] or 0) > 50)
        weir.kill()
        load.pause()
        power.cut(chances, fate)
        weir.start()
        try:
            Ledger(weir, load).check()
        finally:
            load.close()
        weir.kill()


@pytest.mark.parametrize("place", ["journal/*.seg", "catalog.sqlite-wal", "lake/*.parquet"])
def test_a_disk_that_lies_is_found_out(fresh, place):
    """What these tests prove they prove by the syncs: where one is not carried out, the same cut loses what was acknowledged."""
    weir = fresh(env=SETTINGS)
    faults = Faults(weir.data, SEED, log=True)
    power = PowerCut(faults)
    weir.env.update(faults.env)
    weir.start()
    load = Load(weir, weir.project, SEED)
    ledger = Ledger(weir, load)
    try:
        load.go()
        until(lambda: load.acknowledged() > 20)
        load.pause()
        ledger.check()
        ledger.delete_one()
        faults.rules(f"sync {place} lie 1.0")
        load.go()
        until(lambda: load.acknowledged() > 200)
        if place != "journal/*.seg":
            # The journal forgets what a commit has, as far as it is there.
            ledger.delete_one()
            until(lambda: partition(weir)["start"] > 100)
        weir.kill()
        load.pause()
        faults.rules()
        power.cut(random.Random(0), "gone")
        with pytest.raises(AssertionError, match="lost|ended with 1 while starting"):
            weir.start()
            ledger.check()
    finally:
        load.close()


def until(holds):
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "the load does not get through"
        time.sleep(0.005)
