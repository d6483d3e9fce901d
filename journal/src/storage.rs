//! The files beneath the journal, as a trait: a directory of the operating system, or one that a test makes fail.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(any(test, feature = "faulty"))]
pub mod faulty;

/// A file that the storage lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name, without the directory.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// One directory of files.
pub trait Storage: Debug + Send + Sync + 'static {
    /// All files of the directory, in any order.
    fn list(&self) -> io::Result<Vec<Listed>>;
    /// Makes an empty file, in place of one of that name if there is one.
    fn create(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>>;
    /// Opens a file to read and write.
    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>>;
    /// Removes a file. Who has it open reads on.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes the names of the directory durable.
    fn sync_dir(&self) -> io::Result<()>;
}

/// One open file.
pub trait SegmentFile: Debug + Send + Sync {
    /// Writes all bytes at a place. Where it fails, some may have been written.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written durable, and the length with it.
    fn sync(&self) -> io::Result<()>;
    /// Cuts the file to a length.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
    /// Reads up to `out.len()` bytes from a place; 0 at the end of the file.
    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<usize>;
}

/// A directory of the operating system.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Uses a directory; makes it where it is missing.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        if !path.is_dir() {
            fs::create_dir_all(path)?;
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                File::open(parent)?.sync_all()?;
            }
        }
        Ok(Self { path: path.to_owned() })
    }
}

impl Storage for Directory {
    fn list(&self) -> io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                listed.push(Listed { name, bytes: entry.metadata()?.len() });
            }
        }
        Ok(listed)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        Ok(Arc::new(File::options().read(true).write(true).create(true).truncate(true).open(self.path.join(name))?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        Ok(Arc::new(File::options().read(true).write(true).open(self.path.join(name))?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl SegmentFile for File {
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        // A changed length counts as data: without it what was appended could not be read.
        self.sync_data()
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        loop {
            match FileExt::read_at(self, out, at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}
