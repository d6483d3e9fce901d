//! What other processes commit: where several share the journal and the catalog, each shows the others' rows as of their last commit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::runtime::Handle;
use weir_catalog::{Catalog, CatalogError, Lake};
use weir_journal::Journal;
use weir_operators::issues::IssueState;
use weir_operators::rows::{IssueRow, ProjectRow};
use weir_protocol::deletion::Deletion;

use crate::lake;
use crate::progress::Progress;
use crate::publisher::Message;
use crate::snapshot::{DataFile, Snapshots};

/// How often it is looked whether somebody has committed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How finely the wait is cut, so that an end is seen.
const STEP: Duration = Duration::from_millis(50);

/// All that is committed, by whoever.
pub(crate) struct Committed {
    /// The snapshot of the lake that this is at least as new as.
    pub(crate) snapshot_id: i64,
    /// The files that others wrote, by table.
    pub(crate) files: BTreeMap<&'static str, Vec<DataFile>>,
    /// Files of this process that queries saw before and that others have replaced.
    pub(crate) gone: BTreeSet<PathBuf>,
    /// Issues of projects that others hold.
    pub(crate) issues: Vec<IssueRow>,
    /// Projects that others hold.
    pub(crate) projects: Vec<ProjectRow>,
    /// Deletions in projects that others hold.
    pub(crate) deletions: Vec<(i64, Deletion)>,
}

/// Whose partitions and files are this process's own.
#[derive(Clone)]
pub(crate) struct Own {
    pub(crate) partitions: BTreeSet<u16>,
    pub(crate) generation: i64,
    pub(crate) journal: Journal,
    pub(crate) catalog: Catalog,
    /// The projects by their slugs.
    pub(crate) slugs: Arc<RwLock<BTreeMap<String, u64>>>,
}

impl Own {
    /// Whether the rows of a project are made here.
    pub(crate) fn holds(&self, project_id: u64) -> bool {
        self.partitions.contains(&self.journal.partition_of(project_id))
    }

    /// Whether the alert of a key is this process's: its project is. Keys without a project are nobody's.
    pub(crate) fn holds_key(&self, key: &str) -> bool {
        self.project_of(key).flatten().is_some_and(|project_id| self.holds(project_id))
    }

    /// Whether a key names a project that is newer than what was learnt.
    pub(crate) fn is_new(&self, key: &str) -> bool {
        self.project_of(key) == Some(None)
    }

    /// The project that a key names, if it names one; nothing in it where its slug is not known.
    fn project_of(&self, key: &str) -> Option<Option<u64>> {
        let Ok(serde_json::Value::Object(columns)) = serde_json::from_str(key) else { return None };
        if let Some(project_id) = columns.get("project_id").and_then(serde_json::Value::as_u64) {
            return Some(Some(project_id));
        }
        let slug = columns.get("project").and_then(serde_json::Value::as_str)?;
        Some(self.slugs.read().unwrap_or_else(PoisonError::into_inner).get(slug).copied())
    }

    /// Learns the slugs of new projects.
    pub(crate) async fn learn(&self) -> Result<(), CatalogError> {
        let slugs = self.catalog.projects().await?.into_iter().map(|row| (row.project.slug, row.project.project_id)).collect();
        *self.slugs.write().unwrap_or_else(PoisonError::into_inner) = slugs;
        Ok(())
    }

    /// Whether a file was written here since the graph started.
    pub(crate) fn wrote(&self, file: &DataFile) -> bool {
        let prefix = format!("g{}-", self.generation);
        file.path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&prefix))
    }
}

pub(crate) struct Others {
    pub(crate) own: Own,
    pub(crate) catalog: Catalog,
    pub(crate) lake: Lake,
    pub(crate) snapshots: Snapshots,
    pub(crate) publisher: SyncSender<Message>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) runtime: Handle,
}

const WHAT: &str = "others";

/// The newest snapshot of the lake, and how far each partition is committed.
type Commits = (i64, BTreeMap<u16, (u64, u64)>);

impl Others {
    /// Looks until the graph ends.
    pub(crate) fn run(self) {
        let mut seen = None;
        loop {
            let mut waited = Duration::ZERO;
            while waited < LOOK_EVERY {
                if self.progress.is_stopping() || self.progress.has_failed() {
                    return;
                }
                std::thread::sleep(STEP);
                waited += STEP;
            }
            match self.look(&mut seen) {
                Ok(Some(committed)) => {
                    if self.publisher.send(Message::Others(Box::new(committed))).is_err() {
                        return;
                    }
                    self.progress.trouble_with(WHAT, None);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "what other processes committed is not known, trying again");
                    self.progress.trouble_with(WHAT, Some(format!("what other processes committed is not known: {error}")));
                }
            }
        }
    }

    /// What others committed since the last look.
    fn look(&self, seen: &mut Option<Commits>) -> Result<Option<Committed>, OthersError> {
        // What queries see is asked before the catalog: a file that they saw and the catalog does not name was replaced.
        let shown = self.snapshots.latest();
        self.runtime.block_on(self.own.learn())?;
        let now = self.runtime.block_on(self.catalog.commits())?;
        if seen.as_ref() == Some(&now) {
            return Ok(None);
        }
        let mut files: BTreeMap<&'static str, Vec<DataFile>> = BTreeMap::new();
        let mut named = BTreeSet::new();
        for (table, file) in lake::data_files(self.runtime.block_on(self.catalog.lake_files(&self.lake, &["received", "project_id"]))?) {
            named.insert(file.path.clone());
            if let Some(table) = weir_operators::schema::table(&table)
                && !self.own.wrote(&file)
            {
                files.entry(table.name).or_default().push(file);
            }
        }
        let of_own = shown.tables.values().flat_map(|table| table.cold.iter()).filter(|file| self.own.wrote(file));
        let gone = of_own.map(|file| file.path.clone()).filter(|path| !named.contains(path)).collect();
        let restored = self.runtime.block_on(self.catalog.restore())?;
        let mut issues = Vec::new();
        for row in restored.issues.iter().filter(|row| !self.own.holds(row.project_id)) {
            issues.push(serde_json::from_str::<IssueState>(&row.state)?.row);
        }
        let mut projects = Vec::new();
        for state in &restored.projects {
            let row: ProjectRow = serde_json::from_str(state)?;
            if !self.own.holds(row.common.project_id as u64) {
                projects.push(row);
            }
        }
        let deletions = restored.deletions.into_iter().filter(|pending| !self.own.holds(pending.deletion.project_id())).map(|p| (p.seq, p.deletion)).collect();
        let snapshot_id = now.0;
        *seen = Some(now);
        Ok(Some(Committed { snapshot_id, files, gone, issues, projects, deletions }))
    }
}

#[derive(Debug, thiserror::Error)]
enum OthersError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("their state cannot be read: {0}")]
    State(#[from] serde_json::Error),
}
