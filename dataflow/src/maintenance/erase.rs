//! Carrying a deletion out: what it means for issues is found out first and kept, then files are rewritten without the rows.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, ArrowPrimitiveType, AsArray, PrimitiveArray, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use arrow::error::ArrowError;
use weir_catalog::{DeletedIdentity, PendingDeletion, Replacement};
use weir_operators::deduplicate::Identity;
use weir_operators::schema;
use weir_protocol::EventId;
use weir_protocol::deletion::{Correction, Erased, Shown};
use weir_protocol::limits::DEDUPLICATION_WINDOW_MS;
use weir_protocol::record::{Content, Record};

use super::merge::unreached;
use super::read::{Batches, Looking};
use super::{Files, Maintenance, MaintenanceError, Observed};
use crate::publisher::Message;
use crate::reach::Reach;
use crate::telemetry;
use crate::ticker::now_ms;

/// Batches that are only looked through.
const BATCH_BYTES: usize = 1 << 20;

/// An issue that loses events.
#[derive(Default)]
struct Losing {
    events: i64,
    users: BTreeSet<i64>,
    first_ms: i64,
    last_ms: i64,
    newest_seq: i64,
    remaining: Option<Remaining>,
}

/// What remains of an issue.
struct Remaining {
    first_ms: i64,
    last_ms: i64,
    newest_seq: i64,
    shown: Shown,
}

/// More than any snapshot is dated ahead of this process's clock.
const SNAPSHOTS_AHEAD_MS: u64 = 3_600_000;

impl Maintenance {
    /// Carries a deletion out and journals that it is done.
    pub(super) fn erase(&mut self, pending: &PendingDeletion) -> Result<(), MaintenanceError> {
        let mut reach = Reach::new(pending.seq, &pending.deletion);
        let Files { observed: files, not_shown, left_alone } = self.look()?;
        // The commit that brought the deletion may have brought rows with it. Once it is said to be done, nobody looks for them.
        let not_shown = Self::may_hold(&reach, &not_shown).count();
        if not_shown > 0 {
            return Err(MaintenanceError::NotShown(not_shown));
        }
        if reach.is_user() {
            reach = reach.with_events(self.events_of(&reach, &files)?);
            self.tell(Message::Reaches(reach.clone()))?;
        }
        let corrections = match &pending.corrections {
            Some(known) => known.clone(),
            None => {
                let found = self.corrections(&reach, &files)?;
                self.runtime.block_on(self.catalog.set_corrections(pending.seq, &found))?;
                found
            }
        };
        self.at("corrections known")?;
        let mut rows = 0;
        for file in &files {
            rows += self.rewrite_without(&reach, file)?;
            self.at("file rewritten")?;
        }
        let left_alone = Self::may_hold(&reach, &left_alone).filter(|file| !reach.columns(file.table).is_empty()).count();
        if left_alone > 0 {
            return Err(MaintenanceError::LeftAlone(left_alone));
        }
        if pending.deletion.now {
            // All snapshots but the newest, whatever clocks they were dated by: the last one here may be dated within this millisecond.
            self.clean_up(now_ms() + SNAPSHOTS_AHEAD_MS)?;
        }
        // The record that it is done begins a segment, so that all before it leave the disk with the next commit.
        self.journal.begin_segment();
        let erased = Erased { project: pending.deletion.project.clone(), deletion_seq: pending.seq, corrections };
        let record = Record { received_ms: now_ms(), content: Content::Erased(Box::new(erased)) };
        self.runtime.block_on(self.journal.append(record))?;
        tracing::info!(rows, seq = pending.seq, "deleted {} of project {}", pending.deletion.target, pending.deletion.project.slug);
        Ok(())
    }

    /// The files that may hold what a deletion reaches.
    fn may_hold<'a>(reach: &'a Reach, files: &'a [Observed]) -> impl Iterator<Item = &'a Observed> {
        files.iter().filter(|file| {
            let of_project = file.live.projects.is_none_or(|(least, greatest)| (least..=greatest).contains(&reach.project_id()));
            of_project && file.live.seq.is_none_or(|(least, _)| least < reach.seq)
        })
    }

    fn looked_through(
        &mut self,
        file: &Observed,
        columns: &[&str],
        reach: &Reach,
        each: &mut dyn FnMut(&RecordBatch) -> Result<(), MaintenanceError>,
    ) -> Result<(), MaintenanceError> {
        let looking = Looking { project_id: Some(reach.project_id()), event_id: None };
        for batch in Batches::open(file, Some(columns), looking, BATCH_BYTES)? {
            each(&batch?)?;
            self.pace.step()?;
        }
        Ok(())
    }

