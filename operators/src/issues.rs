//! Issues: which one an error belongs to, and what is known of each (`spec/grouping.md` section 4).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use timely::dataflow::StreamVec;
use weir_protocol::ProjectId;
use weir_protocol::deletion::{Correction, Deletion, Erased, Target};

use crate::Time;
use crate::error::{group_id, title};
use crate::fact::{Fact, Rows};
use crate::output::Made;
use crate::rows::{ErrorRow, IssueRow};
use crate::stage::each_tick;
use crate::users::Users;

/// An issue: its row, and what the row is computed from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IssueState {
    /// The row of `issues`.
    pub row: IssueRow,
    /// Its number among the issues of its project, from 1: what the short id is made of.
    pub number: u64,
    /// Its users.
    pub users: Arc<Users>,
}

/// A hash that leads to an issue from now on: project, hash, issue.
pub type NewHash = (ProjectId, [u8; 16], i64);

/// An issue that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemovedIssue {
    /// Its project.
    pub project_id: ProjectId,
    /// Its id.
    pub group_id: i64,
    /// The last number that an issue of the project has had: it is not given again.
    pub last_number: u64,
}

/// All issues of the projects of one worker. Deterministic: the same errors in the same order lead to the same state.
#[derive(Debug, Default)]
pub struct Issues {
    issues: BTreeMap<(ProjectId, i64), IssueState>,
    hashes: BTreeMap<(ProjectId, [u8; 16]), i64>,
    last_number: BTreeMap<ProjectId, u64>,
    /// Deletions that were not carried out yet, by their place in the journal.
    pending: BTreeSet<i64>,
    /// The issues that changed since the last call of [`Self::take_changes`], each with its row then.
    changed: BTreeMap<(ProjectId, i64), Option<IssueRow>>,
    /// Hashes that lead elsewhere than before.
    changed_hashes: BTreeSet<(ProjectId, [u8; 16])>,
}

impl Issues {
    /// Takes an issue of the last commit up.
    pub fn restore_issue(&mut self, state: IssueState) {
        let project_id = state.row.common.project_id as ProjectId;
        let last = self.last_number.entry(project_id).or_default();
        *last = (*last).max(state.number);
        self.issues.insert((project_id, state.row.group_id), state);
    }

    /// Takes up the last number that a project's issues had, where the issue may be gone.
    pub fn restore_number(&mut self, project_id: ProjectId, number: u64) {
        let last = self.last_number.entry(project_id).or_default();
        *last = (*last).max(number);
    }

    /// Takes up a deletion that was not carried out yet.
    pub fn restore_deletion(&mut self, seq: i64) {
        self.pending.insert(seq);
    }

    /// Takes a grouping hash of the last commit up.
    pub fn restore_hash(&mut self, project_id: ProjectId, hash: [u8; 16], group_id: i64) {
        self.hashes.insert((project_id, hash), group_id);
    }

    /// Finds or makes the issue of an error, counts it there, and completes its row.
    ///
    /// The first hash that leads to an issue decides, the primary one first; the others lead to that issue from then on.
    pub fn assign(&mut self, row: &mut ErrorRow, hashes: &[[u8; 16]]) {
        let project_id = row.common.project_id as ProjectId;
        let known = hashes.iter().find_map(|hash| self.hashes.get(&(project_id, *hash)).copied());
        let group = known.unwrap_or_else(|| group_id(project_id, &row.primary_hash));
        for hash in hashes {
            if self.hashes.insert((project_id, *hash), group) != Some(group) {
                self.changed_hashes.insert((project_id, *hash));
            }
        }
        row.group_id = group;
        let state = match self.issues.get_mut(&(project_id, group)) {
            Some(state) => {
                self.changed.entry((project_id, group)).or_insert_with(|| Some(state.row.clone()));
                state.count(row);
                state
            }
            None => {
                self.changed.entry((project_id, group)).or_insert(None);
                let number = self.last_number.entry(project_id).or_default();
                *number += 1;
                self.issues.entry((project_id, group)).or_insert(IssueState::first(row, *number))
            }
        };
        row.group_first_seen_ms = Some(state.row.first_seen_ms);
    }

