//! A disk in memory that fails as a test tells it to: no space, failed syncs, wrong bits, and power that goes.
//!
//! What was synced survives a power cut. Of what was not, a prefix survives, which may end in the middle of anything; names
//! survive in the order in which they were made and removed. What a failed sync did not write is read back until the power
//! goes, and no later sync writes it: that is how page caches behave.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Listed, SegmentFile, Storage};

/// The disk. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct Faulty(Arc<Mutex<Disk>>);

/// Holds the disk still; see [`Faulty::hold`].
#[derive(Debug)]
pub struct Hold<'a>(MutexGuard<'a, Disk>);

impl Hold<'_> {
    /// So many syncs of files fail once the disk goes on.
    pub fn fail_syncs(&mut self, count: u32) {
        self.0.failing_syncs = count;
    }
}

/// What was asked of the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// Writes to files.
    pub writes: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Syncs of the directory.
    pub directory_syncs: u64,
    /// Reads of files.
    pub reads: u64,
}

#[derive(Debug, Default)]
struct Disk {
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// Changes of names that are not durable yet.
    renamings: Vec<Renaming>,
    files: BTreeMap<u64, Content>,
    next_file: u64,
    calls: Calls,
    capacity: Option<u64>,
    failing_syncs: u32,
    failing_truncates: u32,
    calls_until_power_cut: Option<u64>,
}

#[derive(Debug, Clone)]
enum Renaming {
    Made(String, u64),
    Removed(String),
}

#[derive(Debug, Default, Clone)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// What a failed sync left behind: no later sync writes it.
    lost: Vec<Range<usize>>,
}

impl Content {
    fn sync(&mut self) {
        self.durable = self.now.clone();
        for range in &self.lost {
            self.durable[range.clone()].fill(0);
        }
    }

    fn lose_unsynced(&mut self) {
        let same = self.now.iter().zip(&self.durable).take_while(|(a, b)| a == b).count();
        if same < self.now.len() {
            self.lost.push(same..self.now.len());
        }
    }

    fn truncate(&mut self, length: usize) {
        self.now.truncate(length);
        let kept = self.lost.iter().filter(|range| range.start < length);
        self.lost = kept.map(|range| range.start..range.end.min(length)).collect();
    }

    /// What a power cut leaves.
    fn survivor(&self, choose: &mut dyn FnMut(u64) -> u64) -> Vec<u8> {
        let same = self.now.iter().zip(&self.durable).take_while(|(a, b)| a == b).count();
        let extends = same == self.durable.len();
        if !extends && choose(2) == 0 {
            return self.durable.clone();
        }
        let reached = same + choose((self.now.len() - same) as u64 + 1) as usize;
        let mut left = self.now[..reached].to_vec();
        if choose(4) == 0 {
            // The length arrived before the bytes.
            left.resize(self.now.len(), 0);
        }
        left
    }
}

