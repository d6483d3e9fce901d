//! What a deletion reaches: the one condition by which queries leave rows out and by which files are rewritten without them.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, FixedSizeBinaryArray, Int64Array, MapArray, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;
use weir_operators::error::user_hash;
use weir_operators::schema::{Table, TableKind};
use weir_protocol::deletion::{Deletion, Target, UserRef};
use weir_protocol::json::Json;

/// What a deletion reaches: rows of one project that stood in the journal before it and that meet its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The deletion's place in the journal; rows at and after it are not reached.
    pub seq: i64,
    project_id: i64,
    target: Target,
    /// Events that are known to be meant, beside those that a row itself tells of.
    events: Arc<BTreeSet<[u8; 16]>>,
    user: Option<User>,
}

/// A user in the forms in which rows name one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct User {
    /// `id:42`, as in the column `user`.
    tags: Vec<String>,
    hashes: Vec<i64>,
    /// A column, the keys of attributes, and the member of an event's `user` that hold `value`.
    places: Vec<Place>,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    column: &'static str,
    attributes: &'static [&'static str],
    member: &'static str,
}

const ID: Place = Place { column: "user_id", attributes: &["user.id"], member: "id" };
const EMAIL: Place = Place { column: "user_email", attributes: &["user.email"], member: "email" };
const USERNAME: Place = Place { column: "user_name", attributes: &["user.username", "user.name"], member: "username" };
const IP: Place = Place { column: "ip", attributes: &["user.ip_address", "user.ip", "client.address"], member: "ip_address" };

/// Tables that count or describe what arrived, and name no user.
const NOT_REACHED: [&str; 2] = ["outcomes", "items"];
/// The columns by which rows are told apart, where a table has them.
const COLUMNS: [&str; 13] =
    ["project_id", "seq", "event_id", "group_id", "user", "user_hash", "user_id", "user_email", "user_name", "ip", "attrs_str", "attrs_int", "payload"];

impl User {
    fn of(project_id: u64, user: &UserRef) -> Self {
        let places = match user {
            UserRef::Any(_) => vec![ID, EMAIL],
            UserRef::Id(_) => vec![ID],
            UserRef::Email(_) => vec![EMAIL],
            UserRef::Username(_) => vec![USERNAME],
            UserRef::Ip(_) => vec![IP],
        };
        let prefix = |place: &Place| if place.member == "ip_address" { "ip" } else { place.member };
        let tags: Vec<String> = places.iter().map(|place| format!("{}:{}", prefix(place), user.value())).collect();
        let hashes = tags.iter().map(|tag| user_hash(project_id, tag)).collect();
        Self { tags, hashes, places, value: user.value().to_owned() }
    }

    /// Whether an event's JSON text names the user. Most do not hold the value at all, which is quickly seen.
    fn is_of(&self, payload: &str) -> bool {
        let plain = self.value.bytes().all(|c| c.is_ascii_alphanumeric() || b"@._-:+".contains(&c));
        if plain && !payload.contains(&self.value) {
            return false;
        }
        let Ok(event) = Json::parse(payload.as_bytes()) else { return false };
        self.places.iter().any(|place| match event.at(&["user", place.member]) {
            Some(Json::String(text)) => *text == self.value,
            Some(other) => other.to_string() == self.value,
            None => false,
        })
    }
}

impl Reach {
    /// The reach of a deletion at its place in the journal.
    pub fn new(seq: i64, deletion: &Deletion) -> Self {
        let events = match &deletion.target {
            Target::Event(id) => [id.0].into(),
            _ => BTreeSet::new(),
        };
        let user = match &deletion.target {
            Target::User(user) => Some(User::of(deletion.project_id(), user)),
            _ => None,
        };
        Self { seq, project_id: deletion.project_id() as i64, target: deletion.target.clone(), events: Arc::new(events), user }
    }

    /// The same with events that were found to be meant.
    pub(crate) fn with_events(&self, events: BTreeSet<[u8; 16]>) -> Self {
        Self { events: Arc::new(self.events.iter().copied().chain(events).collect()), ..self.clone() }
    }

    /// The project.
    pub(crate) fn project_id(&self) -> i64 {
        self.project_id
    }

    /// The one event that is meant, where it is one.
    pub(crate) fn event(&self) -> Option<[u8; 16]> {
        match &self.target {
            Target::Event(id) => Some(id.0),
            _ => None,
        }
    }

    /// Whether it is a user whose rows are meant.
    pub(crate) fn is_user(&self) -> bool {
        self.user.is_some()
    }