    /// Takes a deletion up: an issue goes at once, with all that leads to it, so that the next event starts a new one. What is
    /// found of the deletion's target stands in it from now on.
    pub fn delete(&mut self, seq: i64, deletion: &mut Deletion) {
        self.pending.insert(seq);
        let project_id = deletion.project_id();
        if let Target::ShortId(short_id) = &deletion.target
            && let Some(state) = self.of_project(project_id).find(|state| state.row.short_id.eq_ignore_ascii_case(short_id))
        {
            deletion.target = Target::Issue(state.row.group_id);
        }
        if let Target::Issue(group_id) = deletion.target {
            self.remove(project_id, group_id);
        }
    }

    /// Corrects the issues that lost events, once for each deletion. Says whether the deletion was open until now.
    pub fn erased(&mut self, erased: &Erased) -> bool {
        if !self.pending.remove(&erased.deletion_seq) {
            return false;
        }
        for correction in &erased.corrections {
            self.correct(erased.project.project_id, correction);
        }
        true
    }

    fn correct(&mut self, project_id: ProjectId, correction: &Correction) {
        let key = (project_id, correction.group_id);
        let Some(state) = self.issues.get_mut(&key) else { return };
        self.changed.entry(key).or_insert_with(|| Some(state.row.clone()));
        state.correct(correction);
        if state.row.times_seen == 0 {
            self.remove(project_id, correction.group_id);
        }
    }

    fn of_project(&self, project_id: ProjectId) -> impl Iterator<Item = &IssueState> {
        self.issues.range((project_id, i64::MIN)..=(project_id, i64::MAX)).map(|(_, state)| state)
    }

    fn remove(&mut self, project_id: ProjectId, group_id: i64) {
        if let Some(state) = self.issues.remove(&(project_id, group_id)) {
            self.changed.entry((project_id, group_id)).or_insert(Some(state.row));
        }
        let hashes = self.hashes.range((project_id, [0; 16])..=(project_id, [u8::MAX; 16]));
        let going: Vec<_> = hashes.filter(|(_, group)| **group == group_id).map(|(hash, _)| *hash).collect();
        for hash in going {
            self.hashes.remove(&hash);
            self.changed_hashes.insert(hash);
        }
    }

    /// What changed since the last call, as it stands now.
    pub fn take_changes(&mut self) -> Changes {
        let mut changes = Changes::default();
        for (key @ (project_id, group_id), replaced) in std::mem::take(&mut self.changed) {
            changes.replaced.extend(replaced);
            match self.issues.get(&key) {
                Some(state) => changes.issues.push(state.clone()),
                None => {
                    let last_number = self.last_number.get(&project_id).copied().unwrap_or_default();
                    changes.removed_issues.push(RemovedIssue { project_id, group_id, last_number });
                }
            }
        }
        for key @ (project_id, hash) in std::mem::take(&mut self.changed_hashes) {
            match self.hashes.get(&key) {
                Some(group) => changes.hashes.push((project_id, hash, *group)),
                None => changes.removed_hashes.push((project_id, hash)),
            }
        }
        changes
    }
}

/// What changed of a worker's issues, as it stands now.
#[derive(Debug, Default)]
pub struct Changes {
    /// Issues that changed.
    pub issues: Vec<IssueState>,
    /// Issues that changed or are gone, as they were before, where there were any.
    pub replaced: Vec<IssueRow>,
    /// Hashes that lead to an issue.
    pub hashes: Vec<NewHash>,
    /// Issues that are gone.
    pub removed_issues: Vec<RemovedIssue>,
    /// Hashes that lead nowhere any more.
    pub removed_hashes: Vec<(ProjectId, [u8; 16])>,
}

impl IssueState {
    fn first(row: &ErrorRow, number: u64) -> Self {
        let level = row.level.clone().unwrap_or_else(|| "error".to_owned());
        let mut state = Self {
            row: IssueRow {
                common: row.common.clone(),
                group_id: row.group_id,
                short_id: short_id(&row.common.project, number),
                issue_type: ERROR_TYPE,
                category: "error".to_owned(),
                title: row.title.clone(),
                culprit: row.culprit.clone(),
                priority: Some(priority(&level)),
                level,
                platform: row.platform.clone(),
                status: "unresolved".to_owned(),
                substatus: Some("new".to_owned()),
                first_seen_ms: row.timestamp_ms,
                last_seen_ms: row.timestamp_ms,
                times_seen: 0,
                user_count: 0,
                first_release: None,
            },
            number,
            users: Arc::default(),
        };
        state.count(row);
        state
    }

