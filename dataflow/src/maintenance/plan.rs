//! What is to be done, decided from what was observed: pure functions of files, projects and the date.

use std::collections::{BTreeMap, BTreeSet};

/// Year, month and day of the rows of a file.
pub(super) type Date = (i32, u32, u32);

/// A file as planning sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) id: i64,
    pub(super) table: &'static str,
    pub(super) date: Date,
    pub(super) bytes: u64,
    /// Least and greatest project of its rows, where it is known.
    pub(super) projects: Option<(i64, i64)>,
    /// The days that all its rows are kept, where an earlier merge parted them so.
    pub(super) class: Option<u16>,
}

/// Files of one table and day that are to become few.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Merge {
    pub(super) table: &'static str,
    pub(super) date: Date,
    pub(super) files: Vec<i64>,
    /// How the rows are parted, each part into files of its own.
    pub(super) parts: Parts,
}

/// How a merge parts its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    /// Not at all: the day is not over.
    Whole,
    /// All are kept for so many days.
    Class(u16),
    /// By the days that they are kept.
    ByClass,
}

/// The bounds of merges.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How large a merged file should become, in bytes.
    pub(super) file_bytes: u64,
    /// What the files of one merge may take in memory together, in bytes.
    pub(super) memory_bytes: u64,
}

/// Files of one merge.
const FILES_MAX: usize = 32;
/// So many files of about one size are merged while their day is not over.
const FILES_OF_A_SIZE: usize = 8;
/// Files below this size are of about one size.
const SMALL_BYTES: u64 = 64 << 10;
/// What a file takes in memory while it is read in order: some pages of each column, which are larger than what is stored.
const DECODED_FACTOR: u64 = 4;
const READER_BYTES_MIN: u64 = 256 << 10;
const READER_BYTES_MAX: u64 = 24 << 20;

/// The next merge: that with the most files. A day that is over ends as few files, parted by how long rows are kept; of a day
/// that is not over, files are merged with others of their size, so that each row is rewritten a few times only.
pub(super) fn next_merge(files: &[File], today: Date, kept_days: &BTreeMap<i64, u16>, limits: Limits) -> Option<Merge> {
    all_merges(files, today, kept_days, limits).into_iter().max_by_key(|merge| (merge.files.len(), std::cmp::Reverse((merge.table, merge.date))))
}

/// How many files wait to be merged.
pub(super) fn backlog(files: &[File], today: Date, kept_days: &BTreeMap<i64, u16>, limits: Limits) -> usize {
    all_merges(files, today, kept_days, limits).iter().map(|merge| merge.files.len()).sum()
}

fn all_merges(files: &[File], today: Date, kept_days: &BTreeMap<i64, u16>, limits: Limits) -> Vec<Merge> {
    let mut groups: BTreeMap<(&'static str, Date, Option<u16>), Vec<&File>> = BTreeMap::new();
    for file in files {
        let over = file.date < today;
        let class = if over { class(file, kept_days) } else { None };
        groups.entry((file.table, file.date, class)).or_default().push(file);
    }
    let mut merges = Vec::new();
    for ((table, date, class), mut files) in groups {
        files.sort_by_key(|file| (file.bytes, file.id));
        let parts = match class {
            _ if date >= today => Parts::Whole,
            Some(days) => Parts::Class(days),
            None => Parts::ByClass,
        };
        let picked = match parts {
            Parts::Whole => of_one_size(&files, limits),
            Parts::Class(_) => small_ones(&files, limits).filter(|picked| picked.len() > 1),
            Parts::ByClass => small_ones(&files, limits).or_else(|| files.first().map(|file| vec![*file])),
        };
        if let Some(picked) = picked {
            merges.push(Merge { table, date, files: picked.iter().map(|file| file.id).collect(), parts });
        }
    }
    merges
}

/// The days that all rows of a file are kept, where they are the same for all.
fn class(file: &File, kept_days: &BTreeMap<i64, u16>) -> Option<u16> {
    if file.class.is_some() {
        return file.class;
    }
    let classes: BTreeSet<u16> = kept_days.values().copied().collect();
    if classes.len() < 2 {
        // Nothing is to be told apart; what the one kind is called does not matter.
        return Some(classes.first().copied().unwrap_or_default());
    }
    let (least, greatest) = file.projects?;
    let days: BTreeSet<u16> = kept_days.range(least..=greatest).map(|(_, days)| *days).collect();
    if days.len() == 1 { days.first().copied() } else { None }
}

fn reader_bytes(file: &File) -> u64 {
    (file.bytes.saturating_mul(DECODED_FACTOR)).clamp(READER_BYTES_MIN, READER_BYTES_MAX)
}

/// The smallest files, as many as one merge may take and as make one file.
fn small_ones<'a>(files: &[&'a File], limits: Limits) -> Option<Vec<&'a File>> {
    let small = files.iter().filter(|file| file.bytes < limits.file_bytes / 2).copied();
    Some(within(small, limits)).filter(|picked| !picked.is_empty())
}

