//! Wrong bytes: torn tails are cut, damage is reported and passed over, nothing wrong is served.

use super::*;
use crate::Place;
use crate::segment::FORMAT;

/// Three records of one byte more each.
fn records() -> Vec<Record> {
    (0..3).map(|id| record(id, 20 + id as usize)).collect()
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_the_rest_goes_on() {
    let records = records();
    let (bytes, begins) = segment_of(&records);
    for length in begins[2]..begins[3] {
        for zeros in [false, true] {
            let mut torn = bytes[..length].to_vec();
            if zeros {
                torn.resize(bytes.len() + 100, 0);
            }
            let dropped = torn.len() - begins[2];
            let disk = disk_with(torn);
            let (journal, opened) = open(without_tail(), &disk);
            assert_eq!(opened.end, 2, "{length} bytes");
            assert_eq!(
                opened.torn.as_ref().map(|torn| (torn.byte, torn.bytes_dropped)),
                (dropped > 0).then_some((begins[2] as u64, dropped as u64)),
                "{length} bytes"
            );
            assert_eq!(opened.damages, []);
            assert_eq!(disk.bytes(&segment::name(0)).unwrap().len(), begins[2]);
            assert_eq!(append(&journal, record(9, 5)), Ok(2));
            assert_eq!(short(&read_all(&journal, 0, 1 << 20).unwrap()), [Short::Record(0, 0), Short::Record(1, 1), Short::Record(2, 9)]);
        }
    }
}

#[test]
fn a_wrong_bit_anywhere_loses_the_record_it_is_in_and_no_other() {
    let records = records();
    let (bytes, begins) = segment_of(&records);
    for bit in begins[1] * 8..begins[2] * 8 {
        let mut wrong = bytes.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let disk = disk_with(wrong.clone());
        let (journal, opened) = open(without_tail(), &disk);
        assert_eq!((opened.end, &opened.torn), (3, &None), "bit {bit}");
        let [damage] = &opened.damages[..] else { panic!("bit {bit}: {:?}", opened.damages) };
        let Place::Segment { file, byte } = &damage.place else { panic!("a segment: {damage}") };
        assert_eq!((damage.position.offset, damage.next_offset, *byte), (1, 2, begins[1] as u64), "bit {bit}");
        assert!(file.ends_with(segment::name(0)) && !damage.reason.is_empty());
        let read = short(&read_all(&journal, 0, 1 << 20).unwrap());
        assert_eq!(read, [Short::Record(0, 0), Short::Lost(1, 2), Short::Record(2, 2)], "bit {bit}");
        assert_eq!(journal.status().damages, opened.damages, "it is reported once");
        assert_eq!(disk.bytes(&segment::name(0)).unwrap(), wrong, "damage is kept as it is");
    }
}

#[test]
fn a_reader_may_begin_within_a_damage() {
    let (mut bytes, begins) = segment_of(&(0..5).map(|id| record(id, 30)).collect::<Vec<_>>());
    bytes[begins[1]..begins[4]].fill(0xaa);
    let (journal, opened) = open(without_tail(), &disk_with(bytes));
    assert_eq!(opened.damages.len(), 1);
    let check = |from: u64, expected: &[Short]| assert_eq!(short(&read_all(&journal, from, 1).unwrap()), expected, "from {from}");
    check(0, &[Short::Record(0, 0), Short::Lost(1, 4), Short::Record(4, 4)]);
    check(1, &[Short::Lost(1, 4), Short::Record(4, 4)]);
    check(2, &[Short::Lost(1, 4), Short::Record(4, 4)]);
    check(4, &[Short::Record(4, 4)]);
}

#[test]
fn damage_of_earlier_segments_is_found_when_they_are_read() {
    let size = frame_bytes(&record(10, 30)) as u64;
    let filled = || {
        let disk = Faulty::new();
        let (journal, _) = open(Options { segment_bytes_max: HEADER_BYTES + 3 * size, ..options() }, &disk);
        fill(&journal, 10..19, 30);
        disk
    };
    let check = |what: &str, change: &dyn Fn(&mut Vec<u8>), lost: (u64, u64)| {
        let disk = filled();
        let mut bytes = disk.bytes(&segment::name(3)).unwrap();
        change(&mut bytes);
        disk.put(&segment::name(3), bytes);
        let (journal, opened) = open(without_tail(), &disk);
        assert_eq!((opened.end, opened.damages.len()), (9, 0), "{what}");
        let mut expected: Vec<_> = (0..9).filter(|id| !(lost.0..lost.1).contains(id)).map(|id| Short::Record(id, id + 10)).collect();
        expected.insert(lost.0 as usize, Short::Lost(lost.0, lost.1));
        assert_eq!(short(&read_all(&journal, 0, 1 << 20).unwrap()), expected, "{what}");
        assert_eq!(journal.status().damages.len(), 1, "{what}");
    };
    let at = |frame: u64| (HEADER_BYTES + frame * size) as usize;
    check("one payload", &|bytes| bytes[at(1) + HEAD_BYTES + 5] ^= 1, (4, 5));
    check("two heads", &|bytes| bytes[at(0)..at(1) + 4].fill(0), (3, 5));
    check("the end is gone", &|bytes| bytes.truncate(at(2) + 7), (5, 6));
    check("everything is gone", &|bytes| bytes.clear(), (3, 6));
    check("header and first record", &|bytes| bytes[..at(0) + 8].fill(0), (3, 6));
}

#[test]
fn a_missing_segment_is_a_gap() {
    let disk = Faulty::new();
    let size = frame_bytes(&record(10, 30)) as u64;
    let (journal, _) = open(Options { segment_bytes_max: HEADER_BYTES + 3 * size, ..options() }, &disk);
    fill(&journal, 10..19, 30);
    drop(journal);
    let left = Faulty::new();
    [0, 6].into_iter().for_each(|base| left.put(&segment::name(base), disk.bytes(&segment::name(base)).unwrap()));
    let (journal, _) = open(without_tail(), &left);
    let read = short(&read_all(&journal, 0, 1 << 20).unwrap());
    assert_eq!(read[2..5], [Short::Record(2, 12), Short::Lost(3, 6), Short::Record(6, 16)]);
}

#[test]
fn a_damaged_header_costs_nothing_while_the_first_record_is_whole() {
    let (mut bytes, _) = segment_of(&records());
    bytes[..HEADER_BYTES as usize].fill(0);
    let disk = disk_with(bytes);
    let (journal, opened) = open(without_tail(), &disk);
    assert_eq!((opened.end, opened.damages.len()), (3, 0));
    assert_eq!(append(&journal, record(3, 5)), Ok(3));
    assert_eq!(short(&read_all(&journal, 0, 1 << 20).unwrap()), (0..4).map(|id| Short::Record(id, id)).collect::<Vec<_>>());
    assert!(disk.bytes(&segment::name(3)).is_some(), "another segment is begun");
}

#[test]
fn an_unreadable_last_segment_is_reported_and_its_offsets_are_not_used_again() {
    let (mut bytes, begins) = segment_of(&records());
    bytes[..begins[1]].fill(0);
    let disk = disk_with(bytes);
    let (journal, opened) = open(without_tail(), &disk);
    assert!(opened.end >= 3, "{}", opened.end);
    assert_eq!(opened.damages.len(), 1);
    let end = opened.end;
    assert_eq!(append(&journal, record(7, 5)), Ok(end));
    let expected = [Short::Lost(0, end), Short::Record(end, 7)];
    assert_eq!(short(&read_all(&journal, 0, 1 << 20).unwrap()), expected);
    drop(journal);
    let (journal, _) = open(without_tail(), &disk);
    assert_eq!(short(&read_all(&journal, 0, 1 << 20).unwrap()), expected);
}

#[test]
fn a_segment_that_was_only_being_made_says_where_the_records_before_it_end() {
    let (bytes, _) = segment_of(&records());
    for length in 0..HEADER_BYTES as usize {
        // The third record was written to the first segment by an append that failed and could not be cut off.
        let disk = disk_with(bytes.clone());
        disk.put(&segment::name(2), vec![0; length]);
        let (journal, opened) = open(without_tail(), &disk);
        assert_eq!((opened.end, opened.damages.len()), (2, 0));
        assert_eq!(append(&journal, record(9, 5)), Ok(2));
        assert_eq!(short(&read_all(&journal, 0, 1 << 20).unwrap()), [Short::Record(0, 0), Short::Record(1, 1), Short::Record(2, 9)]);
    }
}

#[test]
fn frames_inside_a_body_are_not_taken_for_records() {
    let (inner, begins) = segment_of(&(0..4).map(|id| record(100 + id, 10)).collect::<Vec<_>>());
    let mut outer = record(1, 0);
    let Content::Intake(intake) = &mut outer.content else { panic!("an intake") };
    intake.body = Some(Body::identity(Bytes::from(inner[begins[2]..].to_vec())));
    let (mut bytes, begins) = segment_of(&[record(0, 10), outer, record(2, 10)]);
    bytes[begins[1]] ^= 1;
    let (journal, _) = open(without_tail(), &disk_with(bytes));
    assert_eq!(short(&read_all(&journal, 0, 1 << 20).unwrap()), [Short::Record(0, 0), Short::Lost(1, 2), Short::Record(2, 2)]);
}

#[test]
fn a_newer_format_is_refused_in_words() {
    let (mut bytes, _) = segment_of(&records());
    bytes[8..12].copy_from_slice(&(FORMAT + 1).to_le_bytes());
    let crc = crc32fast::hash(&bytes[..12]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    let disk = disk_with(bytes.clone());
    let error = Segments::open_with(options(), Arc::new(disk.clone())).unwrap_err();
    assert!(matches!(&error, JournalError::Newer { found, .. } if *found == FORMAT + 1), "{error}");
    assert!(error.to_string().contains("00000000000000000000.seg has format 2"), "{error}");
    assert_eq!(disk.bytes(&segment::name(0)).unwrap(), bytes, "it is not touched");
}

#[test]
fn a_frame_that_holds_no_record_is_damage_and_one_of_a_newer_version_is_an_error() {
    let make = |payload: &[u8]| {
        let mut bytes = segment::header(0, 5);
        for (offset, payload) in [(0, record(0, 9).encode()), (1, Bytes::copy_from_slice(payload)), (2, record(2, 9).encode())] {
            crate::frame::Head { length: payload.len() as u32, offset, payload_crc: crc32fast::hash(&payload) }.write(5, &mut bytes);
            bytes.extend_from_slice(&payload);
        }
        open(without_tail(), &disk_with(bytes)).0
    };
    let journal = make(b"no record");
    assert_eq!(short(&read_all(&journal, 0, 1 << 20).unwrap()), [Short::Record(0, 0), Short::Lost(1, 2), Short::Record(2, 2)]);
    let journal = make(b"{\"v\":9,\"received_ms\":1}\n");
    let mut reader = journal.reader(0);
    assert_eq!(short(&reader.read(1 << 20).unwrap()), [Short::Record(0, 0)], "what was read before goes out");
    for _ in 0..2 {
        assert!(matches!(reader.read(1 << 20), Err(JournalError::NewerRecord { offset: 1, .. })));
        assert_eq!(reader.offset(), 1);
    }
}
