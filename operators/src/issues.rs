//! Issues: which one an error belongs to, and what is known of each (`spec/grouping.md` section 4).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use timely::dataflow::StreamVec;
use weir_protocol::ProjectId;

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

/// All issues of the projects of one worker. Deterministic: the same errors in the same order lead to the same state.
#[derive(Debug, Default)]
pub struct Issues {
    issues: BTreeMap<(ProjectId, i64), IssueState>,
    hashes: BTreeMap<(ProjectId, [u8; 16]), i64>,
    last_number: BTreeMap<ProjectId, u64>,
    /// The issues that changed since the last call of [`Self::take_changes`], each with its row then.
    changed: BTreeMap<(ProjectId, i64), Option<IssueRow>>,
    new_hashes: Vec<NewHash>,
}

/// What changed of the issues.
#[derive(Debug, Default)]
pub struct IssueChanges {
    /// Issues that are new or changed, as they are now.
    pub issues: Vec<IssueState>,
    /// Those among them that there were before, as they were.
    pub replaced: Vec<IssueRow>,
    /// Hashes that are new.
    pub hashes: Vec<NewHash>,
}

impl Issues {
    /// Takes an issue of the last commit up.
    pub fn restore_issue(&mut self, state: IssueState) {
        let project_id = state.row.common.project_id as ProjectId;
        let last = self.last_number.entry(project_id).or_default();
        *last = (*last).max(state.number);
        self.issues.insert((project_id, state.row.group_id), state);
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
                self.new_hashes.push((project_id, *hash, group));
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
                self.changed.insert((project_id, group), None);
                let number = self.last_number.entry(project_id).or_default();
                *number += 1;
                self.issues.entry((project_id, group)).or_insert(IssueState::first(row, *number))
            }
        };
        row.group_first_seen_ms = Some(state.row.first_seen_ms);
    }

    /// The issues that changed since the last call, and the hashes that are new.
    pub fn take_changes(&mut self) -> IssueChanges {
        let mut changes = IssueChanges { hashes: std::mem::take(&mut self.new_hashes), ..IssueChanges::default() };
        for (key, replaced) in std::mem::take(&mut self.changed) {
            changes.issues.extend(self.issues.get(&key).cloned());
            changes.replaced.extend(replaced);
        }
        changes
    }
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
                if let Rows::Error { row, hashes, .. } = &mut fact.rows {
                    issues.assign(row, hashes);
                }
                made.push(Made::Fact(Box::new(fact)));
            }
            let changes = issues.take_changes();
            made.extend(changes.issues.into_iter().map(|state| Made::Issue(Box::new(state))));
            made.extend(changes.replaced.into_iter().map(|row| Made::ReplacedIssue(Box::new(row))));
            made.extend(changes.hashes.into_iter().map(Made::Hash));
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
        let IssueChanges { issues: changed, replaced, hashes } = issues.take_changes();
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
        let IssueChanges { issues: changed, hashes, .. } = issues.take_changes();
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

    #[test]
    fn short_ids() {
        for (number, want) in [(1, "MY-SHOP-1"), (31, "MY-SHOP-Z"), (32, "MY-SHOP-10"), (42, "MY-SHOP-1A")] {
            assert_eq!(short_id("my-shop", number), want);
        }
    }
}
