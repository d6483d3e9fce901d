//! Rows of the tables as values, and how they become Arrow batches.
//!
//! A row's fields are the table's columns under the same names; times carry their unit. Rows travel between the graph's
//! workers, so they are plain data.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayBuilder, ArrayRef, BooleanArray, BooleanBuilder, FixedSizeBinaryBuilder, Float64Array, Float64Builder, Int16Array, Int32Array, Int64Array,
    Int64Builder, ListArray, MapArray, RecordBatch, StringArray, StringBuilder, StructArray, TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields};
use serde::{Deserialize, Serialize};

use crate::schema::{self, Table};

/// A row of one table.
pub trait TableRow: Sized {
    /// The table's name.
    const TABLE: &'static str;

    /// The rows as a batch in the table's stored schema.
    fn batch(rows: &[Self]) -> RecordBatch;
}

/// The columns that every table begins with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Common {
    /// The organisation.
    pub org_id: i64,
    /// The project.
    pub project_id: i64,
    /// The project's slug.
    pub project: Arc<str>,
    /// When it was received, in Unix milliseconds.
    pub received_ms: i64,
    /// Days that the row is kept.
    pub retention_days: i16,
    /// Position in the journal.
    pub seq: i64,
}

/// Pairs of a map column, in their order.
pub type Pairs<V> = Vec<(String, V)>;

/// A row of `errors`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "crate::schema documents the columns")]
pub struct ErrorRow {
    pub common: Common,
    pub event_id: [u8; 16],
    pub group_id: i64,
    pub group_first_seen_ms: Option<i64>,
    pub primary_hash: [u8; 16],
    pub timestamp_ms: i64,
    pub type_: String,
    pub level: Option<String>,
    pub title: String,
    pub message: String,
    pub culprit: String,
    pub location: Option<String>,
    pub transaction_name: String,
    pub version: Option<String>,
    pub platform: String,
    pub environment: Option<String>,
    pub release: Option<String>,
    pub dist: Option<String>,
    pub trace_id: Option<[u8; 16]>,
    pub span_id: Option<String>,
    pub user_hash: Option<i64>,
    pub user: String,
    pub user_id: Option<String>,
    pub user_name: Option<String>,
    pub user_email: Option<String>,
    pub ip: Option<String>,
    pub sdk_name: String,
    pub sdk_version: String,
    pub tags: Pairs<Option<String>>,
    pub contexts: Pairs<Option<String>>,
    pub replay_id: Option<[u8; 16]>,
    pub trace_sampled: Option<bool>,
    pub sample_weight: Option<f64>,
    pub sdk_integrations: Vec<String>,
    pub http_method: Option<String>,
    pub http_referer: Option<String>,
    pub flags: Pairs<Option<String>>,
    pub modules: Pairs<Option<String>>,
    pub exceptions: Vec<ExceptionRow>,
    pub frames: Vec<FrameRow>,
    pub unhandled: bool,
    pub main_thread: Option<bool>,
    pub symbolicated_in_app: Option<bool>,
    pub num_processing_errors: i32,
}

/// An element of `errors.exceptions`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "crate::schema documents the columns")]
pub struct ExceptionRow {
    pub type_: Option<String>,
    pub value: Option<String>,
    pub mechanism_type: Option<String>,
    pub handled: Option<bool>,
}

/// An element of `errors.frames`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "crate::schema documents the columns")]
pub struct FrameRow {
    pub abs_path: Option<String>,
    pub filename: Option<String>,
    pub function: Option<String>,
    pub module: Option<String>,
    pub package: Option<String>,
    pub lineno: Option<i32>,
    pub colno: Option<i32>,
    pub in_app: Option<bool>,
    pub stack_level: i32,
}

/// A row of `issues`; columns that nothing fills yet are null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "crate::schema documents the columns")]
pub struct IssueRow {
    pub common: Common,
    pub group_id: i64,
    pub short_id: String,
    pub issue_type: i32,
    pub category: String,
    pub title: String,
    pub culprit: String,
    pub level: String,
    pub platform: String,
    pub status: String,
    pub substatus: Option<String>,
    pub priority: Option<i16>,
    pub first_seen_ms: i64,
    pub last_seen_ms: i64,
    pub times_seen: i64,
    pub user_count: i64,
    pub first_release: Option<String>,
}

