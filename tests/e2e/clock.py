"""A program whose wall clock is off: its rows are old when it runs by the right time again."""

import subprocess

from weir import HERE

DAY_S = 86_400


def preloaded(folder):
    """The library that moves the clock, compiled into a folder."""
    library = folder / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "native/clock.c"), "-ldl"], check=True)
    return str(library)


def days_ago(library, days):
    """The environment of a program that lives so many days before now."""
    return {"LD_PRELOAD": library, "CLOCK_OFFSET_S": str(-days * DAY_S)}
