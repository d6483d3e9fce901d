"""Files that fail, and what a power cut leaves of them: tests/faults/faults.c from the side of the tests."""

import os
import pathlib
import random
import shutil
import struct
import subprocess

from weir import HERE, TARGET

SOURCE = HERE.parent / "faults/faults.c"
# What is written over a map of memory, or means nothing after a start.
NOT_KEPT = ("catalog.sqlite-shm", "serve.lock")
PAGE_BYTES = 4096


def library():
    """The compiled layer; made anew when its source is newer."""
    made = TARGET / "faults.so"
    if not made.exists() or made.stat().st_mtime < SOURCE.stat().st_mtime:
        made.parent.mkdir(parents=True, exist_ok=True)
        draft = made.with_name(f"faults.so.{os.getpid()}")
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", draft, SOURCE, "-lpthread"], check=True)
        draft.rename(made)
    return made


class Faults:
    """The rules for the programs that run with `env`; they hold from the next call on."""

    def __init__(self, data, seed, log=False):
        self.data = pathlib.Path(data)
        self.control = self.data.with_name(self.data.name + ".faults")
        self.told = self.data.with_name(self.data.name + ".told")
        self.log = self.data.with_name(self.data.name + ".log-of-writes") if log else None
        self.seed = seed
        self.rules()

    @property
    def env(self):
        env = {"LD_PRELOAD": str(library()), "FAULTS_ROOT": str(self.data), "FAULTS_CONTROL": str(self.control), "FAULTS_TOLD": str(self.told)}
        return env | ({"FAULTS_LOG": str(self.log)} if self.log else {})

    def rules(self, *rules):
        """`operation pattern action probability [argument]` each; without any the files are well."""
        draft = self.control.with_name(self.control.name + ".draft")
        draft.write_text("\n".join([f"seed {self.seed}", *rules]) + "\n")
        draft.rename(self.control)

    def injected(self):
        """The faults so far, a line each."""
        return self.told.read_text().splitlines() if self.told.exists() else []


# -- power cuts -------------------------------------------------------------------------------------------------------------

HEAD = struct.Struct("IIQQQ")


def records(log):
    """(place, kind, inode, number, name, data) of each whole record."""
    data, at, found = pathlib.Path(log).read_bytes(), 0, []
    while at + HEAD.size <= len(data):
        kind, name_bytes, inode, first, data_bytes = HEAD.unpack_from(data, at)
        end = at + HEAD.size + name_bytes + data_bytes
        if end > len(data):
            break
        name = data[at + HEAD.size : at + HEAD.size + name_bytes].decode()
        found.append((at, chr(kind), inode, first, name, data[at + HEAD.size + name_bytes : end]))
        at = end
    return found


class Content:
    """A file or folder, whatever its names: what it held when all was synced, and each change since."""

    def __init__(self, base=b"", folder=False):
        self.base, self.folder, self.changes, self.syncs = base, folder, [], []

    def durable(self, place):
        """Whether a change at a place of the log was synced.

        Linux takes the pages of a file for clean once a sync of them failed, so that no later sync writes them. Names are not forgotten so.
        """
        covering = [well for covered, well in self.syncs if covered > place]
        return any(covering) if self.folder else bool(covering) and covering[0]


# What becomes of what was not synced.
FATES = ("gone", "kept", "up to a moment", "by chance", "torn")