/// The typed attributes of spans and logs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Attributes {
    /// Texts; lists and objects as JSON text.
    pub text: Pairs<String>,
    /// Floating-point numbers.
    pub number: Pairs<f64>,
    /// Whole numbers.
    pub integer: Pairs<i64>,
    /// Booleans.
    pub boolean: Pairs<bool>,
}

/// A row of `spans`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "crate::schema documents the columns")]
pub struct SpanRow {
    pub common: Common,
    pub trace_id: [u8; 16],
    pub span_id: String,
    pub parent_span_id: Option<String>,
    pub segment_id: String,
    pub is_segment: bool,
    pub transaction_name: String,
    pub op: String,
    pub category: Option<String>,
    pub description: String,
    pub status: String,
    pub start_us: i64,
    pub end_us: i64,
    pub duration_ms: f64,
    pub exclusive_ms: f64,
    pub environment: Option<String>,
    pub release: Option<String>,
    pub user_hash: Option<i64>,
    pub http_status: Option<i32>,
    pub measurements: Pairs<f64>,
    pub attributes: Attributes,
    pub client_sample_rate: f64,
    pub server_sample_rate: f64,
    pub sample_weight: f64,
    pub event_id: Option<[u8; 16]>,
    pub user: Option<String>,
    pub platform: Option<String>,
}

/// A row of `logs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "crate::schema documents the columns")]
pub struct LogRow {
    pub common: Common,
    pub log_id: [u8; 16],
    pub timestamp_us: i64,
    pub trace_id: Option<[u8; 16]>,
    pub span_id: Option<String>,
    pub severity: String,
    pub severity_number: i16,
    pub body: String,
    pub environment: Option<String>,
    pub release: Option<String>,
    pub attributes: Attributes,
}

/// A row of `outcomes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "crate::schema documents the columns")]
pub struct OutcomeRow {
    pub common: Common,
    pub key_id: Option<i64>,
    pub timestamp_ms: i64,
    pub outcome: i16,
    pub reason: Option<String>,
    pub category: i16,
    pub quantity: i64,
    pub event_id: Option<[u8; 16]>,
}

/// A row of `payloads`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "crate::schema documents the columns")]
pub struct PayloadRow {
    pub common: Common,
    pub event_id: [u8; 16],
    pub type_: String,
    pub payload: String,
    pub group_id: Option<i64>,
}

/// A row of `items`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "crate::schema documents the columns")]
pub struct ItemRow {
    pub common: Common,
    pub item_id: [u8; 16],
    pub type_: String,
    pub quantity: i64,
}

/// A row of `projects`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "crate::schema documents the columns")]
pub struct ProjectRow {
    pub common: Common,
}

impl TableRow for ErrorRow {
    const TABLE: &'static str = "errors";

