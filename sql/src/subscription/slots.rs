//! Constants on their way to the parameter key.
//!
//! A constant that leaves a condition gets a number. Nodes that depend on it are made with the number, and learn its place in the key when
//! the whole plan is lowered. Where a constant that a node depends on does not arrive, the plan is lowered anew with fewer of them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use datafusion::common::ScalarValue;
use weir_operators::relation::plan::{Join, Map, Node, Reduce, Relation, TopK, Universe, Variants};

/// A condition `expression = value` that is carried upwards.
#[derive(Debug, Clone)]
pub(crate) struct Param<E> {
    /// What equals the value.
    pub(crate) expr: E,
    /// The value.
    pub(crate) value: ScalarValue,
    /// Its number.
    pub(crate) slot: usize,
}

impl<E> Param<E> {
    /// The same of another expression.
    pub(crate) fn over<F>(&self, expr: F) -> Param<F> {
        Param { expr, value: self.value.clone(), slot: self.slot }
    }
}

/// How many constants become parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// As many as can.
    Wide,
    /// Those that are compared with `=` and are carried by groups that are there anyway.
    Narrow,
    /// None: a template for this query alone, which tests compare with the shared one.
    #[cfg(test)]
    None,
}

/// The numbers of one plan.
#[derive(Debug)]
pub(crate) struct Slots {
    sharing: Sharing,
    next: Cell<usize>,
    /// Constants that are one: the value of the left is that of the right.
    same: RefCell<BTreeMap<usize, usize>>,
    /// On which nodes depend.
    used: RefCell<BTreeSet<usize>>,
    /// Whether one of these did not arrive.
    lost: Cell<bool>,
}

impl Slots {
    pub(crate) fn new(sharing: Sharing) -> Self {
        Self { sharing, next: Cell::new(0), same: RefCell::default(), used: RefCell::default(), lost: Cell::new(false) }
    }

    /// Whether constants stay where they are.
    pub(crate) fn inlines(&self) -> bool {
        !matches!(self.sharing, Sharing::Wide | Sharing::Narrow)
    }

    /// Whether constants of all conditions become parameters.
    pub(crate) fn are_wide(&self) -> bool {
        self.sharing == Sharing::Wide
    }

    /// A new number.
    pub(crate) fn take(&self) -> usize {
        self.next.replace(self.next.get() + 1)
    }

    /// A node depends on a constant.
    pub(crate) fn depend_on(&self, slot: usize) {
        self.used.borrow_mut().insert(slot);
    }

    /// A constant is carried no further.
    pub(crate) fn drop(&self, slot: usize) {
        if self.used.borrow().contains(&slot) {
            self.lose();
        }
    }

    /// This plan cannot be lowered with all of its constants as parameters.
    pub(crate) fn lose(&self) {
        self.lost.set(true);
    }

    /// Whether it cannot.
    pub(crate) fn are_lost(&self) -> bool {
        self.lost.get()
    }

    /// Two constants are one, and the second goes on.
    pub(crate) fn unite(&self, slot: usize, with: usize) {
        if slot != with {
            self.same.borrow_mut().insert(slot, with);
        }
    }

    /// The relation with places of the parameter key in the place of numbers; the key is made of these. `None` where one is missing.
    pub(crate) fn placed(&self, relation: &Relation, key: &[usize]) -> Option<Relation> {
        let place = |slot: &usize| {
            let mut slot = *slot;
            while let Some(next) = self.same.borrow().get(&slot) {
                slot = *next;
            }
            key.iter().position(|known| *known == slot)
        };
        let places = |slots: &[usize]| slots.iter().map(place).collect::<Option<Vec<_>>>();
        let boxed = |input: &Relation| self.placed(input, key).map(Box::new);
        let node = match &relation.node {
            node @ (Node::Scan(_) | Node::Values(_)) => node.clone(),
            Node::Map(map) => Node::Map(Map { input: boxed(&map.input)?, ..map.clone() }),
            Node::Variants(variants) => {
                Node::Variants(Variants { input: boxed(&variants.input)?, parameters: places(&variants.parameters)?, ..variants.clone() })
            }
            Node::Reduce(reduce) => {
                let universe = match &reduce.universe {
                    Universe::Parameters(slots) => Universe::Parameters(places(slots)?),
                    other => other.clone(),
                };
                Node::Reduce(Reduce { input: boxed(&reduce.input)?, universe, ..reduce.clone() })
            }
            Node::Distinct(input) => Node::Distinct(boxed(input)?),
            Node::Union(inputs) => Node::Union(inputs.iter().map(|input| self.placed(input, key)).collect::<Option<Vec<_>>>()?),
            Node::Join(join) => Node::Join(Join { left: boxed(&join.left)?, right: boxed(&join.right)?, ..join.clone() }),
            Node::TopK(top) => Node::TopK(TopK { input: boxed(&top.input)?, ..top.clone() }),
        };
        Some(Relation { node, schema: relation.schema.clone() })
    }
}
