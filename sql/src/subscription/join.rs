//! Joins, and the subqueries that have become joins.

use datafusion::common::{NullEquality, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, ExprSchemable, Join, JoinType, cast, lit, when};
use weir_operators::relation::plan::{JoinKind, Node};

use super::lower::{Above, Kept, Lowered, Lowering, joined, united};
use super::pending::{Built, Pending, column, df_schema, equality};
use super::slots::Slots;

/// The two sides of a join with their keys.
struct Sides {
    left: Pending,
    right: Pending,
    left_keys: Vec<Expr>,
    right_keys: Vec<Expr>,
}

impl Lowering<'_> {
    pub(crate) fn join(&self, node: &Join, above: Above) -> Lowered<Pending> {
        let mut sides = self.sides(node, above)?;
        if node.join_type == JoinType::Inner && (sides.left.universal || sides.right.universal) && !sides.unite(&self.slots).map_err(|e| self.internal(e))? {
            // Every pair of keys that anybody asks for, where one side has its own: too many.
            sides = self.sides(node, Above::Cut)?;
        }
        let swapped = matches!(node.join_type, JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark);
        let sides = if swapped { Sides { left: sides.right, right: sides.left, left_keys: sides.right_keys, right_keys: sides.left_keys } } else { sides };
        let has_residual = node.filter.as_ref().is_some_and(|filter| *filter != lit(true));
        if has_residual && node.join_type != JoinType::Inner {
            let what = match node.join_type {
                JoinType::Left | JoinType::Right | JoinType::Full => "an outer join",
                _ => "an EXISTS or IN",
            };
            return self.refuse(
                "on",
                format!(
                    "{what} compares both sides other than with =; it is maintained where rows are matched with = alone. Compare in a WHERE of an inner join"
                ),
            );
        }
        match node.join_type {
            JoinType::Inner => self.pairs(node, sides, JoinKind::Inner, false),
            JoinType::Left | JoinType::Right => self.pairs(node, sides, JoinKind::Left, swapped),
            JoinType::LeftSemi | JoinType::RightSemi => self.matched(sides, JoinKind::Semi),
            JoinType::LeftAnti | JoinType::RightAnti if node.null_aware => self.not_in(sides),
            JoinType::LeftAnti | JoinType::RightAnti => self.matched(sides, JoinKind::Anti),
            JoinType::LeftMark | JoinType::RightMark => self.marked(sides),
            JoinType::Full => self.full(sides),
        }
    }

    fn sides(&self, node: &Join, above: Above) -> Lowered<Sides> {
        let carried = |is_carried: bool| if is_carried { self.below(above) } else { Above::Cut };
        let (carries_left, carries_right) = match node.join_type {
            JoinType::Inner => (true, true),
            JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => (true, false),
            JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => (false, true),
            JoinType::Full => (false, false),
        };
        let left = self.ready(self.lower(&node.left, carried(carries_left))?)?;
        let right = self.ready(self.lower(&node.right, carried(carries_right))?)?;
        let (mut left_keys, mut right_keys) = (Vec::new(), Vec::new());
        for (l, r) in &node.on {
            let l = self.rebase(l, node.left.schema(), &left.columns)?;
            let r = self.rebase(r, node.right.schema(), &right.columns)?;
            let (left_type, right_type) = (left.type_of(&l).map_err(|e| self.internal(e))?, right.type_of(&r).map_err(|e| self.internal(e))?);
            let r = if left_type == right_type { r } else { cast(r, left_type.clone()) };
            if node.null_equality == NullEquality::NullEqualsNull {
                // Nulls that are equal: a key of whether it is null, and of a value that stands for null.
                let default = ScalarValue::new_default(&left_type).map_err(|e| self.internal(e))?;
                for (expr, keys) in [(l, &mut left_keys), (r, &mut right_keys)] {
                    let value = when(expr.clone().is_null(), lit(default.clone())).otherwise(expr.clone()).map_err(|e| self.internal(e))?;
                    keys.extend([expr.is_null(), value]);
                }
            } else {
                left_keys.push(l);
                right_keys.push(r);
            }
        }
        Ok(Sides { left, right, left_keys, right_keys })
    }

    /// Inner and outer joins.
    fn pairs(&self, node: &Join, mut sides: Sides, kind: JoinKind, swapped: bool) -> Lowered<Pending> {
        sides.prepare(kind == JoinKind::Inner, &self.slots).map_err(|e| self.internal(e))?;
        let keys = sides.left_keys.len();
        let left = self.keyed(sides.left, sides.left_keys)?;
        let right = self.keyed(sides.right, sides.right_keys)?;
        let width = left.built.width();
        let built = joined(left.built.clone(), right.built.clone(), keys, kind);
        let from_right = |index: usize| column(width + index);
        let right_shown: Vec<Expr> = right.shown.iter().map(|index| from_right(*index)).collect();
        let mut pending = left.over(built);
        pending.columns =
            if swapped { right_shown.into_iter().chain(pending.columns).collect() } else { pending.columns.into_iter().chain(right_shown).collect() };
        pending.params.extend(right.params.iter().map(|param| param.over(from_right(param.expr))));
        pending.universal |= right.universal;
        // Rows of two groupings belong to both groups; a row of a table beside them is its own.
        pending.key = match (pending.key, right.key) {
            (Some(left), Some(right)) => Some(left.into_iter().chain(right.into_iter().map(|(name, index)| (name, from_right(index)))).collect()),
            _ => None,
        };
        for condition in node.filter.iter().flat_map(split_conjunction) {
            let condition = self.rebase(condition, &node.left.schema().join(node.right.schema()).map_err(|e| self.internal(e))?, &pending.columns)?;
            self.add_condition(&mut pending, condition)?;
        }
        Ok(pending)
    }

    /// Rows of both sides: pairs, left rows without a partner, and right rows without one.
    fn full(&self, mut sides: Sides) -> Lowered<Pending> {
        // A row of one side has nothing of the other, so that conditions of neither hold for all rows.
        sides.left.restore_params(&self.slots);
        sides.right.restore_params(&self.slots);
        let keys = sides.left_keys.len();
        let left = self.keyed(sides.left, sides.left_keys)?;
        let right = self.keyed(sides.right, sides.right_keys)?;
        let nulls = left.built.relation.schema.fields().iter().map(|field| ScalarValue::try_from(field.data_type()).map(|null| Expr::Literal(null, None)));
        let nulls = nulls.collect::<Result<Vec<_>, _>>().map_err(|e| self.internal(e))?;
        let (width, right_width) = (left.built.width(), right.built.width());
        let alone = Pending::node(joined(right.built.clone(), left.built.clone(), keys, JoinKind::Anti));
        let alone = alone.build(nulls.into_iter().chain((0..right_width).map(column)).collect()).map_err(|e| self.internal(e))?;
        let built = united(vec![joined(left.built.clone(), right.built.clone(), keys, JoinKind::Left), alone]);
        let from_right = |index: usize| column(width + index);
        let right_shown: Vec<Expr> = right.shown.iter().map(|index| from_right(*index)).collect();
        let mut pending = left.over(built);
        pending.columns.extend(right_shown);
        pending.key = match (pending.key, right.key) {
            (Some(left), Some(right)) => Some(left.into_iter().chain(right.into_iter().map(|(name, index)| (name, from_right(index)))).collect()),
            _ => None,
        };
        Ok(pending)
    }

    fn keyed(&self, side: Pending, keys: Vec<Expr>) -> Lowered<Kept> {
        // Two keys may be the same expression: the columns in front are taken as they are.
        let count = keys.len();
        let kept = self.keep(side, keys, Vec::new(), &[])?;
        debug_assert!(kept.built.width() >= count);
        Ok(kept)
    }

    /// Left rows with, or without, a partner.
    fn matched(&self, mut sides: Sides, kind: JoinKind) -> Lowered<Pending> {
        sides.prepare(false, &self.slots).map_err(|e| self.internal(e))?;
        let keys = sides.left_keys.len();
        let left = self.keyed(sides.left, sides.left_keys)?;
        let right = sides.right.build(sides.right_keys).map_err(|e| self.internal(e))?;
        let built = joined(left.built.clone(), right, keys, kind);
        Ok(left.over(built))
    }

    /// Left rows, with a column that says whether they have a partner.
    fn marked(&self, mut sides: Sides) -> Lowered<Pending> {
        sides.prepare(false, &self.slots).map_err(|e| self.internal(e))?;
        let keys = sides.left_keys.len();
        let left = self.keyed(sides.left, sides.left_keys)?;
        let right = sides.right.build(sides.right_keys).map_err(|e| self.internal(e))?;
        let width = left.built.width();
        let half = |kind, mark: bool| {
            let columns = (0..width).map(column).chain([lit(mark)]).collect();
            Pending::node(joined(left.built.clone(), right.clone(), keys, kind)).build(columns).map_err(|e| self.internal(e))
        };
        let built = united(vec![half(JoinKind::Semi, true)?, half(JoinKind::Anti, false)?]);
        let mut pending = left.over(built);
        pending.columns.push(column(width));
        Ok(pending)
    }

    /// `NOT IN`: as NOT EXISTS, but nothing is left where the right side has a null, and a null on the left is left only where
    /// the right side is empty.
    fn not_in(&self, mut sides: Sides) -> Lowered<Pending> {
        // The conditions of the right side stay: they decide about its nulls, too, which have no key to be said of.
        sides.left.extract_params(&self.slots).map_err(|e| self.internal(e))?;
        let [left_key] = &sides.left_keys[..] else { return self.refuse("in", "NOT IN over more than one column is not maintained; write NOT EXISTS") };
        let nullable = |side: &Pending, key: &Expr| -> Lowered<bool> {
            let schema = df_schema(&side.base.schema()).map_err(|e| self.internal(e))?;
            key.nullable(&schema).map_err(|e| self.internal(e))
        };
        let left_is_nullable = nullable(&sides.left, left_key)?;
        let left = self.keyed(sides.left, sides.left_keys)?;
        let all_right = sides.right.build(sides.right_keys).map_err(|e| self.internal(e))?;
        let width = left.built.width();
        let all = || (0..width).map(column).collect::<Vec<_>>();
        let only = |built: Built, condition: Expr, columns: Vec<Expr>| {
            let mut pending = Pending::node(built);
            pending.filter.push(condition);
            pending.build(columns).map_err(|e| self.internal(e))
        };
        let unit = |built: Built, columns: Vec<Expr>| Pending::node(built).build(columns).map_err(|e| self.internal(e));
        let key = || column(0);
        let unmatched = only(joined(left.built.clone(), all_right.clone(), 1, JoinKind::Anti), key().is_not_null(), all())?;
        let null_right = once(only(all_right.clone(), key().is_null(), vec![lit(1i64)])?);
        let mut parts = vec![joined_on_unit(unit(unmatched, [lit(1i64)].into_iter().chain(all()).collect())?, null_right)];
        if left_is_nullable {
            let null_left = only(left.built.clone(), key().is_null(), [lit(1i64)].into_iter().chain(all()).collect())?;
            parts.push(joined_on_unit(null_left, once(unit(all_right, vec![lit(1i64)])?)));
        }
        let built = united(parts);
        let mut pending = left.over(built);
        // The unit stands before the columns.
        let shift = |expr: &Expr| super::pending::position(expr).map_or_else(|| expr.clone(), |index| column(index + 1));
        pending.columns = pending.columns.iter().map(shift).collect();
        pending.params = pending.params.iter().map(|param| param.over(shift(&param.expr))).collect();
        pending.key = pending.key.map(|key| key.into_iter().map(|(name, expr)| (name, shift(&expr))).collect());
        Ok(pending)
    }
}