    fn batch(rows: &[Self]) -> RecordBatch {
        let mut out = Batch::of(Self::TABLE, rows.iter().map(|r| &r.common));
        out.ids(rows.iter().map(|r| Some(&r.event_id)));
        out.i64(rows.iter().map(|r| Some(r.group_id)));
        out.ms(rows.iter().map(|r| r.group_first_seen_ms));
        out.ids(rows.iter().map(|r| Some(&r.primary_hash)));
        out.ms(rows.iter().map(|r| Some(r.timestamp_ms)));
        out.text(rows.iter().map(|r| Some(&r.type_)));
        out.text(rows.iter().map(|r| r.level.as_ref()));
        out.text(rows.iter().map(|r| Some(&r.title)));
        out.text(rows.iter().map(|r| Some(&r.message)));
        out.text(rows.iter().map(|r| Some(&r.culprit)));
        out.text(rows.iter().map(|r| r.location.as_ref()));
        out.text(rows.iter().map(|r| Some(&r.transaction_name)));
        out.text(rows.iter().map(|r| r.version.as_ref()));
        out.text(rows.iter().map(|r| Some(&r.platform)));
        out.text(rows.iter().map(|r| r.environment.as_ref()));
        out.text(rows.iter().map(|r| r.release.as_ref()));
        out.text(rows.iter().map(|r| r.dist.as_ref()));
        out.ids(rows.iter().map(|r| r.trace_id.as_ref()));
        out.text(rows.iter().map(|r| r.span_id.as_ref()));
        out.i64(rows.iter().map(|r| r.user_hash));
        out.text(rows.iter().map(|r| Some(&r.user)));
        out.text(rows.iter().map(|r| r.user_id.as_ref()));
        out.text(rows.iter().map(|r| r.user_name.as_ref()));
        out.text(rows.iter().map(|r| r.user_email.as_ref()));
        out.text(rows.iter().map(|r| r.ip.as_ref()));
        out.text(rows.iter().map(|r| Some(&r.sdk_name)));
        out.text(rows.iter().map(|r| Some(&r.sdk_version)));
        out.text_map(rows.iter().map(|r| &r.tags));
        out.text_map(rows.iter().map(|r| &r.contexts));
        out.ids(rows.iter().map(|r| r.replay_id.as_ref()));
        out.bool(rows.iter().map(|r| r.trace_sampled));
        out.f64(rows.iter().map(|r| r.sample_weight));
        out.text_list(rows.iter().map(|r| &r.sdk_integrations));
        out.text(rows.iter().map(|r| r.http_method.as_ref()));
        out.text(rows.iter().map(|r| r.http_referer.as_ref()));
        out.text_map(rows.iter().map(|r| &r.flags));
        out.text_map(rows.iter().map(|r| &r.modules));
        out.exceptions(rows);
        out.frames(rows);
        out.bool(rows.iter().map(|r| Some(r.unhandled)));
        out.bool(rows.iter().map(|r| r.main_thread));
        out.bool(rows.iter().map(|r| r.symbolicated_in_app));
        out.i32(rows.iter().map(|r| Some(r.num_processing_errors)));
        out.finish()
    }
}

impl TableRow for IssueRow {
    const TABLE: &'static str = "issues";

    fn batch(rows: &[Self]) -> RecordBatch {
        let mut out = Batch::of(Self::TABLE, rows.iter().map(|r| &r.common));
        out.i64(rows.iter().map(|r| Some(r.group_id)));
        out.text(rows.iter().map(|r| Some(&r.short_id)));
        out.i32(rows.iter().map(|r| Some(r.issue_type)));
        out.text(rows.iter().map(|r| Some(&r.category)));
        out.text(rows.iter().map(|r| Some(&r.title)));
        out.text(rows.iter().map(|r| Some(&r.culprit)));
        out.text(rows.iter().map(|r| Some(&r.level)));
        out.text(rows.iter().map(|r| Some(&r.platform)));
        out.text(rows.iter().map(|r| Some(&r.status)));
        out.text(rows.iter().map(|r| r.substatus.as_ref()));
        out.i16(rows.iter().map(|r| r.priority));
        out.ms(rows.iter().map(|r| Some(r.first_seen_ms)));
        out.ms(rows.iter().map(|r| Some(r.last_seen_ms)));
        out.i64(rows.iter().map(|r| Some(r.times_seen)));
        out.i64(rows.iter().map(|r| Some(r.user_count)));
        out.text(rows.iter().map(|r| r.first_release.as_ref()));
        out.text(rows.iter().map(|_| None::<&String>));
        out.i32(rows.iter().map(|_| Some(0)));
        for _owner in [
            "assignee user",
            "assignee team",
            "suspect commit user",
            "suspect commit team",
            "rule user",
            "rule team",
            "codeowners user",
            "codeowners team",
            "redirect",
        ] {
            out.i64(rows.iter().map(|_| None));
        }
        out.finish()
    }
}

impl TableRow for SpanRow {
    const TABLE: &'static str = "spans";