class PowerCut:
    """Watches a data directory from a moment at which everything in it is durable."""

    def __init__(self, faults):
        self.faults, self.data = faults, faults.data
        self.base = self.data.with_name(self.data.name + ".durable")
        self.begin()

    def begin(self):
        """All that is there now counts as durable. No program may run."""
        shutil.rmtree(self.base, ignore_errors=True)
        self.tree = {}
        if self.data.exists():
            shutil.copytree(self.data, self.base, ignore=lambda folder, names: [n for n in names if n in NOT_KEPT])
            for path in sorted(self.data.rglob("*")):
                if path.name not in NOT_KEPT:
                    self.tree[str(path.relative_to(self.data))] = (path.stat().st_ino, path.is_dir())
        self.faults.log.write_bytes(b"")

    def cut(self, dice, fate):
        """Leaves the directory as the power cut found the disk. The program must be dead. Says how much was not synced."""
        if keep := os.environ.get("WEIR_KEEP_CUTS"):
            shutil.rmtree(keep, ignore_errors=True)
            shutil.copytree(self.base, pathlib.Path(keep) / "base")
            shutil.copytree(self.data, pathlib.Path(keep) / "data")
            shutil.copy(self.faults.log, pathlib.Path(keep) / "log")
        log = records(self.faults.log)
        moment = dice.randrange(log[-1][0] + 1) if log and fate == "up to a moment" else None
        by_inode, names = {}, {}
        for name, (inode, folder) in self.tree.items():
            content = by_inode.setdefault(inode, Content(b"" if folder else (self.base / name).read_bytes(), folder))
            names[name] = content
        root = Content(folder=True)
        folders = {".": root, **{name: content for name, content in names.items() if content.folder}}
        entries = []
        for place, kind, inode, number, name, data in log:
            if kind == "c":
                by_inode[inode] = Content()
                entries.append((place, "name", name, by_inode[inode]))
            elif kind == "m":
                by_inode[inode] = Content(folder=True)
                folders[name] = by_inode[inode]
                entries.append((place, "name", name, by_inode[inode]))
            elif kind == "u":
                entries.append((place, "no name", name, None))
            elif kind in "rl":
                entries.append((place, "rename" if kind == "r" else "link", (name, data.decode()), None))
            elif kind in "wt" and inode in by_inode:
                by_inode[inode].changes.append((place, kind, number, data))
            elif kind in "sf":
                target = folders.get(name) if name in folders else by_inode.get(inode)
                if target is not None:
                    target.syncs.append((number, kind == "s"))
        unsynced = 0
        by_chance = {}

        def stays(content, place, key):
            """Whether a change that was not synced is on the disk all the same."""
            nonlocal unsynced
            if content.durable(place):
                return True
            unsynced += 1
            if fate == "up to a moment":
                return place <= moment
            if fate == "gone":
                return False
            if fate == "kept":
                return True
            # Of a name, what happened first is there if what happened later is.
            by_chance[key] = by_chance.get(key, True) and dice.random() < 0.6
            return by_chance[key]

        for place, what, name, content in entries:
            target = name[1] if isinstance(name, tuple) else name
            parent = folders.get(str(pathlib.PurePath(target).parent), root)
            if not stays(parent, place, target):
                continue
            if what == "name":
                names[target] = content
            elif what == "no name":
                names.pop(target, None)
            elif name[0] in names:
                names[target] = names.pop(name[0]) if what == "rename" else names[name[0]]
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir()
        for name in sorted(names):
            path = self.data / name
            # Without its folder a file cannot be found.
            if not path.parent.is_dir():
                continue
            if names[name].folder:
                path.mkdir(exist_ok=True)
            elif not path.is_dir():
                path.write_bytes(self.held(names[name], stays, dice, fate))
                path.chmod(0o600)
        self.begin()
        return unsynced

    @staticmethod
    def held(content, stays, dice, fate):
        out = bytearray(content.base)
        for place, kind, number, data in content.changes:
            if kind == "t":
                if stays(content, place, (id(content), place)):
                    out[number:] = b"\0" * (number - len(out))
                continue
            pieces = [(0, data)]
            if fate == "torn" and not content.durable(place):
                # Pages reach the disk each by itself, the last one maybe in part.
                first = -number % PAGE_BYTES or PAGE_BYTES
                bounds = [0, *range(min(first, len(data)), len(data), PAGE_BYTES), len(data)]
                pieces = [(a, data[a:b]) for a, b in zip(bounds, bounds[1:], strict=False)]
            for at, piece in pieces:
                if not stays(content, place, (id(content), place, at)):
                    continue
                if fate == "torn" and not content.durable(place) and dice.random() < 0.2:
                    piece = piece[: dice.randrange(len(piece) // 512 + 1) * 512]
                end = number + at + len(piece)
                if not piece:
                    continue
                if end > len(out):
                    out.extend(b"\0" * (end - len(out)))
                out[number + at : end] = piece
        return bytes(out)


def fates(seed, rounds):
    """(a fate, dice) for each round."""
    dice = random.Random(f"{seed}/fates")
    return [(dice.choice(FATES), random.Random(f"{seed}/fate/{n}")) for n in range(rounds)]
