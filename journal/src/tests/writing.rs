//! Appending: positions, batches, segments, bounds, the end.

use super::*;

#[test]
fn records_come_back_as_they_were_over_real_files() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new(dir.path().join("a").join("journal"));
    let (journal, opened) = Segments::open(options.clone()).unwrap();
    assert_eq!(opened, Opened { segments: 0, start: 0, end: 0, torn: None, damages: Vec::new() });
    for id in 0..10 {
        assert_eq!(append(&journal, record(id, 100)), Ok(id));
    }
    drop(journal);
    let (journal, opened) = Segments::open(options).unwrap();
    assert_eq!(opened, Opened { segments: 1, start: 0, end: 10, torn: None, damages: Vec::new() });
    for (id, entry) in (0..).zip(read_all(&journal, 0, 1 << 20).unwrap()) {
        let Entry::Record { position, record: read, .. } = entry else { panic!("record {id} is damaged") };
        assert_eq!((position, read.as_ref()), (Position { partition: 0, offset: id }, &record(id, 100)));
    }
    assert_eq!(append(&journal, record(10, 0)), Ok(10));
    assert_eq!(journal.end(), 11);
}

#[test]
fn appends_that_wait_together_are_synced_together() {
    let disk = Faulty::new();
    let (journal, _) = open(options(), &disk);
    append(&journal, record(0, 0)).unwrap();
    let before = disk.calls();
    // The first batch is what the writer finds first; while it is written, all others gather.
    let guard = disk.hold();
    let held = std::thread::spawn({
        let journal = journal.clone();
        move || append_all(&journal, (1..=1000).map(|id| record(id, 50)))
    });
    journal.until_handed_over((1..=1000).map(|id| record(id, 50)));
    drop(guard);
    let mut offsets: Vec<u64> = held.join().unwrap().into_iter().map(Result::unwrap).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (1..=1000).collect::<Vec<_>>());
    let after = disk.calls();
    assert!(after.syncs - before.syncs <= 2, "{} syncs", after.syncs - before.syncs);
    assert_eq!(after.writes - before.writes, after.syncs - before.syncs);
    assert_eq!(after.directory_syncs, before.directory_syncs);
}

#[test]
fn a_segment_that_is_full_is_followed_by_another() {
    let disk = Faulty::new();
    let size = frame_bytes(&record(0, 100)) as u64;
    let (journal, _) = open(Options { segment_bytes_max: HEADER_BYTES + 3 * size, ..without_tail() }, &disk);
    fill(&journal, 0..8, 100);
    append(&journal, record(8, 5000)).unwrap();
    append(&journal, record(9, 100)).unwrap();
    let lengths: Vec<_> = [0, 3, 6, 8, 9].into_iter().map(|base| disk.bytes(&segment::name(base)).map(|bytes| bytes.len() as u64)).collect();
    let large = frame_bytes(&record(8, 5000)) as u64;
    assert_eq!(lengths, [3 * size, 3 * size, 2 * size, large, size].map(|frames| Some(HEADER_BYTES + frames)));
    let status = journal.status();
    assert_eq!((status.segments, status.bytes), (5, 5 * HEADER_BYTES + 9 * size + large));
    let expected: Vec<_> = (0..10).map(|id| Short::Record(id, id)).collect();
    for bytes_max in [1, 700, 1 << 20] {
        assert_eq!(short(&read_all(&journal, 0, bytes_max).unwrap()), expected);
    }
}

#[test]
fn a_batch_is_parted_where_a_segment_ends() {
    let disk = Faulty::new();
    let size = frame_bytes(&record(100, 100)) as u64;
    let (journal, _) = open(Options { segment_bytes_max: HEADER_BYTES + 10 * size, ..without_tail() }, &disk);
    assert!(append_all(&journal, (100..195).map(|id| record(id, 100))).iter().all(Result::is_ok));
    let status = journal.status();
    assert_eq!((status.segments, status.bytes), (10, 10 * HEADER_BYTES + 95 * size));
    assert_eq!(read_all(&journal, 0, 1 << 20).unwrap().len(), 95);
}

