//! From a template to the dataflow that maintains it.

use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::{Concatenate, Input};
use timely::dataflow::{InputHandle, Scope, Stream};

use super::codec::{Codec, batch_of, nullable};
use super::edge::{Delta, Deltas, Flaws, NullKeys, codecs, encode};
use super::evaluate::Projection;
use super::finish::{self, Finisher, Sources};
use super::flaw::Owner;
use super::message::Message;
use super::meter::{Meter, Quotas};
use super::plan::{Join, JoinKind, Map, Node, Reduce, Relation, Scan, TopK, Universe, Variants};
use super::reduce::{self, Surroundings};
use super::scan::{Windowing, scan};
use super::template::{Parameters, TableChanges, Template, TemplateAdvance};
use super::window::Geometry;
use super::{distinct, join, map, parameters, topk, variants};
use crate::Time;
use crate::schema::{self, TableKind};

/// Why a template cannot be maintained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// Values of a type have no order. Dictionaries are to be cast to the type of their values.
    #[error("column {column} of type {data_type} cannot be compared")]
    Type {
        /// Which column.
        column: String,
        /// Its type.
        data_type: DataType,
    },
    /// The keys of a join are of two types.
    #[error("a join compares {left} with {right}: cast one of them")]
    JoinKey {
        /// The type on the left.
        left: DataType,
        /// The type on the right.
        right: DataType,
    },
    /// An aggregate that is not maintained.
    #[error("aggregate {column}: {reason}")]
    Aggregate {
        /// The name of its column.
        column: String,
        /// What is wrong.
        reason: String,
    },
    /// The plan contradicts itself.
    #[error("{0}")]
    Plan(String),
}

/// How a template is to be run.
#[derive(Debug, Clone, Copy, Default)]
pub struct RenderOptions {
    /// The most that it may hold and do.
    pub quotas: Quotas,
}

/// Whether a template can be maintained, without building anything.
///
/// # Errors
/// Where it cannot.
pub fn check(template: &Template) -> Result<(), RenderError> {
    let finish = &template.finish;
    if finish.columns.len() != finish.schema.fields().len() || finish.key.len() != finish.key_schema.fields().len() {
        return Err(RenderError::Plan("an answer has other columns than its schema".to_owned()));
    }
    if template.parameter_keys > template.relation.schema.fields().len() {
        return Err(RenderError::Plan("the relation has fewer columns than the parameter key".to_owned()));
    }
    check_relation(&template.relation, &template.relation.schema.fields()[..template.parameter_keys])?;
    let constants = Rc::new(Codec::new(template.constants.fields())?);
    Finisher::new(template, codecs(&template.relation.schema, template.parameter_keys)?, constants)?;
    Ok(())
}