    /// The events that name a user: rows of other tables know them by id alone.
    fn events_of(&mut self, reach: &Reach, files: &[Observed]) -> Result<BTreeSet<[u8; 16]>, MaintenanceError> {
        let mut events = BTreeSet::new();
        for file in Self::may_hold(reach, files).filter(|file| ["errors", "payloads"].contains(&file.table.name)) {
            let columns = reach.columns(file.table);
            self.looked_through(file, &columns, reach, &mut |batch| {
                let reached = reach.reached(batch)?;
                let ids = batch.column_by_name("event_id").and_then(|c| c.as_fixed_size_binary_opt()).ok_or_else(|| missing("event_id"))?;
                events.extend((0..batch.num_rows()).filter(|row| reached.value(*row)).filter_map(|row| <[u8; 16]>::try_from(ids.value(row)).ok()));
                Ok(())
            })?;
        }
        Ok(events)
    }

    /// How the issues stand that lose events. An issue that is deleted as a whole is gone already.
    fn corrections(&mut self, reach: &Reach, files: &[Observed]) -> Result<Vec<Correction>, MaintenanceError> {
        if reach.event().is_none() && !reach.is_user() {
            return Ok(Vec::new());
        }
        let Some(errors) = schema::table("errors") else { return Ok(Vec::new()) };
        let of_errors: Vec<&Observed> = Self::may_hold(reach, files).filter(|file| file.table.name == errors.name).collect();
        let mut columns = reach.columns(errors);
        columns.extend(["group_id", "timestamp", "user_hash", "title", "culprit", "level", "platform"]);
        let mut losing: BTreeMap<i64, Losing> = BTreeMap::new();
        for file in &of_errors {
            if !self.may_have_event(reach, file)? {
                continue;
            }
            self.looked_through(file, &columns, reach, &mut |batch| {
                let (rows, reached) = (ErrorColumns::of(batch)?, reach.reached(batch)?);
                (0..batch.num_rows()).filter(|row| reached.value(*row)).for_each(|row| losing.entry(rows.groups.value(row)).or_default().lose(&rows, row));
                Ok(())
            })?;
        }
        if losing.is_empty() {
            return Ok(Vec::new());
        }
        // What remains may have come after the deletion as well.
        for file in files.iter().filter(|file| file.table.name == errors.name) {
            self.looked_through(file, &columns, reach, &mut |batch| {
                let (rows, reached) = (ErrorColumns::of(batch)?, reach.reached(batch)?);
                for row in (0..batch.num_rows()).filter(|row| !reached.value(*row) && rows.projects.value(*row) == reach.project_id()) {
                    if let Some(losing) = losing.get_mut(&rows.groups.value(row)) {
                        losing.remain(&rows, row);
                    }
                }
                Ok(())
            })?;
        }
        Ok(losing.into_iter().map(|(group_id, losing)| losing.correction(group_id)).collect())
    }