/// Files of about one size, if there are many: within a factor of eight of each other.
fn of_one_size<'a>(files: &[&'a File], limits: Limits) -> Option<Vec<&'a File>> {
    let mut sizes: BTreeMap<u32, Vec<&File>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.bytes < limits.file_bytes / 2) {
        sizes.entry((file.bytes / SMALL_BYTES).checked_ilog(8).map_or(0, |size| size + 1)).or_default().push(file);
    }
    let of_a_size = sizes.into_values().map(|files| within(files.into_iter(), limits)).filter(|picked| picked.len() >= FILES_OF_A_SIZE);
    of_a_size.max_by_key(Vec::len)
}

fn within<'a>(files: impl Iterator<Item = &'a File>, limits: Limits) -> Vec<&'a File> {
    let (mut memory, mut bytes) = (0, 0);
    let fits = |file: &&File| {
        memory += reader_bytes(file);
        let large = bytes >= limits.file_bytes;
        bytes += file.bytes;
        !large && memory <= limits.memory_bytes.max(2 * READER_BYTES_MAX)
    };
    files.take(FILES_MAX).take_while(fits).collect()
}

/// What is to become of a file whose rows may have been kept long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expiry {
    /// Nothing yet.
    Keep,
    /// All its rows go.
    Drop,
    /// Rows of some of its projects go.
    Rewrite,
    /// That depends on which projects it holds.
    Ask,
}

/// Whether rows of a day go: when all of the day is further back than they are kept.
pub(super) fn is_over(date: Date, today: Date, kept_days: u16) -> bool {
    days_between(date, today) > i64::from(kept_days)
}

/// Decides by the projects that a file holds, as far as they are known. Projects that the catalog does not know are kept.
pub(super) fn expiry(file: &File, held: Option<&BTreeSet<i64>>, today: Date, kept_days: &BTreeMap<i64, u16>) -> Expiry {
    if kept_days.values().all(|days| !is_over(file.date, today, *days)) {
        return Expiry::Keep;
    }
    let over = |project: &i64| kept_days.get(project).is_some_and(|days| is_over(file.date, today, *days));
    match (held, file.projects) {
        (Some(held), _) => {
            let gone = held.iter().filter(|project| over(project)).count();
            if gone == 0 {
                Expiry::Keep
            } else if gone == held.len() {
                Expiry::Drop
            } else {
                Expiry::Rewrite
            }
        }
        (None, Some((least, greatest))) if least == greatest => {
            if over(&least) {
                Expiry::Drop
            } else {
                Expiry::Keep
            }
        }
        (None, Some((least, greatest))) if kept_days.range(least..=greatest).all(|(project, _)| !over(project)) => Expiry::Keep,
        _ => Expiry::Ask,
    }
}

