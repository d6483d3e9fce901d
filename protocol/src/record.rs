//! One entry of the journal: a line of JSON that says what it is, then the body as it was received.
//!
//! The line makes a record readable by eye and lets fields be added; unknown fields are ignored, missing ones have defaults.
//! The body stays in the encoding that the SDK chose: `docs/adr/0002-journal-keeps-bodies-as-received.md` has the figures.

use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::deletion::{Deletion, Erased};
use crate::encoding::{DecodeError, Encoding};
use crate::ids::{EventId, KeyId, OrgId, ProjectId};
use crate::limits::ENVELOPE_BYTES_MAX;
use crate::outcome::OutcomeCount;

/// The place of a record in the journal. Records of one partition are numbered from 0 without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The partition; the embedded journal has one, number 0.
    pub partition: u16,
    /// The number of the record in its partition.
    pub offset: u64,
}

impl Position {
    /// One signed integer that orders positions: the `seq` column of every table.
    pub fn seq(self) -> i64 {
        (i64::from(self.partition & 0x7fff) << 48) | (self.offset & 0xffff_ffff_ffff) as i64
    }
}

/// What the journal holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// When it was received, in Unix milliseconds.
    pub received_ms: u64,
    /// What was received.
    pub content: Content,
}

/// The kinds of record.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A request of an SDK: what was kept of it and what was refused.
    Intake(Box<Intake>),
    /// A project that the graph has to know.
    Project(Project),
    /// Something that somebody wants to be deleted.
    Deletion(Box<Deletion>),
    /// A deletion that was carried out.
    Erased(Box<Erased>),
}

/// A project as its rows carry it. A slug never changes once given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// The organisation.
    pub org_id: OrgId,
    /// The project.
    pub project_id: ProjectId,
    /// Its short name.
    pub slug: String,
    /// Days that its rows are kept.
    pub retention_days: u16,
}

/// A request of an SDK.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intake {
    /// The project that it was sent to.
    pub project: Project,
    /// The key that it was authenticated with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<KeyId>,
    /// The address of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<IpAddr>,
    /// The `User-Agent` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// `sentry_client` of the authentication, `name/version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The event that the items belong to: the header's, else the payload's, else one given at the door.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<EventId>,
    /// How the items ended that the door refused or that nothing consumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<OutcomeCount>,
    /// The envelope with the items that were kept.
    #[serde(skip)]
    pub body: Option<Body>,
}

/// An envelope in the encoding in which it is stored.
#[derive(Debug, Clone)]
pub struct Body {
    encoding: Encoding,
    stored: Bytes,
    /// The same without the encoding, where it is at hand: a record that was just received need not be decompressed again.
    plain: Option<Bytes>,
    /// The length of the envelope without the encoding.
    plain_bytes: u64,
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.encoding == other.encoding && self.stored == other.stored
    }
}

impl Body {
    /// A body as received, with what came out when it was decompressed.
    pub fn received(encoding: Encoding, stored: Bytes, plain: Bytes) -> Self {
        Self { encoding, stored, plain_bytes: plain.len() as u64, plain: Some(plain) }
    }

    /// A body that is not compressed.
    pub fn identity(plain: Bytes) -> Self {
        Self { encoding: Encoding::Identity, stored: plain.clone(), plain_bytes: plain.len() as u64, plain: Some(plain) }
    }

    /// The envelope. It was decompressed once at the door within the same bound, so an error means damage.
    pub fn plain(&self) -> Result<Bytes, DecodeError> {
        match &self.plain {
            Some(plain) => Ok(plain.clone()),
            None => self.encoding.decode(&self.stored, ENVELOPE_BYTES_MAX),
        }
    }

    /// How many bytes it takes in memory, decompressed too: whoever reads it will.
    pub fn bytes_in_memory(&self) -> usize {
        self.stored.len() + if self.encoding == Encoding::Identity { 0 } else { self.plain_bytes as usize }
    }
}

/// Why bytes are no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The first line is not what a record begins with.
    #[error("not a journal record: {0}")]
    Malformed(String),
    /// A record of a later version of Weir.
    #[error("the record has format {0}, which this version of weir does not read; use the version that wrote it or a newer one")]
    Newer(u32),
}

/// How much longer a body is taken to be without its encoding where the record does not tell.
const UNTOLD_RATIO: u64 = 5;

/// The version of the record's form.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Head<I, P, D, E> {
    v: u32,
    received_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encoding: Option<Encoding>,
    /// The length of the body without its encoding; absent where it has none, and in records of before it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plain_bytes: Option<u64>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    intake: Option<I>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    project: Option<P>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    deletion: Option<D>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    erased: Option<E>,
}

fn none<T>() -> Option<T> {
    None
}