    fn batch(rows: &[Self]) -> RecordBatch {
        let mut out = Batch::of(Self::TABLE, rows.iter().map(|r| &r.common));
        out.ids(rows.iter().map(|r| Some(&r.trace_id)));
        out.text(rows.iter().map(|r| Some(&r.span_id)));
        out.text(rows.iter().map(|r| r.parent_span_id.as_ref()));
        out.text(rows.iter().map(|r| Some(&r.segment_id)));
        out.bool(rows.iter().map(|r| Some(r.is_segment)));
        out.text(rows.iter().map(|r| Some(&r.transaction_name)));
        out.text(rows.iter().map(|r| Some(&r.op)));
        out.text(rows.iter().map(|r| r.category.as_ref()));
        out.text(rows.iter().map(|r| Some(&r.description)));
        out.text(rows.iter().map(|r| Some(&r.status)));
        out.us(rows.iter().map(|r| Some(r.start_us)));
        out.us(rows.iter().map(|r| Some(r.end_us)));
        out.f64(rows.iter().map(|r| Some(r.duration_ms)));
        out.f64(rows.iter().map(|r| Some(r.exclusive_ms)));
        out.text(rows.iter().map(|r| r.environment.as_ref()));
        out.text(rows.iter().map(|r| r.release.as_ref()));
        out.i64(rows.iter().map(|r| r.user_hash));
        out.i32(rows.iter().map(|r| r.http_status));
        out.f64_map(rows.iter().map(|r| &r.measurements));
        out.attributes(rows.iter().map(|r| &r.attributes));
        out.f64(rows.iter().map(|r| Some(r.client_sample_rate)));
        out.f64(rows.iter().map(|r| Some(r.server_sample_rate)));
        out.f64(rows.iter().map(|r| Some(r.sample_weight)));
        out.ids(rows.iter().map(|r| r.event_id.as_ref()));
        out.text(rows.iter().map(|r| r.user.as_ref()));
        out.text(rows.iter().map(|r| r.platform.as_ref()));
        out.finish()
    }
}

impl TableRow for LogRow {
    const TABLE: &'static str = "logs";

    fn batch(rows: &[Self]) -> RecordBatch {
        let mut out = Batch::of(Self::TABLE, rows.iter().map(|r| &r.common));
        out.ids(rows.iter().map(|r| Some(&r.log_id)));
        out.us(rows.iter().map(|r| Some(r.timestamp_us)));
        out.ids(rows.iter().map(|r| r.trace_id.as_ref()));
        out.text(rows.iter().map(|r| r.span_id.as_ref()));
        out.text(rows.iter().map(|r| Some(&r.severity)));
        out.i16(rows.iter().map(|r| Some(r.severity_number)));
        out.text(rows.iter().map(|r| Some(&r.body)));
        out.text(rows.iter().map(|r| r.environment.as_ref()));
        out.text(rows.iter().map(|r| r.release.as_ref()));
        out.attributes(rows.iter().map(|r| &r.attributes));
        out.finish()
    }
}

impl TableRow for OutcomeRow {
    const TABLE: &'static str = "outcomes";

    fn batch(rows: &[Self]) -> RecordBatch {
        let mut out = Batch::of(Self::TABLE, rows.iter().map(|r| &r.common));
        out.i64(rows.iter().map(|r| r.key_id));
        out.ms(rows.iter().map(|r| Some(r.timestamp_ms)));
        out.i16(rows.iter().map(|r| Some(r.outcome)));
        out.text(rows.iter().map(|r| r.reason.as_ref()));
        out.i16(rows.iter().map(|r| Some(r.category)));
        out.i64(rows.iter().map(|r| Some(r.quantity)));
        out.ids(rows.iter().map(|r| r.event_id.as_ref()));
        out.finish()
    }
}

impl TableRow for PayloadRow {
    const TABLE: &'static str = "payloads";

    fn batch(rows: &[Self]) -> RecordBatch {
        let mut out = Batch::of(Self::TABLE, rows.iter().map(|r| &r.common));
        out.ids(rows.iter().map(|r| Some(&r.event_id)));
        out.text(rows.iter().map(|r| Some(&r.type_)));
        out.text(rows.iter().map(|r| Some(&r.payload)));
        out.i64(rows.iter().map(|r| r.group_id));
        out.finish()
    }
}