    /// Counts an error. Each refreshes what the issue shows; a placeholder for a title never replaces a real one.
    fn count(&mut self, row: &ErrorRow) {
        let issue = &mut self.row;
        issue.common = row.common.clone();
        if !title::is_placeholder(&row.title) || title::is_placeholder(&issue.title) {
            issue.title.clone_from(&row.title);
        }
        issue.culprit.clone_from(&row.culprit);
        issue.platform.clone_from(&row.platform);
        if let Some(level) = &row.level {
            issue.level.clone_from(level);
        }
        issue.first_seen_ms = issue.first_seen_ms.min(row.timestamp_ms);
        issue.last_seen_ms = issue.last_seen_ms.max(row.timestamp_ms);
        issue.times_seen += 1;
        if issue.first_release.is_none() {
            issue.first_release.clone_from(&row.release);
        }
        if let Some(user) = row.user_hash
            && Arc::make_mut(&mut self.users).add(user as u64)
        {
            issue.user_count = self.users.count();
        }
    }
}

impl IssueState {
    /// Takes lost events away again; what newer events have changed since stays.
    fn correct(&mut self, correction: &Correction) {
        let issue = &mut self.row;
        issue.times_seen = (issue.times_seen - correction.events).max(0);
        if let Some((_, next)) = correction.first_seen_ms.filter(|(lost, _)| *lost == issue.first_seen_ms) {
            issue.first_seen_ms = next;
        }
        if let Some((_, next)) = correction.last_seen_ms.filter(|(lost, _)| *lost == issue.last_seen_ms) {
            issue.last_seen_ms = next;
        }
        if let Some((lost_seq, shown)) = &correction.shown
            && issue.common.seq <= *lost_seq
        {
            issue.title.clone_from(&shown.title);
            issue.culprit.clone_from(&shown.culprit);
            issue.level.clone_from(&shown.level);
            issue.platform.clone_from(&shown.platform);
        }
        if !correction.users.is_empty() {
            let users = Arc::make_mut(&mut self.users);
            correction.users.iter().for_each(|user| users.remove(*user));
            issue.user_count = self.users.count();
        }
    }
}

/// The type of issues that errors make (`spec/grouping.md` section 7).
const ERROR_TYPE: i32 = 1;

/// The first priority of an issue by the level of its first event: low 25, medium 50, high 75.
fn priority(level: &str) -> i16 {
    match level {
        "debug" | "info" => 25,
        "warning" => 50,
        _ => 75,
    }
}

/// `SHOP-1A`: the project's slug and the issue's number in Crockford's base 32.
fn short_id(slug: &str, number: u64) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let mut digits = Vec::new();
    let mut rest = number;
    while rest > 0 || digits.is_empty() {
        digits.push(DIGITS[(rest % 32) as usize] as char);
        rest /= 32;
    }
    format!("{}-{}", slug.to_ascii_uppercase(), digits.iter().rev().collect::<String>())
}

/// The stage that gives each error its issue.
pub trait AssignIssues<'scope> {
    /// Completes the rows of errors, and adds the issues that changed.
    fn assign_issues(self, issues: Issues) -> StreamVec<'scope, Time, Made>;
}