/// `parameters` is the template's parameter key.
fn check_relation(relation: &Relation, parameters: &[FieldRef]) -> Result<(), RenderError> {
    let width = |relation: &Relation| relation.schema.fields().len();
    let expect = |holds: bool, what: &str| if holds { Ok(()) } else { Err(RenderError::Plan(what.to_owned())) };
    match &relation.node {
        Node::Scan(scan) => expect(scan.columns.len() == width(relation), "a scan gives other columns than its schema has"),
        Node::Values(batch) => expect(same_types(batch.schema().fields(), relation.schema.fields()), "values have other columns than their schema"),
        Node::Map(map) => {
            expect(map.columns.len() == width(relation), "a map gives other columns than its schema has")?;
            check_relation(&map.input, parameters)
        }
        Node::Reduce(reduce) => {
            let fits = reduce.keys <= width(&reduce.input) && width(relation) == reduce.keys + reduce.aggregates.len();
            let fits = fits && same_types(&reduce.input.schema.fields()[..reduce.keys], &relation.schema.fields()[..reduce.keys]);
            let arguments = reduce.aggregates.iter().flat_map(|aggregate| aggregate.argument.iter().chain(&aggregate.filter));
            let is_flag = |column: usize| reduce.input.schema.field(column).data_type() == &DataType::Boolean;
            expect(fits, "a reduction gives other columns than its schema has")?;
            expect(arguments.into_iter().all(|argument| *argument < width(&reduce.input)), "an aggregate's argument is no column")?;
            expect(reduce.aggregates.iter().all(|aggregate| aggregate.filter.is_none_or(is_flag)), "an aggregate's filter is not a boolean")?;
            expect(reduce.universe != Universe::One || reduce.keys == 0, "a reduction to one group has a key")?;
            if let Universe::Parameters(columns) = &reduce.universe {
                expect(are_columns(columns, &relation.schema.fields()[..reduce.keys], parameters), "a reduction by parameters has another key")?;
            }
            reduce::check(reduce, &reduce.input.schema, &relation.schema)?;
            check_relation(&reduce.input, parameters)
        }
        Node::Variants(variants) => {
            let of_input = variants.input.schema.fields();
            expect(are_columns(&variants.parameters, variants.constants.fields(), parameters), "variants by other constants than the parameter key has")?;
            let seen: Vec<&FieldRef> = of_input.iter().chain(variants.constants.fields()).collect();
            let columns: Option<Vec<FieldRef>> = variants.columns.iter().map(|column| seen.get(*column).map(|field| Arc::clone(field))).collect();
            expect(columns.is_some_and(|columns| same_types(&columns, relation.schema.fields())), "variants give other columns than their schema has")?;
            Codec::new(of_input)?;
            check_relation(&variants.input, parameters)
        }
        Node::Distinct(input) => {
            expect(same_types(input.schema.fields(), relation.schema.fields()), "distinct rows have other columns than their schema")?;
            Codec::new(relation.schema.fields())?;
            check_relation(input, parameters)
        }
        Node::Union(inputs) => inputs.iter().try_for_each(|input| {
            expect(same_types(input.schema.fields(), relation.schema.fields()), "the parts of a union have other types")?;
            check_relation(input, parameters)
        }),
        Node::Join(join) => check_join(join, relation, parameters),
        Node::TopK(topk) => {
            let inside = topk.keys <= width(&topk.input) && topk.order.iter().all(|order| order.column < width(&topk.input));
            let numbers = topk.numbered.then(|| Arc::new(Field::new("number", DataType::UInt64, false)));
            let columns: Vec<FieldRef> = topk.input.schema.fields().iter().cloned().chain(numbers).collect();
            expect(inside && same_types(&columns, relation.schema.fields()), "a top-k gives other columns than its schema has")?;
            Codec::new(topk.input.schema.fields())?;
            check_relation(&topk.input, parameters)
        }
    }
}

fn check_join(join: &Join, relation: &Relation, parameters: &[FieldRef]) -> Result<(), RenderError> {
    let (left, right) = (join.left.schema.fields(), join.right.schema.fields());
    let with_right = matches!(join.kind, JoinKind::Inner | JoinKind::Left);
    let columns: Vec<FieldRef> = left.iter().chain(right.iter().filter(|_| with_right)).cloned().collect();
    if join.keys > left.len() || join.keys > right.len() || !same_types(&columns, relation.schema.fields()) {
        return Err(RenderError::Plan("a join gives other columns than its schema has".to_owned()));
    }
    if let Some((left, right)) = left.iter().zip(right.iter()).take(join.keys).find(|(left, right)| left.data_type() != right.data_type()) {
        return Err(RenderError::JoinKey { left: left.data_type().clone(), right: right.data_type().clone() });
    }
    for input in [&join.left, &join.right] {
        codecs(&input.schema, join.keys)?;
        check_relation(input, parameters)?;
    }
    Ok(())
}

/// Whether these are places of columns of these types.
fn are_columns(places: &[usize], types: &[FieldRef], of: &[FieldRef]) -> bool {
    let at = |(place, field): (&usize, &FieldRef)| of.get(*place).is_some_and(|column| column.data_type() == field.data_type());
    places.len() == types.len() && places.iter().zip(types).all(at)
}

fn same_types(a: &[FieldRef], b: &[FieldRef]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.data_type() == b.data_type())
}

/// The same plan, whose columns may all be null: whether they can be is not relied upon, so that a plan that is wrong about it
/// stops nothing.
fn relaxed(relation: &Relation) -> Relation {
    let boxed = |input: &Relation| Box::new(relaxed(input));
    let node = match &relation.node {
        node @ (Node::Scan(_) | Node::Values(_)) => node.clone(),
        Node::Map(map) => Node::Map(Map { input: boxed(&map.input), ..map.clone() }),
        Node::Variants(variants) => Node::Variants(Variants { input: boxed(&variants.input), ..variants.clone() }),
        Node::Reduce(reduce) => Node::Reduce(Reduce { input: boxed(&reduce.input), ..reduce.clone() }),
        Node::Distinct(input) => Node::Distinct(boxed(input)),
        Node::Union(inputs) => Node::Union(inputs.iter().map(relaxed).collect()),
        Node::Join(join) => Node::Join(Join { left: boxed(&join.left), right: boxed(&join.right), ..join.clone() }),
        Node::TopK(topk) => Node::TopK(TopK { input: boxed(&topk.input), ..topk.clone() }),
    };
    Relation { node, schema: nullable(&relation.schema) }
}

