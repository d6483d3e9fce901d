//! The data directory: where things are in it, and that one process at a time serves it.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// A data directory.
#[derive(Debug, Clone)]
pub struct DataDir {
    root: PathBuf,
}

/// The right to serve a data directory; it ends with the process, however that ends.
#[derive(Debug)]
pub struct ServeLock {
    _file: File,
}

impl DataDir {
    /// The data directory at a path, which is made absolute, since the lake's catalog names its files from there.
    pub fn at(path: &Path) -> anyhow::Result<Self> {
        Ok(Self { root: std::path::absolute(path).with_context(|| format!("{} is no path", path.display()))? })
    }

    /// Creates it where it is not there.
    pub fn create(&self) -> anyhow::Result<()> {
        let begun = || -> std::io::Result<()> {
            if !self.root.is_dir() {
                std::fs::create_dir_all(&self.root)?;
                // Its name is to be there after a power cut, too.
                self.root.parent().map(|parent| File::open(parent)?.sync_all()).transpose()?;
            }
            Ok(())
        };
        begun().with_context(|| format!("the data directory {} cannot be created: choose another with --data", self.root.display()))
    }

    /// Whether it was ever served.
    pub fn was_served(&self) -> bool {
        self.lock_file().exists()
    }

    fn lock_file(&self) -> PathBuf {
        self.root.join("serve.lock")
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The catalog's database, where it is SQLite.
    pub fn catalog(&self) -> PathBuf {
        self.root.join("catalog.sqlite")
    }

    /// The key of the catalog's secrets, wherever the catalog is.
    pub fn secret_key(&self) -> PathBuf {
        self.catalog().with_extension("key")
    }

    /// The journal's segments.
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// The name of the process that serves this directory, among others that share its journal and its catalog: made once.
    ///
    /// # Errors
    /// Where its file cannot be read or written.
    pub fn process_id(&self) -> anyhow::Result<String> {
        let path = self.root.join("process.id");
        match std::fs::read_to_string(&path) {
            Ok(id) if !id.trim().is_empty() => return Ok(id.trim().to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
        }
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("the system gives no random numbers: {error}"))?;
        let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::write(&path, &id).with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(id)
    }

    /// The lake's files.
    pub fn lake(&self) -> PathBuf {
        self.root.join("lake")
    }

    /// Where queries that outgrow their memory write.
    pub fn spill(&self) -> PathBuf {
        self.root.join("spill")
    }

    /// Takes the right to serve the directory.
    ///
    /// # Errors
    /// Where a live process has it; its process id is named.
    pub fn lock(&self) -> anyhow::Result<ServeLock> {
        let path = self.lock_file();
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| format!("the data directory {} cannot be written: check its owner and permissions", self.root.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = holder.trim();
                let process = if holder.is_empty() { "another process".to_owned() } else { format!("process {holder}") };
                bail!("the data directory {} is already served by {process}: stop it, or use another directory with --data", self.root.display());
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("{} cannot be locked", path.display())),
        }
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "{}", std::process::id())?;
        Ok(ServeLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_serves_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::at(dir.path()).unwrap();
        let held = data.lock().unwrap();
        let error = data.lock().unwrap_err().to_string();
        assert!(error.contains(&format!("already served by process {}", std::process::id())), "{error}");
        drop(held);
        data.lock().unwrap();
    }
}