impl TableRow for ItemRow {
    const TABLE: &'static str = "items";

    fn batch(rows: &[Self]) -> RecordBatch {
        let mut out = Batch::of(Self::TABLE, rows.iter().map(|r| &r.common));
        out.ids(rows.iter().map(|r| Some(&r.item_id)));
        out.text(rows.iter().map(|r| Some(&r.type_)));
        out.i64(rows.iter().map(|r| Some(r.quantity)));
        out.finish()
    }
}

impl TableRow for ProjectRow {
    const TABLE: &'static str = "projects";

    fn batch(rows: &[Self]) -> RecordBatch {
        let mut out = Batch::of(Self::TABLE, rows.iter().map(|r| &r.common));
        out.text(rows.iter().map(|r| Some(&r.common.project)));
        out.finish()
    }
}

/// A batch under construction: columns are added in the order of the schema.
struct Batch {
    table: &'static Table,
    columns: Vec<ArrayRef>,
}

impl Batch {
    fn of<'a>(table: &'static str, common: impl Iterator<Item = &'a Common> + Clone) -> Self {
        let table = schema::table(table).expect("a row type names a table of the schema");
        let mut batch = Self { table, columns: Vec::with_capacity(table.columns.len()) };
        batch.i64(common.clone().map(|c| Some(c.org_id)));
        batch.i64(common.clone().map(|c| Some(c.project_id)));
        batch.text(common.clone().map(|c| Some(&c.project)));
        batch.ms(common.clone().map(|c| Some(c.received_ms)));
        batch.i16(common.clone().map(|c| Some(c.retention_days)));
        batch.i64(common.map(|c| Some(c.seq)));
        batch
    }

    fn push(&mut self, column: impl Array + 'static) {
        self.columns.push(Arc::new(column));
    }

    fn i16(&mut self, values: impl Iterator<Item = Option<i16>>) {
        self.push(values.collect::<Int16Array>());
    }

    fn i32(&mut self, values: impl Iterator<Item = Option<i32>>) {
        self.push(values.collect::<Int32Array>());
    }

    fn i64(&mut self, values: impl Iterator<Item = Option<i64>>) {
        self.push(values.collect::<Int64Array>());
    }

    fn f64(&mut self, values: impl Iterator<Item = Option<f64>>) {
        self.push(values.collect::<Float64Array>());
    }

    fn bool(&mut self, values: impl Iterator<Item = Option<bool>>) {
        self.push(values.collect::<BooleanArray>());
    }

    fn ms(&mut self, values: impl Iterator<Item = Option<i64>>) {
        self.push(values.collect::<TimestampMillisecondArray>());
    }

    fn us(&mut self, values: impl Iterator<Item = Option<i64>>) {
        self.push(values.collect::<TimestampMicrosecondArray>());
    }

    fn text<'a, S: AsRef<str> + ?Sized + 'a>(&mut self, values: impl Iterator<Item = Option<&'a S>> + Clone) {
        self.push(texts(values.map(|v| v.map(AsRef::as_ref))));
    }

    fn ids<'a>(&mut self, values: impl Iterator<Item = Option<&'a [u8; 16]>>) {
        let mut builder = FixedSizeBinaryBuilder::new(16);
        for value in values {
            match value {
                Some(id) => builder.append_value(id).expect("an id has 16 bytes"),
                None => builder.append_null(),
            }
        }
        self.push(builder.finish());
    }

    /// The type of the column that comes next.
    fn next_type(&self) -> &DataType {
        self.table.stored_schema().field(self.columns.len()).data_type()
    }

    fn text_map<'a>(&mut self, maps: impl Iterator<Item = &'a Pairs<Option<String>>>) {
        let mut values = StringBuilder::new();
        self.map(maps, |v| values.append_option(v.as_ref()));
        self.end_map(Arc::new(values.finish()));
    }

    fn plain_text_map<'a>(&mut self, maps: impl Iterator<Item = &'a Pairs<String>>) {
        let mut values = StringBuilder::new();
        self.map(maps, |v| values.append_value(v));
        self.end_map(Arc::new(values.finish()));
    }

    fn f64_map<'a>(&mut self, maps: impl Iterator<Item = &'a Pairs<f64>>) {
        let mut values = Float64Builder::new();
        self.map(maps, |v| values.append_value(*v));
        self.end_map(Arc::new(values.finish()));
    }

    fn i64_map<'a>(&mut self, maps: impl Iterator<Item = &'a Pairs<i64>>) {
        let mut values = Int64Builder::new();
        self.map(maps, |v| values.append_value(*v));
        self.end_map(Arc::new(values.finish()));
    }

    fn bool_map<'a>(&mut self, maps: impl Iterator<Item = &'a Pairs<bool>>) {
        let mut values = BooleanBuilder::new();
        self.map(maps, |v| values.append_value(*v));
        self.end_map(Arc::new(values.finish()));
    }

    fn attributes<'a>(&mut self, attributes: impl Iterator<Item = &'a Attributes> + Clone) {
        self.plain_text_map(attributes.clone().map(|a| &a.text));
        self.f64_map(attributes.clone().map(|a| &a.number));
        self.i64_map(attributes.clone().map(|a| &a.integer));
        self.bool_map(attributes.map(|a| &a.boolean));
    }

    /// Pushes the keys with their offsets as two columns that [`Self::end_map`] takes off again with the values.
    fn map<'a, V: 'a>(&mut self, maps: impl Iterator<Item = &'a Pairs<V>>, mut value: impl FnMut(&'a V)) {
        let mut keys = StringBuilder::new();
        let mut offsets = vec![0i32];
        for map in maps {
            for (k, v) in map {
                keys.append_value(k);
                value(v);
            }
            offsets.push(keys.len() as i32);
        }
        self.push(Int32Array::new(ScalarBuffer::from(offsets), None));
        self.push(keys.finish());
    }

    fn end_map(&mut self, values: ArrayRef) {
        let (Some(keys), Some(offsets)) = (self.columns.pop(), self.columns.pop()) else { unreachable!("a map was begun") };
        let offsets = offsets_of(&offsets);
        let DataType::Map(entries, sorted) = self.next_type() else { unreachable!("the schema has a map here") };
        let (entries, sorted) = (Arc::clone(entries), *sorted);
        let structs = StructArray::new(fields_of(&entries), vec![keys, values], None);
        self.push(MapArray::new(entries, offsets, structs, None, sorted));
    }

    fn text_list<'a>(&mut self, lists: impl Iterator<Item = &'a Vec<String>>) {
        let mut values = StringBuilder::new();
        let mut offsets = vec![0i32];
        for list in lists {
            list.iter().for_each(|text| values.append_value(text));
            offsets.push(values.len() as i32);
        }
        let element = self.element();
        self.push(ListArray::new(element, OffsetBuffer::new(offsets.into()), Arc::new(values.finish()), None));
    }

    fn element(&self) -> FieldRef {
        let DataType::List(element) = self.next_type() else { unreachable!("the schema has a list here") };
        Arc::clone(element)
    }

    fn struct_list(&mut self, lengths: impl Iterator<Item = usize>, columns: Vec<ArrayRef>) {
        let element = self.element();
        let structs = StructArray::new(fields_of(&element), columns, None);
        self.push(ListArray::new(element, OffsetBuffer::from_lengths(lengths), Arc::new(structs), None));
    }

    fn exceptions(&mut self, rows: &[ErrorRow]) {
        let all = || rows.iter().flat_map(|r| &r.exceptions);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(texts(all().map(|e| e.type_.as_deref()))),
            Arc::new(texts(all().map(|e| e.value.as_deref()))),
            Arc::new(texts(all().map(|e| e.mechanism_type.as_deref()))),
            Arc::new(all().map(|e| e.handled).collect::<BooleanArray>()),
        ];
        self.struct_list(rows.iter().map(|r| r.exceptions.len()), columns);
    }

    fn frames(&mut self, rows: &[ErrorRow]) {
        let all = || rows.iter().flat_map(|r| &r.frames);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(texts(all().map(|f| f.abs_path.as_deref()))),
            Arc::new(texts(all().map(|f| f.filename.as_deref()))),
            Arc::new(texts(all().map(|f| f.function.as_deref()))),
            Arc::new(texts(all().map(|f| f.module.as_deref()))),
            Arc::new(texts(all().map(|f| f.package.as_deref()))),
            Arc::new(all().map(|f| f.lineno).collect::<Int32Array>()),
            Arc::new(all().map(|f| f.colno).collect::<Int32Array>()),
            Arc::new(all().map(|f| f.in_app).collect::<BooleanArray>()),
            Arc::new(all().map(|f| Some(f.stack_level)).collect::<Int32Array>()),
        ];
        self.struct_list(rows.iter().map(|r| r.frames.len()), columns);
    }

    fn finish(self) -> RecordBatch {
        RecordBatch::try_new(Arc::clone(self.table.stored_schema()), self.columns).expect("a row type has the columns of its table")
    }
}

