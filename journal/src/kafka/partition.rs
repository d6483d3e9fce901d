//! Which partition a record is in.

use weir_protocol::record::{Content, Record};

/// Records that belong to no project are in this partition.
const OF_NO_PROJECT: u16 = 0;

/// The partition of a project: the finaliser of SplitMix64 over its id, modulo the number of partitions. It must stay what it is for as
/// long as a topic lives: all records of a project have to be in one partition.
pub(crate) fn of_project(project_id: u64, partitions: u16) -> u16 {
    let mut hash = project_id.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    (hash % u64::from(partitions.max(1))) as u16
}

/// The partition of a record.
pub(crate) fn of_record(record: &Record, partitions: u16) -> u16 {
    project_of(record).map_or(OF_NO_PROJECT, |project_id| of_project(project_id, partitions))
}

/// The project that a record belongs to.
pub(crate) fn project_of(record: &Record) -> Option<u64> {
    match &record.content {
        Content::Intake(intake) => Some(intake.project.project_id),
        Content::Project(project) => Some(project.project_id),
        Content::Deletion(deletion) => Some(deletion.project.project_id),
        Content::Erased(erased) => Some(erased.project.project_id),
    }
}

/// The kind of a record, as its headers name it.
pub(crate) fn kind_of(record: &Record) -> &'static str {
    match &record.content {
        Content::Intake(_) => "intake",
        Content::Project(_) => "project",
        Content::Deletion(_) => "deletion",
        Content::Erased(_) => "erased",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_stays_in_its_partition() {
        // These must never change: topics hold records by them.
        let found: Vec<u16> = (1..=8).map(|project_id| of_project(project_id, 4)).collect();
        assert_eq!(found, GOLDEN);
        assert_eq!(of_project(u64::MAX, 1), 0);
        assert_eq!(of_project(5, 0), 0);
    }

    const GOLDEN: [u16; 8] = [1, 2, 1, 2, 2, 0, 3, 2];

    #[test]
    fn projects_are_spread() {
        let mut counts = [0; 7];
        (1..=7_000).for_each(|project_id| counts[usize::from(of_project(project_id, 7))] += 1);
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }
}