    /// The columns of a table that [`Reach::reached`] must be given; none where no row of it can be reached.
    pub fn columns(&self, table: &Table) -> Vec<&'static str> {
        if table.kind == TableKind::Current || NOT_REACHED.contains(&table.name) {
            return Vec::new();
        }
        let useful = |column: &str| match column {
            "project_id" | "seq" => true,
            "event_id" => !self.events.is_empty() || self.is_user(),
            "group_id" => matches!(self.target, Target::Issue(_)),
            _ => self.is_user(),
        };
        let columns: Vec<&str> = COLUMNS.into_iter().filter(|column| useful(column) && table.column(column).is_some()).collect();
        if columns.len() > 2 { columns } else { Vec::new() }
    }

    /// Which rows are reached. The batch may have any columns; those of [`Reach::columns`] are looked at by their names.
    ///
    /// # Errors
    /// Where a column has another type than the table's schema says.
    pub fn reached(&self, batch: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        let rows = Rows::of(batch)?;
        Ok((0..batch.num_rows())
            .map(|row| Some(rows.project_id.value(row) == self.project_id && rows.seq.value(row) < self.seq && self.meets(&rows, row)))
            .collect())
    }

    fn meets(&self, rows: &Rows<'_>, row: usize) -> bool {
        if let Some(ids) = rows.event_id
            && ids.is_valid(row)
            && !self.events.is_empty()
            && <[u8; 16]>::try_from(ids.value(row)).is_ok_and(|id| self.events.contains(&id))
        {
            return true;
        }
        if let (Target::Issue(group_id), Some(groups)) = (&self.target, rows.group_id) {
            return groups.is_valid(row) && groups.value(row) == *group_id;
        }
        self.user.as_ref().is_some_and(|user| rows.name(user, row))
    }
}

/// The columns of a batch that are there.
struct Rows<'a> {
    project_id: &'a Int64Array,
    seq: &'a Int64Array,
    event_id: Option<&'a FixedSizeBinaryArray>,
    group_id: Option<&'a Int64Array>,
    user: Option<&'a StringArray>,
    user_hash: Option<&'a Int64Array>,
    texts: Vec<(&'static str, &'a StringArray)>,
    attrs_str: Option<&'a MapArray>,
    attrs_int: Option<&'a MapArray>,
    payload: Option<&'a StringArray>,
}

impl<'a> Rows<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, ArrowError> {
        let wrong = |name: &str| ArrowError::SchemaError(format!("the column {name} is missing or has another type"));
        let integers = |name: &str| batch.column_by_name(name).map(|column| column.as_primitive_opt::<Int64Type>().ok_or_else(|| wrong(name))).transpose();
        let texts = |name: &str| batch.column_by_name(name).map(|column| column.as_string_opt::<i32>().ok_or_else(|| wrong(name))).transpose();
        let map = |name: &str| batch.column_by_name(name).map(|column| column.as_map_opt().ok_or_else(|| wrong(name))).transpose();
        let mut named = Vec::new();
        for place in [ID, EMAIL, USERNAME, IP] {
            if let Some(column) = texts(place.column)? {
                named.push((place.column, column));
            }
        }
        Ok(Self {
            project_id: integers("project_id")?.ok_or_else(|| wrong("project_id"))?,
            seq: integers("seq")?.ok_or_else(|| wrong("seq"))?,
            event_id: batch.column_by_name("event_id").map(|column| column.as_fixed_size_binary_opt().ok_or_else(|| wrong("event_id"))).transpose()?,
            group_id: integers("group_id")?,
            user: texts("user")?,
            user_hash: integers("user_hash")?,
            texts: named,
            attrs_str: map("attrs_str")?,
            attrs_int: map("attrs_int")?,
            payload: texts("payload")?,
        })
    }

    /// Whether a row names the user.
    fn name(&self, user: &User, row: usize) -> bool {
        let is = |column: Option<&StringArray>, value: &str| column.is_some_and(|c| c.is_valid(row) && c.value(row) == value);
        let text = |name: &str| self.texts.iter().find(|(column, _)| *column == name).map(|(_, column)| *column);
        user.tags.iter().any(|tag| is(self.user, tag))
            || self.user_hash.is_some_and(|hashes| hashes.is_valid(row) && user.hashes.contains(&hashes.value(row)))
            || user.places.iter().any(|place| is(text(place.column), &user.value) || self.attribute(place, &user.value, row))
            || self.payload.is_some_and(|payloads| user.is_of(payloads.value(row)))
    }

    fn attribute(&self, place: &Place, value: &str, row: usize) -> bool {
        let meets = |map: Option<&MapArray>, equals: &dyn Fn(&dyn Array, usize) -> bool| {
            map.is_some_and(|map| {
                let keys = map.keys().as_string::<i32>();
                let entries = map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize;
                entries.into_iter().any(|entry| place.attributes.contains(&keys.value(entry)) && equals(map.values().as_ref(), entry))
            })
        };
        meets(self.attrs_str, &|values, entry| values.as_string_opt::<i32>().is_some_and(|v| v.is_valid(entry) && v.value(entry) == value))
            || meets(self.attrs_int, &|values, entry| {
                values.as_primitive_opt::<Int64Type>().is_some_and(|v| v.is_valid(entry) && v.value(entry).to_string() == value)
            })
    }
}