fn days_between(from: Date, to: Date) -> i64 {
    let day = |(year, month, day): Date| chrono::NaiveDate::from_ymd_opt(year, month, day).unwrap_or_default();
    (day(to) - day(from)).num_days()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: Date = (2026, 11, 24);
    const YESTERDAY: Date = (2026, 11, 23);
    const LIMITS: Limits = Limits { file_bytes: 128 << 20, memory_bytes: 96 << 20 };

    fn file(id: i64, date: Date, bytes: u64) -> File {
        File { id, table: "errors", date, bytes, projects: Some((1, 2)), class: None }
    }

    fn same_days() -> BTreeMap<i64, u16> {
        [(1, 90), (2, 90)].into()
    }

    #[test]
    fn a_day_that_is_not_over_waits_for_many_files_of_a_size() {
        let few: Vec<File> = (0..7).map(|id| file(id, TODAY, 1000)).collect();
        assert_eq!(next_merge(&few, TODAY, &same_days(), LIMITS), None);
        let mut many: Vec<File> = (0..8).map(|id| file(id, TODAY, 1000)).collect();
        many.push(file(8, TODAY, 5 << 20));
        let merge = next_merge(&many, TODAY, &same_days(), LIMITS).unwrap();
        assert_eq!((merge.files, merge.parts), ((0..8).collect(), Parts::Whole));
    }

    #[test]
    fn a_day_that_is_over_is_merged_at_once_and_then_left_alone() {
        let files = vec![file(0, YESTERDAY, 1000), file(1, YESTERDAY, 30 << 20), file(2, TODAY, 5)];
        let merge = next_merge(&files, TODAY, &same_days(), LIMITS).unwrap();
        assert_eq!((merge.files, merge.parts), (vec![0, 1], Parts::Class(90)));
        assert_eq!(next_merge(&[file(3, YESTERDAY, 30 << 20)], TODAY, &same_days(), LIMITS), None);
        assert_eq!(next_merge(&[file(3, YESTERDAY, 300 << 20), file(4, YESTERDAY, 100 << 20)], TODAY, &same_days(), LIMITS), None);
    }

    #[test]
    fn rows_that_are_kept_for_different_times_are_parted_when_their_day_is_over() {
        let days = [(1, 30), (2, 90)].into();
        let merge = next_merge(&[file(0, YESTERDAY, 200 << 20)], TODAY, &days, LIMITS).unwrap();
        assert_eq!((merge.files, merge.parts), (vec![0], Parts::ByClass), "even a large file alone");
        let parted = [(1, Some(30)), (2, Some(90))].map(|(id, class)| File { class, ..file(id, YESTERDAY, 1000) });
        assert_eq!(next_merge(&parted, TODAY, &days, LIMITS), None);
        let one_project = File { projects: Some((2, 2)), ..file(3, YESTERDAY, 10) };
        let merge = next_merge(&[parted[0].clone(), parted[1].clone(), one_project], TODAY, &days, LIMITS).unwrap();
        assert_eq!((merge.files, merge.parts), (vec![3, 2], Parts::Class(90)));
    }

    #[test]
    fn days_with_one_expired_project_are_dropped_or_rewritten() {
        let days: BTreeMap<i64, u16> = [(1, 30), (2, 90)].into();
        let check = |date: Date, projects: Option<(i64, i64)>, held: Option<&[i64]>, want: Expiry| {
            let held = held.map(|held| held.iter().copied().collect());
            let file = File { projects, ..file(0, date, 1000) };
            assert_eq!(expiry(&file, held.as_ref(), TODAY, &days), want, "{date:?} {projects:?} {held:?}");
        };
        check((2026, 10, 25), Some((1, 1)), None, Expiry::Keep);
        check((2026, 10, 24), Some((1, 1)), None, Expiry::Drop);
        check((2026, 10, 24), Some((2, 2)), None, Expiry::Keep);
        check((2026, 10, 24), Some((1, 2)), None, Expiry::Ask);
        check((2026, 10, 24), None, None, Expiry::Ask);
        check((2026, 10, 24), Some((1, 2)), Some(&[1, 2]), Expiry::Rewrite);
        check((2026, 10, 24), Some((1, 2)), Some(&[1]), Expiry::Drop);
        check((2026, 10, 24), Some((1, 2)), Some(&[2]), Expiry::Keep);
        check((2026, 8, 1), Some((1, 2)), Some(&[1, 2]), Expiry::Drop);
        check((2026, 8, 1), Some((1, 9)), Some(&[1, 9]), Expiry::Rewrite);
        check((2026, 10, 24), Some((2, 9)), None, Expiry::Keep);
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        fn files() -> impl Strategy<Value = Vec<File>> {
            let date = prop_oneof![Just(TODAY), Just(YESTERDAY), Just((2026, 11, 1))];
            let file = (date, 0..400u64 << 20, 1..4i64, 0..3i64, proptest::option::of(prop_oneof![Just(30u16), Just(90)]));
            proptest::collection::vec(file, 0..60).prop_map(|files| {
                let file = |(id, (date, bytes, least, more, class)): (usize, _)| {
                    let _: &Option<u16> = &class;
                    File { id: id as i64, table: "errors", date, bytes, projects: Some((least, least + more)), class }
                };
                files.into_iter().enumerate().map(file).collect()
            })
        }

        /// What a merge leaves: at most one file for each kind of rows and full file.
        fn after(files: &[File], merge: &Merge, next_id: &mut i64, kept_days: &BTreeMap<i64, u16>) -> Vec<File> {
            let bytes: u64 = files.iter().filter(|f| merge.files.contains(&f.id)).map(|f| f.bytes).sum();
            let mut left: Vec<File> = files.iter().filter(|f| !merge.files.contains(&f.id)).cloned().collect();
            let classes: Vec<Option<u16>> = match merge.parts {
                Parts::Whole => vec![None],
                Parts::Class(days) => vec![Some(days)],
                Parts::ByClass => kept_days.values().copied().collect::<BTreeSet<u16>>().into_iter().map(Some).collect(),
            };
            for class in &classes {
                let mut rest = bytes / classes.len() as u64;
                while rest > 0 {
                    let size = rest.min(LIMITS.file_bytes);
                    rest -= size;
                    *next_id += 1;
                    left.push(File { id: *next_id, table: merge.table, date: merge.date, bytes: size, projects: Some((1, 6)), class: *class });
                }
            }
            left
        }

        proptest! {
            #[test]
            fn merges_come_to_an_end_and_days_that_are_over_end_as_few_files(mut files in files(), mixed: bool) {
                let kept_days: BTreeMap<i64, u16> = (1..7).map(|id| (id, if mixed && id % 2 == 0 { 30 } else { 90 })).collect();
                let total: u64 = files.iter().filter(|f| f.date < TODAY).map(|f| f.bytes).sum();
                let mut next_id = 1000;
                let mut merges = 0;
                while let Some(merge) = next_merge(&files, TODAY, &kept_days, LIMITS) {
                    prop_assert!(merge.files.len() <= FILES_MAX);
                    let unique: BTreeSet<i64> = merge.files.iter().copied().collect();
                    prop_assert_eq!(unique.len(), merge.files.len());
                    for id in &merge.files {
                        let file = files.iter().find(|f| f.id == *id).unwrap();
                        prop_assert_eq!((file.table, file.date), (merge.table, merge.date));
                    }
                    files = after(&files, &merge, &mut next_id, &kept_days);
                    merges += 1;
                    prop_assert!(merges < 500, "merging does not end");
                }
                let over = files.iter().filter(|f| f.date < TODAY).count() as u64;
                // Files of at least half the target size, and one small one for each of two days and two kinds.
                prop_assert!(over <= total / (LIMITS.file_bytes / 2) + 4, "{} files of {} bytes", over, total);
                let of_today = files.iter().filter(|f| f.date == TODAY && f.bytes < LIMITS.file_bytes / 2).count();
                prop_assert!(of_today < FILES_OF_A_SIZE * 6);
            }
        }
    }
}