    /// Whether a file may hold the one event that is meant; true where it is not one event.
    fn may_have_event(&self, reach: &Reach, file: &Observed) -> Result<bool, MaintenanceError> {
        let Some(event_id) = reach.event() else { return Ok(true) };
        let looking = Looking { project_id: Some(reach.project_id()), event_id: Some(event_id) };
        let columns = reach.columns(file.table);
        for batch in Batches::open(file, Some(&columns), looking, BATCH_BYTES)? {
            if reach.reached(&batch?)?.true_count() > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Rewrites a file without what a deletion reaches, where it holds some of it. Returns how many rows went.
    fn rewrite_without(&mut self, reach: &Reach, file: &Observed) -> Result<u64, MaintenanceError> {
        let columns = reach.columns(file.table);
        let may_hold = Self::may_hold(reach, std::slice::from_ref(file)).next().is_some();
        if columns.is_empty() || !may_hold || !self.may_have_event(reach, file)? {
            return Ok(0);
        }
        let mut found = 0;
        let mut identities = Vec::new();
        let since_ms = now_ms().saturating_sub(DEDUPLICATION_WINDOW_MS + 60_000);
        let is_payloads = file.table.name == "payloads";
        let mut looked_at = columns.clone();
        looked_at.push("received");
        if is_payloads && !looked_at.contains(&"event_id") {
            looked_at.push("event_id");
        }
        self.looked_through(file, &looked_at, reach, &mut |batch| {
            let reached = reach.reached(batch)?;
            found += reached.true_count() as u64;
            if is_payloads {
                identities.extend(recent_events(batch, &reached, since_ms)?);
            }
            Ok(())
        })?;
        if found == 0 {
            return Ok(0);
        }
        let new = self.write_merged(file.table, file.live.date, std::slice::from_ref(file), file.class, &|batch| Ok(unreached(&reach.reached(batch)?)?))?;
        self.replace(
            Replacement { generation: self.generation, table: file.table.name, old: vec![file.live.id], new, identities },
            std::slice::from_ref(file),
        )?;
        metrics::counter!(telemetry::DELETED_ROWS, "reason" => "deleted").increment(found);
        Ok(found)
    }
}

fn missing(name: &str) -> ArrowError {
    ArrowError::SchemaError(format!("the column {name} is missing or has another type"))
}

/// The identities of the events among the reached rows that a client might still send again.
fn recent_events(batch: &RecordBatch, reached: &arrow::array::BooleanArray, since_ms: u64) -> Result<Vec<DeletedIdentity>, ArrowError> {
    let received: &PrimitiveArray<TimestampMillisecondType> =
        batch.column_by_name("received").and_then(|c| c.as_primitive_opt()).ok_or_else(|| missing("received"))?;
    let projects: &PrimitiveArray<Int64Type> = batch.column_by_name("project_id").and_then(|c| c.as_primitive_opt()).ok_or_else(|| missing("project_id"))?;
    let ids = batch.column_by_name("event_id").and_then(|c| c.as_fixed_size_binary_opt()).ok_or_else(|| missing("event_id"))?;
    let identity = |row: usize| {
        let (project_id, received_ms) = (projects.value(row) as u64, received.value(row) as u64);
        let id = ids.value(row).try_into().ok()?;
        (received_ms >= since_ms).then(|| DeletedIdentity { project_id, identity: Identity::event(project_id, EventId(id)).to_bytes(), received_ms })
    };
    Ok((0..batch.num_rows()).filter(|row| reached.value(*row)).filter_map(identity).collect())
}

/// The columns of `errors` that corrections are made of.
struct ErrorColumns<'a> {
    projects: &'a PrimitiveArray<Int64Type>,
    groups: &'a PrimitiveArray<Int64Type>,
    seq: &'a PrimitiveArray<Int64Type>,
    timestamp: &'a PrimitiveArray<TimestampMillisecondType>,
    user_hash: &'a PrimitiveArray<Int64Type>,
    texts: [&'a StringArray; 4],
}

impl<'a> ErrorColumns<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, ArrowError> {
        fn number<'a, T: ArrowPrimitiveType>(batch: &'a RecordBatch, name: &str) -> Result<&'a PrimitiveArray<T>, ArrowError> {
            batch.column_by_name(name).and_then(|c| c.as_primitive_opt()).ok_or_else(|| missing(name))
        }
        let text = |name: &str| batch.column_by_name(name).and_then(|c| c.as_string_opt()).ok_or_else(|| missing(name));
        Ok(Self {
            projects: number(batch, "project_id")?,
            groups: number(batch, "group_id")?,
            seq: number(batch, "seq")?,
            timestamp: number(batch, "timestamp")?,
            user_hash: number(batch, "user_hash")?,
            texts: [text("title")?, text("culprit")?, text("level")?, text("platform")?],
        })
    }

    fn shown(&self, row: usize) -> Shown {
        let text = |index: usize| if self.texts[index].is_valid(row) { self.texts[index].value(row).to_owned() } else { String::new() };
        let level = if text(2).is_empty() { "error".to_owned() } else { text(2) };
        Shown { title: text(0), culprit: text(1), level, platform: text(3) }
    }
}

impl Losing {
    fn lose(&mut self, rows: &ErrorColumns<'_>, row: usize) {
        let timestamp = rows.timestamp.value(row);
        (self.first_ms, self.last_ms) = if self.events == 0 { (timestamp, timestamp) } else { (self.first_ms.min(timestamp), self.last_ms.max(timestamp)) };
        self.events += 1;
        self.newest_seq = self.newest_seq.max(rows.seq.value(row));
        if rows.user_hash.is_valid(row) {
            self.users.insert(rows.user_hash.value(row));
        }
    }

    fn remain(&mut self, rows: &ErrorColumns<'_>, row: usize) {
        let (timestamp, seq) = (rows.timestamp.value(row), rows.seq.value(row));
        if rows.user_hash.is_valid(row) {
            self.users.remove(&rows.user_hash.value(row));
        }
        let remaining = self.remaining.get_or_insert_with(|| Remaining { first_ms: timestamp, last_ms: timestamp, newest_seq: seq, shown: rows.shown(row) });
        remaining.first_ms = remaining.first_ms.min(timestamp);
        remaining.last_ms = remaining.last_ms.max(timestamp);
        if seq > remaining.newest_seq {
            (remaining.newest_seq, remaining.shown) = (seq, rows.shown(row));
        }
    }

    /// Where nothing remains in the tables, an issue that still counts expired events shows nothing of the lost ones.
    fn correction(self, group_id: i64) -> Correction {
        let unnamed = || Shown { title: "<deleted>".to_owned(), culprit: String::new(), level: "error".to_owned(), platform: "other".to_owned() };
        let (first, last, shown) = match self.remaining {
            Some(remaining) => {
                let shown = (remaining.newest_seq < self.newest_seq).then_some((self.newest_seq, remaining.shown));
                (Some((self.first_ms, remaining.first_ms)), Some((self.last_ms, remaining.last_ms)), shown)
            }
            None => (None, None, Some((self.newest_seq, unnamed()))),
        };
        Correction {
            group_id,
            events: self.events,
            users: self.users.into_iter().map(|user| user as u64).collect(),
            first_seen_ms: first.filter(|(lost, next)| lost < next),
            last_seen_ms: last.filter(|(lost, next)| lost > next),
            shown,
        }
    }
}