/// Builds a template's dataflow in a scope. All workers build it, in the same order; `emit` is called on each with what becomes
/// complete there.
///
/// # Errors
/// As [`check`]; then nothing has been built.
pub fn render(
    scope: Scope<'_, Time>,
    template: Arc<Template>,
    options: RenderOptions,
    emit: impl FnMut(TemplateAdvance) + 'static,
) -> Result<TemplateInputs, RenderError> {
    // Boxed here, so that the operators are compiled with this crate and not again with each that calls it.
    render_boxed(scope, template, options, Box::new(emit))
}

fn render_boxed(
    scope: Scope<'_, Time>,
    template: Arc<Template>,
    options: RenderOptions,
    emit: Box<dyn FnMut(TemplateAdvance)>,
) -> Result<TemplateInputs, RenderError> {
    check(&template)?;
    let template = Arc::new(Template { relation: relaxed(&template.relation), ..Template::clone(&template) });
    let (handle, messages) = scope.new_input::<Vec<Message>>();
    let meter = Rc::new(Meter::new(options.quotas, scope.peers() as u64));
    let codecs = codecs(&template.relation.schema, template.parameter_keys)?;
    let key_codec = Rc::new(Codec::new(codecs.0.fields())?);
    let constants = Rc::new(Codec::new(template.constants.fields())?);
    let parameters = parameters::parameters(messages.clone(), Rc::clone(&key_codec), Rc::clone(&constants));
    let mut renderer = Renderer { scope, messages: messages.clone(), meter: Rc::clone(&meter), flaws: Vec::new() };
    let owner = Owner::of_relation(Rc::clone(&key_codec));
    let relation = renderer.render(&template.relation, owner, Windowing::Rows)?;
    let rows = encode(relation.deltas, template.parameter_keys, NullKeys::Leave, Rc::clone(&codecs), Rc::clone(&meter), "Relation");
    let flaws = if renderer.flaws.len() == 1 { renderer.flaws.remove(0) } else { scope.concatenate(renderer.flaws) };
    let mut tables = Vec::new();
    let mut windowed = false;
    scans(&template.relation, &mut |scan| {
        tables.push(scan.table);
        windowed |= scan.window.is_some();
    });
    let finisher = Finisher::new(&template, codecs, constants)?;
    finish::answer(Sources { rows, parameters, flaws, clock: windowed.then_some(messages) }, finisher, meter, emit);
    Ok(TemplateInputs { handle, key_codec, template, tables, windowed })
}

fn scans(relation: &Relation, visit: &mut impl FnMut(&Scan)) {
    match &relation.node {
        Node::Scan(scan) => visit(scan),
        Node::Values(_) => {}
        Node::Map(Map { input, .. }) | Node::Variants(Variants { input, .. }) | Node::Reduce(Reduce { input, .. }) | Node::TopK(TopK { input, .. }) => {
            scans(input, visit);
        }
        Node::Distinct(input) => scans(input, visit),
        Node::Union(inputs) => inputs.iter().for_each(|input| scans(input, visit)),
        Node::Join(join) => {
            scans(&join.left, visit);
            scans(&join.right, visit);
        }
    }
}

/// What a template's dataflow is told on one worker.
///
/// Rows of tables and subscriptions are told on one worker each, whichever; ticks on all.
pub struct TemplateInputs {
    handle: InputHandle<Time, CapacityContainerBuilder<Vec<Message>>>,
    key_codec: Rc<Codec>,
    template: Arc<Template>,
    tables: Vec<&'static str>,
    windowed: bool,
}

impl TemplateInputs {
    /// The tables that the template reads, each as often as it does.
    pub fn tables(&self) -> &[&'static str] {
        &self.tables
    }

    /// Rows of a table that come and go at tick `time`, and at the creation of the template those that are there. Tables that it
    /// does not read are ignored. `time` may not be before a tick that has ended.
    pub fn table(&mut self, time: Time, changes: TableChanges) {
        if self.tables.contains(&changes.table) && changes.batch.num_rows() > 0 {
            self.move_to(time);
            self.handle.send(Message::Table(changes));
        }
    }

