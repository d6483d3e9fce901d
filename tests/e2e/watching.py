"""What a data directory shows of the program from outside: files that appear, grow and vanish, told by the kernel as it happens."""

import ctypes
import os
import pathlib
import select
import struct
import threading

MODIFY, CREATE, DELETE, CLOSE_WRITE = 0x2, 0x100, 0x200, 0x8
MOVED_FROM, MOVED_TO = 0x40, 0x80
IS_DIR = 0x40000000
HEAD = struct.Struct("iIII")

# What the program does, by what is seen of it: (kind of event, folder below the data directory, name).
COMMIT_FILE, COMMIT_TRANSACTION, MERGED_FILE, FILE_REMOVED, JOURNAL_WRITTEN, SEGMENT_REMOVED, SEGMENT_BEGUN = (
    "commit file",
    "commit transaction",
    "compaction",
    "clean-up",
    "journal write",
    "truncation",
    "new segment",
)


def sight(mask, folder, name):
    """Which of these an event is; None for others."""
    if folder == "journal":
        if name.endswith(".seg"):
            return SEGMENT_REMOVED if mask & DELETE else SEGMENT_BEGUN if mask & CREATE else JOURNAL_WRITTEN
    elif folder == "":
        return COMMIT_TRANSACTION if name == "catalog.sqlite-wal" and mask & MODIFY else None
    elif name.endswith(".parquet"):
        if mask & DELETE:
            return FILE_REMOVED
        if mask & CREATE:
            return MERGED_FILE if "-m" in name else COMMIT_FILE
    return None


class Watch:
    """Calls `seen(sight)` from a thread of its own for everything that happens below a data directory."""

    def __init__(self, data, seen):
        self.data, self.seen = pathlib.Path(data), seen
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self.libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self.fd >= 0, os.strerror(ctypes.get_errno())
        self.folders, self.closing = {}, threading.Event()
        self.add(self.data)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def add(self, folder):
        watch = self.libc.inotify_add_watch(self.fd, os.fsencode(folder), MODIFY | CREATE | DELETE | MOVED_TO)
        if watch < 0:
            return
        self.folders[watch] = str(folder.relative_to(self.data)) if folder != self.data else ""
        # What was made before it was watched.
        for entry in os.scandir(folder):
            if entry.is_dir():
                self.add(pathlib.Path(entry.path))

    def run(self):
        while not self.closing.is_set():
            if not select.select([self.fd], [], [], 0.1)[0]:
                continue
            try:
                got = os.read(self.fd, 1 << 16)
            except OSError:
                continue
            at = 0
            while at < len(got):
                watch, mask, _, length = HEAD.unpack_from(got, at)
                name = os.fsdecode(got[at + HEAD.size : at + HEAD.size + length].rstrip(b"\0"))
                at += HEAD.size + length
                folder = self.folders.get(watch)
                if folder is None:
                    continue
                if mask & IS_DIR:
                    if mask & CREATE:
                        self.add(self.data / folder / name)
                elif what := sight(mask, folder, name):
                    self.seen(what)

    def close(self):
        if not self.closing.is_set():
            self.closing.set()
            self.thread.join(10)
            os.close(self.fd)