fn joined_on_unit(left: Built, right: Built) -> Built {
    joined(left, right, 1, JoinKind::Anti)
}

/// Each row once.
fn once(built: Built) -> Built {
    let schema = std::sync::Arc::clone(&built.relation.schema);
    Built::new(Node::Distinct(Box::new(built.relation)), schema, "distinct", &[&built.text])
}

impl Sides {
    /// Decides which conditions `expression = literal` are carried: those of the left, and those of the right where both sides are
    /// equals. A condition that says of a key what the other side says already is dropped.
    fn prepare(&mut self, carry_right: bool, slots: &Slots) -> Result<(), datafusion::error::DataFusionError> {
        self.left.extract_params(slots)?;
        let (left, pairs) = (&self.left, || self.left_keys.iter().zip(&self.right_keys));
        let said = |expr: &Expr, value: &ScalarValue| {
            let mut of_left = pairs().filter(|(_, r)| *r == expr).flat_map(|(l, _)| left.params.iter().filter(move |known| known.expr == *l));
            of_left.find(|known| known.value == *value).map(|known| known.slot)
        };
        self.right.extract_params(slots)?;
        self.right.params.retain(|param| {
            let known = said(&param.expr, &param.value);
            known.iter().for_each(|known| slots.unite(param.slot, *known));
            known.is_none()
        });
        self.right.filter.retain(|condition| equality(condition).is_none_or(|(expr, value)| said(&expr, &value).is_none()));
        if !carry_right {
            self.right.restore_params(slots);
        }
        Ok(())
    }