    /// A subscription that comes or goes at tick `time`; it goes with the parameters that it came with.
    ///
    /// # Errors
    /// Where the parameters are not of the template's types.
    pub fn parameters(&mut self, time: Time, parameters: &Parameters, insert: bool) -> Result<(), RenderError> {
        if !parameters::fit(parameters, &self.key_codec, &self.template.constants) {
            return Err(RenderError::Plan(format!("the parameters of subscription {} are not of the template's types", parameters.subscription)));
        }
        self.move_to(time);
        self.handle.send(Message::Parameters(Arc::new(parameters.clone()), if insert { 1 } else { -1 }));
        Ok(())
    }

    /// Ends the tick `time - 1`: windows move to it, whether it brought rows or not, and it is answered. So after the rows of tick
    /// `t` this is called with `t + 1`, on every worker, and never with a time whose predecessor is not a tick: windows would
    /// lose rows before the rows of the next tick are in.
    pub fn advance_to(&mut self, time: Time) {
        if *self.handle.time() >= time {
            return;
        }
        if self.windowed {
            self.move_to(time - 1);
            self.handle.send(Message::Clock);
        }
        self.move_to(time);
    }

    /// Ends the tick `tick`, as `advance_to(tick + 1)` does.
    pub fn complete(&mut self, tick: Time) {
        self.advance_to(tick.saturating_add(1));
    }

    /// Says that nothing more will come. What is complete is emitted, then the dataflow ends.
    pub fn close(self) {
        drop(self.handle);
    }

    fn move_to(&mut self, time: Time) {
        if *self.handle.time() < time {
            self.handle.advance_to(time);
        }
    }
}

/// A rendered node.
struct Edge<'scope> {
    deltas: Deltas<'scope>,
    /// The window of its panes, where it is yet to be applied.
    window: Option<Geometry>,
    /// Whether rows never go, but with their pane.
    monotone: bool,
}

impl<'scope> Edge<'scope> {
    fn plain(deltas: Deltas<'scope>) -> Self {
        Self { deltas, window: None, monotone: false }
    }
}

struct Renderer<'scope> {
    scope: Scope<'scope, Time>,
    messages: Stream<'scope, Time, Vec<Message>>,
    meter: Rc<Meter>,
    flaws: Vec<Flaws<'scope>>,
}