impl Record {
    /// The bytes of a record.
    pub fn encode(&self) -> Bytes {
        let mut head =
            Head { v: FORMAT, received_ms: self.received_ms, encoding: None, plain_bytes: None, intake: None, project: None, deletion: None, erased: None };
        let mut body = None;
        match &self.content {
            Content::Intake(intake) => {
                body = intake.body.as_ref();
                (head.intake, head.encoding) = (Some(intake.as_ref()), body.map(|b| b.encoding));
                head.plain_bytes = body.filter(|b| b.encoding != Encoding::Identity).map(|b| b.plain_bytes);
            }
            Content::Project(project) => head.project = Some(project),
            Content::Deletion(deletion) => head.deletion = Some(deletion.as_ref()),
            Content::Erased(erased) => head.erased = Some(erased.as_ref()),
        }
        let mut out = BytesMut::with_capacity(512 + body.map_or(0, |b| b.stored.len())).writer();
        serde_json::to_writer(&mut out, &head).expect("a record's head has only texts and numbers, and memory does not fail to be written");
        let mut out = out.into_inner();
        out.put_u8(b'\n');
        if let Some(body) = body {
            out.put_slice(&body.stored);
        }
        out.freeze()
    }

    /// Reads a record; the body shares the bytes.
    pub fn decode(bytes: &Bytes) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }

        let end = bytes.iter().position(|&c| c == b'\n').ok_or_else(|| RecordError::Malformed("no line feed".to_owned()))?;
        let malformed = |e: serde_json::Error| RecordError::Malformed(e.to_string());
        let head: Head<Intake, Project, Box<Deletion>, Box<Erased>> = match serde_json::from_slice(&bytes[..end]) {
            Ok(head) => head,
            Err(error) => match serde_json::from_slice::<Version>(&bytes[..end]) {
                Ok(Version { v }) if v > FORMAT => return Err(RecordError::Newer(v)),
                _ => return Err(malformed(error)),
            },
        };
        if head.v > FORMAT {
            return Err(RecordError::Newer(head.v));
        }
        let content = match (head.intake, head.project, head.deletion, head.erased) {
            (Some(mut intake), None, None, None) => {
                let stored = bytes.slice(end + 1..);
                let plain_bytes = head.plain_bytes.unwrap_or(stored.len() as u64 * UNTOLD_RATIO).min(ENVELOPE_BYTES_MAX as u64);
                intake.body = head.encoding.map(|encoding| Body { encoding, stored, plain: None, plain_bytes });
                Content::Intake(Box::new(intake))
            }
            (None, Some(project), None, None) => Content::Project(project),
            (None, None, Some(deletion), None) => Content::Deletion(deletion),
            (None, None, None, Some(erased)) => Content::Erased(erased),
            _ => return Err(RecordError::Malformed("not one of intake, project, deletion and erased".to_owned())),
        };
        Ok(Self { received_ms: head.received_ms, content })
    }

    /// How many bytes it takes in memory, about.
    pub fn bytes_in_memory(&self) -> usize {
        let body = match &self.content {
            Content::Intake(intake) => intake.body.as_ref().map_or(0, Body::bytes_in_memory),
            Content::Project(_) | Content::Deletion(_) | Content::Erased(_) => 0,
        };
        size_of::<Self>() + size_of::<Intake>() + 256 + body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deletion::{Correction, Target, UserRef};
    use crate::outcome::Outcome;

    fn project() -> Project {
        Project { org_id: 1, project_id: 7, slug: "shop".to_owned(), retention_days: 90 }
    }

    #[test]
    fn records_come_back_as_they_were() {
        let check = |record: Record| assert_eq!(Record::decode(&record.encode()), Ok(record));
        check(Record { received_ms: 1, content: Content::Project(project()) });
        let deletion = Deletion { project: project(), target: Target::User(UserRef::Any("a\n@b".to_owned())), now: true };
        check(Record { received_ms: 1, content: Content::Deletion(Box::new(deletion)) });
        let correction = Correction { group_id: -3, events: 2, users: vec![7], first_seen_ms: Some((1, 2)), last_seen_ms: None, shown: None };
        let erased = Erased { project: project(), deletion_seq: 5, corrections: vec![correction] };
        check(Record { received_ms: 1, content: Content::Erased(Box::new(erased)) });
        let mut intake = Intake {
            project: project(),
            key_id: Some(3),
            client_ip: "::1".parse().ok(),
            user_agent: Some("agent \"quoted\"".to_owned()),
            client: None,
            event_id: Some(EventId([7; 16])),
            outcomes: vec![OutcomeCount {
                outcome: Outcome::Invalid,
                reason: Some("unsupported:session".to_owned()),
                category: 5,
                quantity: 1,
                event_id: None,
            }],
            body: None,
        };
        check(Record { received_ms: 2, content: Content::Intake(Box::new(intake.clone())) });
        let plain = Bytes::from_static(b"{}\n{\"type\":\"event\"}\n{}\n");
        intake.body = Some(Body::received(Encoding::Zstd, zstd::stream::encode_all(&plain[..], 1).unwrap().into(), plain.clone()));
        let record = Record { received_ms: 3, content: Content::Intake(Box::new(intake)) };
        check(record.clone());
        let Content::Intake(back) = Record::decode(&record.encode()).unwrap().content else { panic!("an intake") };
        assert_eq!(back.body.unwrap().plain().unwrap(), plain);
    }

    #[test]
    fn what_is_no_record_is_said() {
        assert!(matches!(Record::decode(&Bytes::from_static(b"{}")), Err(RecordError::Malformed(_))));
        assert!(matches!(Record::decode(&Bytes::from_static(b"{}\n")), Err(RecordError::Malformed(_))));
        assert_eq!(Record::decode(&Bytes::from_static(b"{\"v\":9,\"received_ms\":{}}\n")), Err(RecordError::Newer(9)));
    }
}