    /// Makes one of constants that both sides have: rows of both then belong to one key. `false` where each side has constants of its
    /// own.
    fn unite(&mut self, slots: &Slots) -> Result<bool, datafusion::error::DataFusionError> {
        self.left.extract_params(slots)?;
        self.right.extract_params(slots)?;
        let mut pairs: Vec<(usize, usize)> = Vec::new();
        for (at, param) in self.left.params.iter().enumerate() {
            let is_free = |index: &usize| self.right.params[*index].value == param.value && pairs.iter().all(|(_, taken)| taken != index);
            let same = self.right.params.get(at).map(|_| at).filter(is_free);
            pairs.extend(same.or_else(|| (0..self.right.params.len()).find(is_free)).map(|index| (at, index)));
        }
        let (all_left, all_right) = (pairs.len() == self.left.params.len(), pairs.len() == self.right.params.len());
        if !all_left && !all_right {
            return Ok(false);
        }
        for (l, r) in pairs {
            let (left, right) = (&self.left.params[l], &self.right.params[r]);
            self.left_keys.push(left.expr.clone());
            self.right_keys.push(right.expr.clone());
            if all_right { slots.unite(right.slot, left.slot) } else { slots.unite(left.slot, right.slot) }
        }
        if all_right {
            self.right.params.clear();
        } else {
            self.left.params.clear();
        }
        Ok(true)
    }
}