impl<'scope> Renderer<'scope> {
    fn render(&mut self, relation: &Relation, owner: Owner, windowing: Windowing) -> Result<Edge<'scope>, RenderError> {
        let schema = &relation.schema;
        match &relation.node {
            Node::Scan(plan) => Ok(self.scan(plan, schema, owner, windowing)),
            Node::Values(batch) => Ok(Edge::plain(self.values(batch.clone()))),
            Node::Map(plan) => self.map(plan, schema, owner, windowing),
            Node::Variants(plan) => self.variants(plan, schema, owner, windowing),
            Node::Reduce(plan) => self.reduce(plan, schema, owner),
            Node::Distinct(input) => {
                let input = self.render(input, owner, Windowing::Rows)?;
                Ok(Edge::plain(distinct::distinct(input.deltas, schema, &self.meter)?))
            }
            Node::Union(inputs) => {
                let inputs = inputs.iter().map(|input| Ok(self.render(input, owner.clone(), Windowing::Rows)?.deltas)).collect::<Result<Vec<_>, _>>()?;
                Ok(Edge::plain(self.scope.concatenate(inputs)))
            }
            Node::Join(plan) => self.join(plan, schema, &owner),
            Node::TopK(plan) => {
                let above = Arc::clone(schema);
                let below = owner.below(move |row| Some(row_with(&above, row.columns())));
                let input = self.render(&plan.input, below, Windowing::Rows)?;
                Ok(Edge::plain(topk::topk(input.deltas, plan, &plan.input.schema, schema, &self.meter)?))
            }
        }
    }

    fn scan(&mut self, plan: &Scan, schema: &SchemaRef, owner: Owner, windowing: Windowing) -> Edge<'scope> {
        let (deltas, flaws) = scan(self.messages.clone(), plan, schema, windowing, owner, Rc::clone(&self.meter));
        self.flaws.push(flaws);
        let window = plan.window.as_ref().filter(|_| windowing == Windowing::Panes).map(Geometry::of);
        let appended = schema::table(plan.table).is_some_and(|table| table.kind == TableKind::Appended);
        Edge { deltas, window, monotone: appended && (plan.window.is_none() || window.is_some()) }
    }

    fn values(&self, batch: RecordBatch) -> Deltas<'scope> {
        let mut builder = OperatorBuilder::new("Values".to_owned(), self.scope);
        let (output, stream) = builder.new_output();
        let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Delta>>>::from(output);
        let is_first = self.scope.index() == 0;
        builder.build(move |mut capabilities| {
            let mut capability = capabilities.pop();
            move |_frontiers| {
                if let Some(capability) = capability.take().filter(|_| is_first && batch.num_rows() > 0) {
                    let rows = batch.num_rows();
                    output.activate().session(&capability).give(Delta { batch: batch.clone(), times: vec![0; rows], differences: vec![1; rows], panes: None });
                }
            }
        });
        stream
    }

    fn map(&mut self, plan: &Map, schema: &SchemaRef, owner: Owner, windowing: Windowing) -> Result<Edge<'scope>, RenderError> {
        let projection = Projection { filter: plan.filter.clone(), columns: plan.columns.clone(), schema: Arc::clone(schema) };
        let upwards = projection.clone();
        let input = self.render(&plan.input, owner.below(move |row| Some(upwards.salvage(row))), windowing)?;
        let (deltas, flaws) = map::map(input.deltas, projection, input.window, owner);
        self.flaws.push(flaws);
        Ok(Edge { deltas, window: input.window, monotone: input.monotone })
    }

    fn variants(&mut self, plan: &Variants, schema: &SchemaRef, owner: Owner, windowing: Windowing) -> Result<Edge<'scope>, RenderError> {
        // Which constants a row that fails below would have met is not known.
        let (above, columns) = (nullable(schema), plan.columns.clone());
        let below = owner.below(move |row| {
            let column = |(place, field): (&usize, &FieldRef)| row.columns().get(*place).cloned().unwrap_or_else(|| new_null_array(field.data_type(), 1));
            Some(batch_of(&above, columns.iter().zip(above.fields()).map(column).collect(), 1))
        });
        let input = self.render(&plan.input, below, windowing)?;
        let constants = Codec::new(plan.constants.fields())?;
        let chosen = parameters::chosen(self.messages.clone(), plan.parameters.clone(), constants, self.scope.peers() as u64);
        let sources = variants::Sources { rows: input.deltas, chosen, messages: self.messages.clone(), window: input.window };
        let (deltas, flaws) = variants::variants(sources, plan, schema, owner, Rc::clone(&self.meter))?;
        self.flaws.push(flaws);
        // Rows go with the choice that they were shown to.
        Ok(Edge { deltas, window: input.window, monotone: false })
    }

    fn reduce(&mut self, plan: &Reduce, schema: &SchemaRef, owner: Owner) -> Result<Edge<'scope>, RenderError> {
        let (above, keys) = (Arc::clone(schema), plan.keys);
        let below = owner.below(move |row| Some(row_with(&above, &row.columns()[..keys])));
        let input = self.render(&plan.input, below, Windowing::Panes)?;
        let asked = match &plan.universe {
            Universe::Parameters(columns) => {
                let codec = Codec::new(&schema.fields()[..keys].iter().cloned().collect())?;
                Some(parameters::asked(self.messages.clone(), columns.clone(), codec))
            }
            Universe::Rows | Universe::One => None,
        };
        let around =
            Surroundings { messages: self.messages.clone(), asked, window: input.window, monotone: input.monotone, owner, meter: Rc::clone(&self.meter) };
        let (deltas, flaws) = reduce::reduce(input.deltas, plan, &plan.input.schema, schema, around)?;
        self.flaws.push(flaws);
        Ok(Edge::plain(deltas))
    }

    fn join(&mut self, plan: &Join, schema: &SchemaRef, owner: &Owner) -> Result<Edge<'scope>, RenderError> {
        let above = Arc::clone(schema);
        let of_left = owner.below(move |row| Some(row_with(&above, row.columns())));
        // A right row's key is the left row's.
        let (above, keys) = (Arc::clone(schema), plan.keys);
        let of_right = owner.below(move |row| Some(row_with(&above, &row.columns()[..keys])));
        let left = self.render(&plan.left, of_left, Windowing::Rows)?;
        let right = self.render(&plan.right, of_right, Windowing::Rows)?;
        Ok(Edge::plain(join::join(left.deltas, right.deltas, plan, schema, &self.meter)?))
    }
}

/// A row of a schema of which only the leading columns are known.
fn row_with(schema: &Schema, columns: &[ArrayRef]) -> RecordBatch {
    let missing = schema.fields().iter().skip(columns.len()).map(|field| new_null_array(field.data_type(), 1));
    let columns: Vec<ArrayRef> = columns.iter().take(schema.fields().len()).cloned().chain(missing).collect();
    batch_of(&nullable(schema), columns, 1)
}
