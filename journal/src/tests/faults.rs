//! Storage that fails: exactly the appends concerned fail, nothing is lost, and it goes on by itself.

use super::*;

/// Everything acknowledged is there, nothing else, and a start finds the same.
fn check_whole(journal: Segments, disk: &Faulty, acknowledged: &[u64]) {
    let expected: Vec<_> = (0..).zip(acknowledged).map(|(offset, id)| Short::Record(offset, *id)).collect();
    assert_eq!(short(&read_all(&journal, 0, 1 << 20).unwrap()), expected);
    let end = journal.end();
    drop(journal);
    let (journal, opened) = open(without_tail(), disk);
    assert_eq!((opened.end, opened.damages), (end, Vec::new()));
    assert_eq!(short(&read_all(&journal, 0, 1 << 20).unwrap()), expected);
}

#[test]
fn a_full_disk_refuses_and_is_used_again_when_space_returns() {
    for failing_truncates in [0, 1] {
        for short_write in [0, 1, 30, 100] {
            let disk = Faulty::new();
            let (journal, _) = open(without_tail(), &disk);
            append(&journal, record(1, 200)).unwrap();
            let used = disk.bytes(&segment::name(0)).unwrap().len() as u64;
            disk.set_capacity(Some(used + short_write));
            disk.fail_truncates(failing_truncates);
            let error = append(&journal, record(2, 200)).unwrap_err();
            assert!(matches!(&error, AppendError::Storage { reason } if reason.contains("00000000000000000000.seg")), "{error}");
            assert!(error.retry_later());
            assert!(append(&journal, record(3, 200)).is_err());
            let status = journal.status();
            assert_eq!((status.healthy, status.error.is_some(), status.ends[&0]), (false, true, 1));
            disk.set_capacity(None);
            assert_eq!(append(&journal, record(4, 200)), Ok(1));
            assert!(journal.status().healthy);
            assert_eq!(append(&journal, record(5, 200)), Ok(2));
            check_whole(journal, &disk, &[1, 4, 5]);
        }
    }
}

#[test]
fn a_segment_whose_sync_failed_is_not_written_any_more() {
    for failing_truncates in [0, 1] {
        for before in [0, 2] {
            let disk = Faulty::new();
            let (journal, _) = open(without_tail(), &disk);
            // The first append makes the segment; the second sync of the batch is the one that fails.
            append(&journal, record(0, 50)).unwrap();
            fill(&journal, 1..before + 1, 50);
            disk.fail_syncs(1);
            disk.fail_truncates(failing_truncates);
            assert!(matches!(append(&journal, record(9, 50)), Err(AppendError::Storage { .. })));
            let first = disk.bytes(&segment::name(0)).unwrap();
            assert_eq!(append(&journal, record(10, 50)), Ok(before + 1));
            assert_eq!(disk.bytes(&segment::name(0)).unwrap(), first);
            assert!(disk.bytes(&segment::name(before + 1)).is_some());
            let acknowledged: Vec<u64> = (0..=before).chain([10]).collect();
            check_whole(journal, &disk, &acknowledged);
            // What the failed sync lost stays lost when the power goes.
            let after = disk.after_power_cut(|_| 0);
            let (journal, opened) = open(without_tail(), &after);
            assert_eq!(opened.damages, []);
            assert_eq!(read_all(&journal, 0, 1 << 20).unwrap().len(), acknowledged.len());
        }
    }
}

#[test]
fn a_new_segment_that_cannot_be_synced_is_begun_again() {
    let disk = Faulty::new();
    let (journal, _) = open(without_tail(), &disk);
    disk.fail_syncs(1);
    assert!(append(&journal, record(1, 50)).is_err(), "the header");
    assert_eq!(append(&journal, record(2, 50)), Ok(0));
    drop(journal);
    let disk = Faulty::new();
    let (journal, _) = open(without_tail(), &disk);
    append(&journal, record(1, 50)).unwrap();
    for failures in 1..4 {
        disk.fail_syncs(failures);
        for _ in 0..failures {
            assert!(append(&journal, record(2, 50)).is_err());
        }
        append(&journal, record(3, 50)).unwrap();
    }
    let status = journal.status();
    assert_eq!(status.segments, 4, "a segment without records is replaced");
    check_whole(journal, &disk, &[1, 3, 3, 3]);
}

#[test]
fn exactly_the_batch_that_failed_fails() {
    let disk = Faulty::new();
    let (journal, _) = open(without_tail(), &disk);
    append(&journal, record(0, 50)).unwrap();
    let mut hold = disk.hold();
    let appending = std::thread::spawn({
        let journal = journal.clone();
        move || append_all(&journal, (1..=20).map(|id| record(id, 50)))
    });
    journal.until_handed_over((1..=20).map(|id| record(id, 50)));
    hold.fail_syncs(1);
    drop(hold);
    let results = appending.join().unwrap();
    let failed = results.iter().filter(|result| result.is_err()).count();
    let kept: Vec<u64> = (1..).zip(&results).filter(|(_, result)| result.is_ok()).map(|(id, _)| id).collect();
    assert!(failed > 0);
    assert_eq!(journal.end() as usize, 1 + kept.len());
    let acknowledged: Vec<u64> = [0].into_iter().chain(kept).collect();
    check_whole(journal, &disk, &acknowledged);
}

#[test]
fn an_idle_journal_finds_out_by_itself_that_it_can_be_written_again() {
    for cut in [true, false] {
        let disk = Faulty::new();
        let (journal, _) = open(options(), &disk);
        append(&journal, record(0, 50)).unwrap();
        disk.set_capacity(Some(disk.bytes(&segment::name(0)).unwrap().len() as u64));
        disk.fail_truncates(u32::from(!cut));
        assert!(append(&journal, record(1, 50)).is_err());
        assert!(!journal.status().healthy);
        disk.set_capacity(None);
        while !journal.status().healthy {
            std::thread::yield_now();
        }
        append(&journal, record(2, 50)).unwrap();
        check_whole(journal, &disk, &[0, 2]);
    }
}

#[test]
fn a_file_that_cannot_be_removed_is_tried_again() {
    let disk = Faulty::new();
    let (journal, _) = open(Options { segment_bytes_max: 1, ..without_tail() }, &disk);
    fill(&journal, 0..4, 50);
    disk.cut_power_after(1);
    assert!(matches!(journal.truncate_before(3), Err(JournalError::Storage { action: "remove", .. })));
    assert_eq!((journal.start(), journal.status().segments), (3, 3));
    disk.restore_power();
    assert!(journal.truncate_before(3).unwrap() > 0);
    assert_eq!((journal.start(), journal.status().segments), (3, 1));
}
