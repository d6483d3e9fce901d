//! Reading: from memory and from files, bounds, waiting, truncation.

use std::time::Duration;

use super::*;

fn filled(options: Options, disk: &Faulty, count: u64) -> Segments {
    let (journal, _) = open(options, disk);
    for id in 0..count {
        append(&journal, record(id, (id as usize * 37) % 400)).unwrap();
    }
    journal
}

#[test]
fn memory_and_files_give_the_same_entries() {
    let disk = Faulty::new();
    let journal = filled(Options { segment_bytes_max: 3000, ..options() }, &disk, 60);
    let reads_before = disk.calls().reads;
    let from_memory = read_all(&journal, 0, 4000).unwrap();
    assert_eq!(disk.calls().reads, reads_before, "the newest records are not read again");
    drop(journal);
    let check = |options: Options| {
        let (journal, _) = open(options, &disk);
        for from in [0, 1, 17, 59, 60] {
            for bytes_max in [0, 1500, 1 << 30] {
                let read = read_all(&journal, from, bytes_max).unwrap();
                assert_eq!(read, from_memory[from as usize..], "from {from}, {bytes_max} bytes at a time");
            }
        }
    };
    check(options());
    check(without_tail());
}

#[test]
fn a_reader_goes_between_files_and_memory_as_records_leave_it() {
    let disk = Faulty::new();
    let size = record(0, 0).bytes_in_memory();
    let (journal, _) = open(Options { segment_bytes_max: 2000, tail_bytes_max: 3 * size, ..options() }, &disk);
    let mut reader = journal.reader(0);
    let mut read = Vec::new();
    for (round, burst) in [1, 2, 8, 3, 20, 1, 1, 15].into_iter().enumerate() {
        for id in journal.end()..journal.end() + burst {
            append(&journal, record(id, 0)).unwrap();
        }
        // In some rounds it falls behind, in others it catches up.
        let answers = if round % 3 == 0 { 1 } else { 100 };
        for _ in 0..answers {
            read.extend(reader.read(2 * size).unwrap());
        }
    }
    read.extend(reader.read(1 << 30).unwrap());
    assert_eq!(short(&read), (0..51).map(|id| Short::Record(id, id)).collect::<Vec<_>>());
}

#[test]
fn an_answer_keeps_to_its_bound_but_has_one_entry_at_least() {
    let disk = Faulty::new();
    let size = record(0, 100).bytes_in_memory();
    for options in [options(), without_tail()] {
        let disk = disk.clone();
        let (journal, _) = open(options, &disk);
        fill(&journal, 0..10, 100);
        let start = journal.end() - 10;
        let check = |bytes_max: usize, expected: usize| assert_eq!(journal.reader(start).read(bytes_max).unwrap().len(), expected, "{bytes_max}");
        check(0, 1);
        check(size, 1);
        check(3 * size - 1, 2);
        check(3 * size, 3);
        check(usize::MAX, 10);
    }
}

#[test]
fn a_reader_waits_for_what_is_durable() {
    let disk = Faulty::new();
    let (journal, _) = open(options(), &disk);
    let mut reader = journal.reader(0);
    assert!(!reader.wait(Duration::ZERO));
    assert_eq!(reader.read(1 << 20).unwrap(), []);
    let hold = disk.hold();
    let appending = std::thread::spawn({
        let journal = journal.clone();
        move || append(&journal, record(0, 10))
    });
    assert!(!reader.wait(Duration::from_millis(5)), "nothing is durable yet");
    drop(hold);
    assert!(reader.wait(Duration::from_secs(60)));
    assert_eq!(short(&reader.read(1 << 20).unwrap()), [Short::Record(0, 0)]);
    appending.join().unwrap().unwrap();
    assert!(!journal.reader(5).wait(Duration::ZERO), "an offset that lies ahead");
}

#[test]
fn truncation_drops_whole_segments_and_says_what_is_gone() {
    let disk = Faulty::new();
    let size = frame_bytes(&record(10, 100)) as u64;
    let segment = HEADER_BYTES + 3 * size;
    let (journal, _) = open(Options { segment_bytes_max: segment, ..without_tail() }, &disk);
    fill(&journal, 10..20, 100);
    let mut late = journal.reader(0);
    late.read(0).unwrap();
    let check = |offset: u64, freed: u64, start: u64| {
        assert_eq!(journal.truncate_before(offset).unwrap(), freed, "before {offset}");
        assert_eq!(journal.start(), start, "before {offset}");
    };
    check(2, 0, 0);
    check(3, segment, 3);
    check(8, segment, 6);
    check(8, 0, 6);
    check(1000, segment, 9);
    assert_eq!(short(&late.read(1 << 20).unwrap()), [Short::Record(1, 11)], "it had been read with the one before it");
    let error = late.read(1 << 20).unwrap_err();
    assert!(matches!(error, JournalError::Truncated { wanted: 2, start: 9, end: 10 }), "{error}");
    assert!(matches!(journal.reader(8).read(1), Err(JournalError::Truncated { wanted: 8, .. })));
    assert_eq!(short(&read_all(&journal, 9, 1).unwrap()), [Short::Record(9, 19)]);
    assert_eq!(journal.status().bytes, HEADER_BYTES + size);
    drop(journal);
    let (journal, opened) = open(without_tail(), &disk);
    assert_eq!((opened.segments, opened.start, opened.end), (1, 9, 10));
    assert_eq!(append(&journal, record(20, 0)), Ok(10));
}
