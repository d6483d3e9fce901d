//! The committed files as queries see them, and the removal of files that no commit names.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use weir_catalog::{LakeFile, NewFile};

use super::Checksums;
use crate::snapshot::DataFile;

/// Where a table's files are, below the lake's folder.
const SCHEMA_FOLDER: &str = "main";

/// The folder that holds a folder a table.
pub fn tables_root(lake: &Path) -> PathBuf {
    lake.join(SCHEMA_FOLDER)
}

/// Creates the lake's folders, durable: a power cut must not take the folders away from under files that a commit names. The first
/// commit would sync those below; these, and the folder that the lake is in, nobody else does.
///
/// # Errors
/// Where the file system refuses.
pub fn create(lake: &Path) -> std::io::Result<()> {
    let root = tables_root(lake);
    std::fs::create_dir_all(&root)?;
    for folder in [Some(root.as_path()), Some(lake), lake.parent()].into_iter().flatten().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// The committed files with the bounds by which queries skip them.
pub fn data_files(files: Vec<LakeFile>) -> Vec<(String, DataFile)> {
    files
        .into_iter()
        .map(|file| {
            let bound = |name: &str, read: fn(&str) -> Option<i64>| {
                let bounds = file.bounds.get(name).and_then(|(min, max)| Some((read(min)?, read(max)?)));
                // Without bounds a file is never skipped.
                bounds.unwrap_or((i64::MIN, i64::MAX))
            };
            let received_ms = bound("received", timestamp_ms);
            let project_id = bound("project_id", |text| text.parse().ok());
            let checksums = Checksums::from_bytes(&file.checksums);
            (file.table, DataFile { path: file.path, bytes: file.bytes, checksums, rows: file.rows, received_ms, project_id })
        })
        .collect()
}

/// A file that was just written.
pub fn written(root: &Path, file: &NewFile) -> DataFile {
    let bound = |name: &str, read: fn(&str) -> Option<i64>| {
        let bounds = file.statistics.iter().find(|s| s.path == name).and_then(|s| s.bounds.as_ref());
        bounds.and_then(|(min, max)| Some((read(min)?, read(max)?))).unwrap_or((i64::MIN, i64::MAX))
    };
    DataFile {
        path: root.join(file.table).join(&file.path),
        bytes: file.bytes,
        checksums: Checksums::from_bytes(&file.checksums),
        rows: file.rows,
        received_ms: bound("received", timestamp_ms),
        project_id: bound("project_id", |text| text.parse().ok()),
    }
}

fn timestamp_ms(text: &str) -> Option<i64> {
    chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok().map(|time| time.and_utc().timestamp_millis())
}

/// Removes the Parquet files that no commit names and that were written before a moment: what a process left that ended between
/// writing and committing. A process that has the lake to itself removes all of them, before it writes. Returns how many there were.
pub fn remove_unnamed(root: &Path, named: &BTreeSet<PathBuf>, before: SystemTime) -> io::Result<usize> {
    let mut removed = 0;
    for table in folders(root)? {
        for date in folders(&table)? {
            for entry in std::fs::read_dir(&date)? {
                let path = entry?.path();
                if path.extension().is_some_and(|e| e == "parquet") && !named.contains(&path) {
                    match std::fs::metadata(&path).and_then(|file| file.modified()) {
                        Ok(modified) if modified <= before => {}
                        // Another process removed it meanwhile, or is about to register it.
                        _ => continue,
                    }
                    std::fs::remove_file(&path)?;
                    removed += 1;
                }
            }
        }
    }
    Ok(removed)
}

fn folders(parent: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error),
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| entry.map(|e| e.path())).collect();
    Ok(paths?.into_iter().filter(|path| path.is_dir()).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_files_that_no_commit_names_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("errors/2026-11-23");
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["kept.parquet", "left.parquet", "other.txt"] {
            std::fs::write(folder.join(name), b"x").unwrap();
        }
        assert_eq!(remove_unnamed(dir.path(), &[folder.join("kept.parquet")].into(), SystemTime::UNIX_EPOCH).unwrap(), 0, "it may be another's");
        let later = SystemTime::now() + Duration::from_secs(60);
        assert_eq!(remove_unnamed(dir.path(), &[folder.join("kept.parquet")].into(), later).unwrap(), 1);
        let mut names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["kept.parquet", "other.txt"]);
        assert_eq!(remove_unnamed(&dir.path().join("nowhere"), &BTreeSet::new(), later).unwrap(), 0);
    }
}