#[test]
fn a_full_journal_refuses_without_touching_the_disk_and_takes_more_after_truncation() {
    let disk = Faulty::new();
    let size = frame_bytes(&record(10, 100)) as u64;
    let max = 10 * (HEADER_BYTES + size);
    let (journal, _) = open(Options { segment_bytes_max: HEADER_BYTES + 2 * size, journal_bytes_max: max, ..options() }, &disk);
    let results = append_all(&journal, (10..90).map(|id| record(id, 100)));
    assert!(results.iter().any(Result::is_ok));
    let refused = results.into_iter().find_map(Result::err).unwrap();
    assert!(matches!(refused, AppendError::Full { max: stated, .. } if stated == max), "{refused}");
    assert!(refused.retry_later());
    while append(&journal, record(90, 100)).is_ok() {}
    let before = disk.calls();
    assert!(matches!(append(&journal, record(91, 100)), Err(AppendError::Full { .. })));
    assert_eq!(disk.calls(), before);
    let status = journal.status();
    assert!(status.bytes <= max && status.bytes + 2 * HEADER_BYTES + size > max, "{status:?}");
    assert!(!status.healthy && status.error.unwrap().contains("full"));
    assert!(journal.truncate_before(journal.end()).unwrap() > 0);
    assert!(journal.status().healthy);
    append(&journal, record(92, 100)).unwrap();
}

#[test]
fn a_record_that_never_fits_is_refused_for_good() {
    let (journal, _) = open(Options { journal_bytes_max: 1000, ..options() }, &Faulty::new());
    let error = append(&journal, record(0, 2000)).unwrap_err();
    assert!(matches!(error, AppendError::TooLarge { max: 912, .. }), "{error}");
    assert!(!error.retry_later());
    assert_eq!(append(&journal, record(0, 500)), Ok(0));
}

#[test]
fn a_record_larger_than_the_queue_waits_until_it_is_alone() {
    let (journal, _) = open(options(), &Faulty::new());
    let results = append_all(&journal, (0..4).map(|id| record(id, 40 << 20)).chain([record(4, 80 << 20)]));
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(journal.end(), 5);
}

#[test]
fn a_closed_journal_takes_no_more_and_is_read_on() {
    let disk = Faulty::new();
    let (journal, _) = open(options(), &disk);
    append(&journal, record(0, 10)).unwrap();
    let hold = disk.hold();
    let waiting = std::thread::spawn({
        let journal = journal.clone();
        move || append_all(&journal, (1..5).map(|id| record(id, 10)))
    });
    journal.until_handed_over((1..5).map(|id| record(id, 10)));
    let closing = std::thread::spawn({
        let journal = journal.clone();
        move || journal.close()
    });
    drop(hold);
    closing.join().unwrap();
    assert!(waiting.join().unwrap().iter().all(Result::is_ok), "what waited is written");
    assert_eq!(append(&journal, record(9, 10)), Err(AppendError::Closed));
    journal.close();
    assert_eq!(read_all(&journal, 0, 1 << 20).unwrap().len(), 5);
    drop(journal);
    assert_eq!(open(options(), &disk).1.end, 5);
}

#[test]
fn a_segment_begun_on_request_lets_everything_before_it_go() {
    let disk = Faulty::new();
    let (journal, _) = open(options(), &disk);
    for id in 0..5 {
        append(&journal, record(id, 10)).unwrap();
    }
    assert_eq!(journal.truncate_before(5).unwrap(), 0, "the segment that is written stays");
    journal.begin_segment();
    for id in 5..7 {
        append(&journal, record(id, 10)).unwrap();
    }
    assert_eq!(journal.status().segments, 2, "one request begins one segment");
    assert!(journal.truncate_before(6).unwrap() > 0);
    assert_eq!((journal.start(), journal.end(), journal.status().segments), (5, 7, 1));
}