#[cfg(test)]
mod tests {
    use weir_operators::rows::{Common, PayloadRow, TableRow};
    use weir_operators::schema;
    use weir_protocol::EventId;
    use weir_protocol::record::Project;

    use super::*;

    fn payload(project_id: i64, seq: i64, id: u8, group_id: Option<i64>, payload: &str) -> PayloadRow {
        let common = Common { org_id: 1, project_id, project: "p".into(), received_ms: 5, retention_days: 90, seq };
        PayloadRow { common, event_id: [id; 16], type_: "event".to_owned(), payload: payload.to_owned(), group_id }
    }

    fn reached(target: Target, rows: &[PayloadRow]) -> Vec<bool> {
        let project = Project { org_id: 1, project_id: 1, slug: "p".to_owned(), retention_days: 90 };
        let reach = Reach::new(10, &Deletion { project, target, now: false });
        let batch = PayloadRow::batch(rows);
        let columns = reach.columns(schema::table("payloads").unwrap());
        let places: Vec<usize> = columns.iter().map(|name| batch.schema().index_of(name).unwrap()).collect();
        reach.reached(&batch.project(&places).unwrap()).unwrap().values().iter().collect()
    }

    #[test]
    fn only_rows_of_the_project_before_the_deletion_are_reached() {
        let rows = [payload(1, 9, 7, None, "{}"), payload(2, 9, 7, None, "{}"), payload(1, 10, 7, None, "{}"), payload(1, 9, 8, None, "{}")];
        assert_eq!(reached(Target::Event(EventId([7; 16])), &rows), [true, false, false, false]);
        let rows = [payload(1, 9, 7, Some(4), "{}"), payload(1, 9, 7, None, "{}"), payload(1, 9, 7, Some(5), "{}")];
        assert_eq!(reached(Target::Issue(4), &rows), [true, false, false]);
    }

    #[test]
    fn a_user_is_found_in_an_event_by_the_member_that_is_meant() {
        let rows = [
            payload(1, 9, 1, None, r#"{"user":{"id":"42","email":"a@b.c"}}"#),
            payload(1, 9, 2, None, r#"{"user":{"id":42}}"#),
            payload(1, 9, 3, None, r#"{"user":{"email":"42"}}"#),
            payload(1, 9, 4, None, r#"{"user":{"username":"42"},"message":"42"}"#),
            payload(1, 9, 5, None, r#"{"user":{"id":"a \"b\" c"}}"#),
        ];
        let check = |user: &str, want: [bool; 5]| assert_eq!(reached(Target::User(user.parse().unwrap()), &rows), want, "{user}");
        check("42", [true, true, true, false, false]);
        check("id:42", [true, true, false, false, false]);
        check("email:a@b.c", [true, false, false, false, false]);
        check("username:42", [false, false, false, true, false]);
        check("id:a \"b\" c", [false, false, false, false, true]);
    }

    #[test]
    fn tables_that_name_nobody_are_not_looked_at() {
        let project = Project { org_id: 1, project_id: 1, slug: "p".to_owned(), retention_days: 90 };
        let of = |target: Target| Reach::new(1, &Deletion { project: project.clone(), target, now: false });
        let tables = |reach: &Reach| schema::tables().iter().filter(|t| !reach.columns(t).is_empty()).map(|t| t.name).collect::<Vec<_>>();
        assert_eq!(tables(&of(Target::Issue(1))), ["errors", "occurrences", "payloads"]);
        assert_eq!(tables(&of(Target::Event(EventId([1; 16])))), ["errors", "occurrences", "spans", "payloads"]);
        let of_user = tables(&of(Target::User(UserRef::Any("1".to_owned()))));
        for table in ["errors", "spans", "logs", "metrics", "sessions", "replays", "payloads"] {
            assert!(of_user.contains(&table), "{table}: {of_user:?}");
        }
        assert!(!of_user.contains(&"outcomes") && !of_user.contains(&"issues"));
    }
}