impl Disk {
    /// Counts a call down to the power cut.
    fn power(&mut self) -> io::Result<()> {
        match &mut self.calls_until_power_cut {
            Some(0) => Err(io::Error::other("the power is off")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn file(&mut self, id: u64) -> io::Result<&mut Content> {
        self.files.get_mut(&id).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn named(&mut self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn free(&self) -> usize {
        let used: usize = self.names.values().filter_map(|id| self.files.get(id)).map(|file| file.now.len()).sum();
        self.capacity.map_or(usize::MAX, |capacity| (capacity as usize).saturating_sub(used))
    }

    fn write(&mut self, id: u64, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.power()?;
        self.calls.writes += 1;
        let free = self.free();
        let now = &mut self.file(id)?.now;
        let at = at as usize;
        let writable = bytes.len().min(now.len().saturating_add(free).saturating_sub(at));
        if now.len() < at + writable {
            now.resize(at + writable, 0);
        }
        now[at..at + writable].copy_from_slice(&bytes[..writable]);
        if writable < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

/// Takes one off a number of failures that were asked for.
fn fails(failures: &mut u32) -> bool {
    let fails = *failures > 0;
    *failures = failures.saturating_sub(1);
    fails
}

impl Faulty {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self::default()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on all files together take so many bytes; the write that goes beyond is cut short. `None` for no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity = bytes;
    }

    /// So many syncs of files fail from now on.
    pub fn fail_syncs(&self, count: u32) {
        self.disk().failing_syncs = count;
    }

    /// So many truncations fail from now on.
    pub fn fail_truncates(&self, count: u32) {
        self.disk().failing_truncates = count;
    }

    /// After so many more calls that change something, every such call fails.
    pub fn cut_power_after(&self, calls: u64) {
        self.disk().calls_until_power_cut = Some(calls);
    }

    /// The power is back, with everything as it was when it went.
    pub fn restore_power(&self) {
        self.disk().calls_until_power_cut = None;
    }

    /// Every call waits until what this returns is dropped.
    pub fn hold(&self) -> Hold<'_> {
        Hold(self.disk())
    }

    /// What was asked of the disk so far.
    pub fn calls(&self) -> Calls {
        self.disk().calls
    }

    /// The bytes of a file as they are read now.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.disk();
        disk.names.get(name).and_then(|id| disk.files.get(id)).map(|file| file.now.clone())
    }

    /// Puts a file on the disk, durable.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut disk = self.disk();
        let id = disk.next_file;
        disk.next_file += 1;
        disk.files.insert(id, Content { now: bytes.clone(), durable: bytes, lost: Vec::new() });
        disk.names.insert(name.to_owned(), id);
        disk.durable_names.insert(name.to_owned(), id);
    }

    /// The disk that a power cut leaves. `choose(n)` gives a number below `n` for each thing that may go one way or another.
    pub fn after_power_cut(&self, mut choose: impl FnMut(u64) -> u64) -> Self {
        let disk = self.disk();
        let mut names = disk.durable_names.clone();
        let made_durable = choose(disk.renamings.len() as u64 + 1) as usize;
        for renaming in &disk.renamings[..made_durable] {
            match renaming {
                Renaming::Made(name, id) => names.insert(name.clone(), *id),
                Renaming::Removed(name) => names.remove(name),
            };
        }
        let left = Self::new();
        for (name, id) in names {
            if let Some(file) = disk.files.get(&id) {
                left.put(&name, file.survivor(&mut choose));
            }
        }
        left
    }
}

impl Storage for Faulty {
    fn list(&self) -> io::Result<Vec<Listed>> {
        let disk = self.disk();
        let length = |id: &u64| disk.files.get(id).map_or(0, |file| file.now.len() as u64);
        Ok(disk.names.iter().map(|(name, id)| Listed { name: name.clone(), bytes: length(id) }).collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        let mut disk = self.disk();
        disk.power()?;
        let id = match disk.names.get(name) {
            Some(id) => *id,
            None => {
                let id = disk.next_file;
                disk.next_file += 1;
                disk.files.insert(id, Content::default());
                disk.names.insert(name.to_owned(), id);
                disk.renamings.push(Renaming::Made(name.to_owned(), id));
                id
            }
        };
        disk.file(id)?.truncate(0);
        Ok(Arc::new(FaultyFile { disk: self.clone(), id }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        let id = self.disk().named(name)?;
        Ok(Arc::new(FaultyFile { disk: self.clone(), id }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.power()?;
        disk.named(name)?;
        disk.names.remove(name);
        disk.renamings.push(Renaming::Removed(name.to_owned()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.power()?;
        disk.calls.directory_syncs += 1;
        disk.durable_names = disk.names.clone();
        disk.renamings.clear();
        Ok(())
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: Faulty,
    id: u64,
}

impl SegmentFile for FaultyFile {
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.disk().write(self.id, at, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.power()?;
        disk.calls.syncs += 1;
        if fails(&mut disk.failing_syncs) {
            disk.file(self.id)?.lose_unsynced();
            return Err(io::Error::other("input/output error"));
        }
        disk.file(self.id)?.sync();
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.power()?;
        if fails(&mut disk.failing_truncates) {
            return Err(io::Error::other("input/output error"));
        }
        disk.file(self.id)?.truncate(bytes as usize);
        Ok(())
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        let mut disk = self.disk.disk();
        disk.calls.reads += 1;
        let now = &disk.file(self.id)?.now;
        let from = now.get(at as usize..).unwrap_or_default();
        let count = from.len().min(out.len());
        out[..count].copy_from_slice(&from[..count]);
        Ok(count)
    }
}