/// A column of texts, in buffers that are as large as they have to be: growing them would copy whole payloads over and over.
fn texts<'a>(values: impl Iterator<Item = Option<&'a str>> + Clone) -> StringArray {
    let (count, bytes) = values.clone().fold((0, 0), |(count, bytes), text| (count + 1, bytes + text.map_or(0, str::len)));
    let mut builder = StringBuilder::with_capacity(count, bytes);
    values.for_each(|text| builder.append_option(text));
    builder.finish()
}

fn fields_of(field: &FieldRef) -> Fields {
    match field.data_type() {
        DataType::Struct(fields) => fields.clone(),
        other => unreachable!("the schema has a struct here, not {other}"),
    }
}

fn offsets_of(column: &ArrayRef) -> OffsetBuffer<i32> {
    use arrow::array::AsArray;
    OffsetBuffer::new(column.as_primitive::<arrow::datatypes::Int32Type>().values().clone())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn common() -> Common {
        Common { org_id: 1, project_id: 7, project: "shop".into(), received_ms: 5, retention_days: 90, seq: 3 }
    }

    #[test]
    fn every_row_type_has_the_columns_of_its_table() {
        assert_eq!(ErrorRow::batch(&[]).num_rows(), 0);
        assert_eq!(IssueRow::batch(&[]).num_rows(), 0);
        assert_eq!(SpanRow::batch(&[]).num_rows(), 0);
        assert_eq!(LogRow::batch(&[]).num_rows(), 0);
        assert_eq!(OutcomeRow::batch(&[]).num_rows(), 0);
        assert_eq!(PayloadRow::batch(&[]).num_rows(), 0);
        assert_eq!(ItemRow::batch(&[]).num_rows(), 0);
        assert_eq!(ProjectRow::batch(&[ProjectRow { common: common() }]).num_rows(), 1);
    }

    #[test]
    fn maps_hold_their_pairs() {
        let attributes = Attributes {
            text: vec![("a".into(), "x".into())],
            number: vec![("b".into(), 1.5), ("c".into(), 2.5)],
            integer: vec![],
            boolean: vec![("d".into(), true)],
        };
        let row = LogRow {
            common: common(),
            log_id: [1; 16],
            timestamp_us: 1,
            trace_id: None,
            span_id: None,
            severity: "info".into(),
            severity_number: 9,
            body: "text".into(),
            environment: None,
            release: None,
            attributes,
        };
        let batch = LogRow::batch(&[row.clone(), LogRow { attributes: Attributes::default(), ..row }]);
        use arrow::array::AsArray;
        let lengths = |name: &str| {
            let map = batch.column_by_name(name).unwrap().as_map();
            [map.value_length(0), map.value_length(1)]
        };
        assert_eq!([lengths("attrs_str"), lengths("attrs_num"), lengths("attrs_int"), lengths("attrs_bool")], [[1, 0], [2, 0], [0, 0], [1, 0]]);
    }
}