impl<'scope> AssignIssues<'scope> for StreamVec<'scope, Time, Fact> {
    fn assign_issues(self, mut issues: Issues) -> StreamVec<'scope, Time, Made> {
        each_tick(self, "Issues", move |_time, facts, made| {
            for mut fact in facts {
                match &mut fact.rows {
                    Rows::Error { row, hashes, payload } => {
                        issues.assign(row, hashes);
                        payload.group_id = Some(row.group_id);
                    }
                    Rows::Deletion(deletion) => {
                        issues.delete(fact.seq, deletion);
                        made.push(Made::Deletion(fact.seq, deletion.clone()));
                    }
                    Rows::Erased(erased) if issues.erased(erased) => made.push(Made::Erased(erased.deletion_seq)),
                    _ => {}
                }
                made.push(Made::Fact(Box::new(fact)));
            }
            let changes = issues.take_changes();
            made.extend(changes.issues.into_iter().map(|state| Made::Issue(Box::new(state))));
            made.extend(changes.replaced.into_iter().map(|row| Made::ReplacedIssue(Box::new(row))));
            made.extend(changes.hashes.into_iter().map(Made::Hash));
            made.extend(changes.removed_issues.into_iter().map(Made::RemovedIssue));
            made.extend(changes.removed_hashes.into_iter().map(|(project_id, hash)| Made::RemovedHash(project_id, hash)));
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::error_row;
    use crate::grouping::GroupHash;
    use crate::normalise::EventContext;
    use crate::rows::tests::common;
    use weir_protocol::deletion::Shown;
    use weir_protocol::json::Json;

    fn error(title: &str, primary: u8, timestamp_ms: i64, user: Option<i64>) -> ErrorRow {
        let hashes: Vec<GroupHash> = Vec::new();
        let mut row = error_row(&Json::parse(b"{}").unwrap(), &EventContext::default(), common(), &hashes);
        row.title = title.to_owned();
        row.primary_hash = [primary; 16];
        row.timestamp_ms = timestamp_ms;
        row.user_hash = user;
        row
    }

    fn assigned(issues: &mut Issues, mut row: ErrorRow, hashes: &[u8]) -> ErrorRow {
        issues.assign(&mut row, &hashes.iter().map(|h| [*h; 16]).collect::<Vec<_>>());
        row
    }

    #[test]
    fn errors_of_a_hash_are_counted_in_one_issue() {
        let mut issues = Issues::default();
        let first = assigned(&mut issues, error("Real: title", 1, 50, Some(7)), &[1]);
        let second = assigned(&mut issues, error("<unlabeled event>", 1, 20, Some(7)), &[1]);
        let third = assigned(&mut issues, error("Other", 2, 30, None), &[2]);
        assert_eq!(first.group_id, second.group_id);
        assert_ne!(first.group_id, third.group_id);
        assert_eq!((first.group_first_seen_ms, second.group_first_seen_ms), (Some(50), Some(20)));
        let Changes { issues: changed, replaced, hashes, .. } = issues.take_changes();
        assert!(replaced.is_empty(), "both are new");
        let row = &changed.iter().find(|s| s.row.group_id == first.group_id).unwrap().row;
        assert_eq!((row.title.as_str(), row.times_seen, row.user_count, row.first_seen_ms, row.last_seen_ms), ("Real: title", 2, 1, 20, 50));
        assert_eq!((row.short_id.as_str(), hashes.len()), ("SHOP-1", 2));
        assert!(issues.take_changes().issues.is_empty());
        assigned(&mut issues, error("Other", 2, 31, None), &[2]);
        assigned(&mut issues, error("Other", 2, 32, None), &[2]);
        let again = issues.take_changes();
        assert_eq!(again.replaced, [changed.iter().find(|s| s.row.group_id == third.group_id).unwrap().row.clone()]);
        assert_eq!(again.issues[0].row.times_seen, 3);
    }

    #[test]
    fn a_secondary_hash_leads_to_the_issue_that_has_it_and_brings_the_primary_along() {
        let mut issues = Issues::default();
        let system_only = assigned(&mut issues, error("a", 9, 1, None), &[9]);
        let both = assigned(&mut issues, error("b", 1, 2, None), &[1, 9]);
        let app_only = assigned(&mut issues, error("c", 1, 3, None), &[1]);
        assert_eq!([both.group_id, app_only.group_id], [system_only.group_id; 2]);
    }

    #[test]
    fn restored_issues_go_on_counting() {
        let mut issues = Issues::default();
        let before = assigned(&mut issues, error("a", 1, 1, Some(1)), &[1]);
        let Changes { issues: changed, hashes, .. } = issues.take_changes();
        let mut restored = Issues::default();
        for state in changed {
            restored.restore_issue(serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap());
        }
        hashes.into_iter().for_each(|(project, hash, group)| restored.restore_hash(project, hash, group));
        let after = assigned(&mut restored, error("a", 1, 2, Some(2)), &[1]);
        let new = assigned(&mut restored, error("b", 2, 3, None), &[2]);
        assert_eq!(before.group_id, after.group_id);
        let changed = restored.take_changes().issues;
        let of = |group| changed.iter().find(|s| s.row.group_id == group).map(|s| (s.row.short_id.clone(), s.row.times_seen, s.row.user_count)).unwrap();
        assert_eq!((of(after.group_id), of(new.group_id)), (("SHOP-1".to_owned(), 2, 2), ("SHOP-2".to_owned(), 1, 0)));
    }

    fn deletion(target: Target) -> Deletion {
        let project = weir_protocol::record::Project { org_id: 1, project_id: common().project_id as u64, slug: "shop".to_owned(), retention_days: 90 };
        Deletion { project, target, now: false }
    }

    #[test]
    fn a_deleted_issue_is_gone_and_the_next_event_starts_another_with_the_next_number() {
        let mut issues = Issues::default();
        let before = assigned(&mut issues, error("a", 1, 1, None), &[1, 2]);
        let other = assigned(&mut issues, error("b", 3, 1, None), &[3]);
        issues.take_changes();
        let mut asked = deletion(Target::ShortId("shop-1".to_owned()));
        issues.delete(9, &mut asked);
        assert_eq!(asked.target, Target::Issue(before.group_id));
        let changes = issues.take_changes();
        assert_eq!(changes.removed_issues, [RemovedIssue { project_id: 7, group_id: before.group_id, last_number: 2 }]);
        assert_eq!((changes.removed_hashes.len(), changes.issues.len(), changes.hashes.len()), (2, 0, 0));
        let after = assigned(&mut issues, error("a", 1, 5, None), &[1]);
        let changes = issues.take_changes();
        assert_eq!((changes.issues[0].row.short_id.as_str(), changes.issues[0].row.times_seen, after.group_first_seen_ms), ("SHOP-3", 1, Some(5)));
        assert_eq!(assigned(&mut issues, error("b", 3, 1, None), &[3]).group_id, other.group_id);
        let mut unknown = deletion(Target::ShortId("SHOP-99".to_owned()));
        issues.delete(10, &mut unknown);
        assert_eq!(unknown.target, Target::ShortId("SHOP-99".to_owned()));
    }

    #[test]
    fn an_issue_that_lost_events_is_corrected_once_and_goes_with_its_last_event() {
        let mut issues = Issues::default();
        let group_id = assigned(&mut issues, error("old", 1, 10, Some(1)), &[1]).group_id;
        assigned(&mut issues, error("new", 1, 30, Some(2)), &[1]);
        let shown = |title: &str| Shown { title: title.to_owned(), culprit: String::new(), level: "error".to_owned(), platform: "other".to_owned() };
        let mut correction =
            Correction { group_id, events: 1, users: vec![2], first_seen_ms: None, last_seen_ms: Some((30, 10)), shown: Some((common().seq, shown("old"))) };
        let mut asked = deletion(Target::Event(weir_protocol::EventId([1; 16])));
        issues.delete(5, &mut asked);
        let erased = |correction: &Correction, deletion_seq| Erased { project: asked.project.clone(), deletion_seq, corrections: vec![correction.clone()] };
        assert!(issues.erased(&erased(&correction, 5)));
        assert!(!issues.erased(&erased(&correction, 5)), "a second time it counts no more");
        let row = issues.take_changes().issues.remove(0).row;
        assert_eq!((row.times_seen, row.user_count, row.first_seen_ms, row.last_seen_ms, row.title.as_str()), (1, 1, 10, 10, "old"));
        assigned(&mut issues, error("newest", 1, 50, Some(3)), &[1]);
        issues.restore_deletion(6);
        correction.first_seen_ms = Some((10, 20));
        correction.last_seen_ms = Some((10, 20));
        correction.shown = Some((common().seq - 1, shown("never")));
        assert!(issues.erased(&erased(&correction, 6)));
        let row = issues.take_changes().issues.remove(0).row;
        assert_eq!((row.times_seen, row.first_seen_ms, row.last_seen_ms, row.title.as_str()), (1, 20, 50, "newest"), "what came since stays");
        issues.restore_deletion(7);
        assert!(issues.erased(&erased(&correction, 7)));
        assert_eq!(issues.take_changes().removed_issues.len(), 1);
    }

    #[test]
    fn short_ids() {
        for (number, want) in [(1, "MY-SHOP-1"), (31, "MY-SHOP-Z"), (32, "MY-SHOP-10"), (42, "MY-SHOP-1A")] {
            assert_eq!(short_id("my-shop", number), want);
        }
    }
}
