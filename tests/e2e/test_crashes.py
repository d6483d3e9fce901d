"""Killed again and again under load, at moments that are drawn from a seed: nothing acknowledged is lost, nothing is doubled.

    WEIR_CRASH_ROUNDS=200 WEIR_CRASH_SEED=7 … pytest tests/e2e/test_crashes.py -s      a longer soak, or a run again

The seed draws the targets, the delays and the ids; the operating system draws the rest.
"""

import os
import random
import time

from crashes import DOORS, RANDOM, SETTINGS, START, Killer, Ledger, Load, plan, subscribe
from receivers import Hook
from watching import SEGMENT_BEGUN, SEGMENT_REMOVED

ROUNDS = int(os.environ.get("WEIR_CRASH_ROUNDS", "20"))
SEED = os.environ.get("WEIR_CRASH_SEED") or str(random.SystemRandom().randrange(1 << 32))
# How long a moment is waited for; one that does not come in this time makes the kill one at any moment.
PATIENCE_S = 6
CHECKED_EVERY = 10


def test_killed_at_every_stage(fresh):
    print(f"seed {SEED}, {ROUNDS} rounds: run again with WEIR_CRASH_SEED={SEED} WEIR_CRASH_ROUNDS={ROUNDS}", flush=True)
    hook = Hook()
    weir = fresh(env={**SETTINGS, "WEIR_OUTBOUND__ALLOW": "127.0.0.0/8, ::1"}).start()
    load = Load(weir, weir.project, SEED)
    ledger, killer = Ledger(weir, load, hook), Killer(weir)
    try:
        subscribe(weir, hook)
        start_s, dice = [], random.Random(f"{SEED}/workers")
        for number, (target, delay_s, again) in enumerate(plan(SEED, ROUNDS)):
            load.round = number
            # What follows is read again by another number of workers, and must come out the same.
            weir.env["WEIR_WORKERS"] = str(dice.choice((1, 1, 2)))
            before = load.acknowledged()
            load.go()
            # Something of this round is acknowledged before the kill, so that no round proves nothing.
            until(lambda: load.acknowledged() > before + 20 or weir.process.poll() is not None)
            if target in (START, DOORS):
                killer.after(RANDOM, delay_s)
                # One kill before the doors open, or one just after.
                weir.serve()
                killer.after(target, typical(start_s) * (0.9 * ((delay_s * 1000) % 1) if target == START else 1 + 0.2 * ((delay_s * 1000) % 1)))
            elif target == RANDOM:
                killer.after(target, delay_s)
            else:
                meanwhile = ledger.delete_one if target in (SEGMENT_REMOVED, SEGMENT_BEGUN) else lambda: None
                killer.at(target, delay_s, PATIENCE_S, meanwhile)
            for share in again:
                weir.serve()
                killer.after(START, typical(start_s) * share)
            begun = time.monotonic()
            weir.start()
            start_s.append(time.monotonic() - begun)
            if (number + 1) % CHECKED_EVERY == 0:
                load.pause()
                ledger.check()
        load.pause()
        ledger.check()
        files = ledger.check_files()
        alerts, told = ledger.check_alerts()
        # What was there is there after a last start that recovers from nothing.
        assert weir.stop() == 0
        weir.start()
        ledger.check()
    finally:
        load.close()
        killer.close()
        hook.close()
    again = sum(s.attempts > 1 for s in load.sent)
    silent = sum(not s.answered for s in load.sent)
    print(
        f"seed {SEED}: {sum(killer.kills.values())} kills ({killer.said()}); {load.acknowledged()} bodies acknowledged, {again} sent again, "
        f"{silent} never answered; {ledger.events} rows checked, {len(ledger.deleted)} deleted; {alerts} transitions, told {told} times; {files} files; "
        f"slowest start {max(start_s):.2f} s",
        flush=True,
    )


def typical(start_s):
    """How long a start takes, of those seen lately."""
    return sorted(start_s[-9:])[len(start_s[-9:]) // 2] if start_s else 0.3


def until(holds):
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "the load does not get through"
        time.sleep(0.005)
