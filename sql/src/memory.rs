//! The memory of a query: a share of its own within what all queries have together.

use std::fmt::{self, Display};
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{FairSpillPool, GreedyMemoryPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

/// What all queries have together.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    pool: GreedyMemoryPool,
    bytes_max: usize,
}

impl SharedMemory {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { pool: GreedyMemoryPool::new(bytes_max), bytes_max })
    }

    /// What queries take at present.
    pub(crate) fn reserved(&self) -> usize {
        self.pool.reserved()
    }
}

/// What one query has. Those of its operators that can spill share three quarters of it fairly and spill at their end; the last
/// quarter is for those that cannot, the merging of what was spilled among them: else sorts that have filled all of it could
/// neither merge nor go on.
#[derive(Debug)]
pub(crate) struct QueryMemory {
    own: FairSpillPool,
    bytes_max: usize,
    shared: Arc<SharedMemory>,
}

impl QueryMemory {
    pub(crate) fn new(bytes_max: usize, shared: &Arc<SharedMemory>) -> Self {
        Self { own: FairSpillPool::new(bytes_max / 4 * 3), bytes_max, shared: Arc::clone(shared) }
    }
}

fn mebibytes(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

impl Display for QueryMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory of a query ({} bytes of {})", self.own.reserved(), self.bytes_max)
    }
}

impl MemoryPool for QueryMemory {
    fn name(&self) -> &str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.own.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.own.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.own.grow(reservation, additional);
        self.shared.pool.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.own.shrink(reservation, shrink);
        self.shared.pool.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let exhausted = |whose: &str, used: usize, setting: &str, bytes_max: usize| {
            let (used, more, max) = (mebibytes(used), mebibytes(additional), mebibytes(bytes_max));
            let name = reservation.consumer().name();
            DataFusionError::ResourcesExhausted(format!(
                "{whose} has {used:.1} MiB, and {name} needs {more:.1} MiB more than its share of {max:.1} MiB ({setting})"
            ))
        };
        let last_quarter = !reservation.consumer().can_spill() && self.own.reserved().saturating_add(additional) <= self.bytes_max;
        if last_quarter {
            self.own.grow(reservation, additional);
        } else if self.own.try_grow(reservation, additional).is_err() {
            return Err(exhausted("it", self.own.reserved(), "query.max_bytes_per_query", self.bytes_max));
        }
        if self.shared.pool.try_grow(reservation, additional).is_err() {
            self.own.shrink(reservation, additional);
            return Err(exhausted("all queries together have", self.shared.reserved(), "query.max_bytes", self.shared.bytes_max));
        }
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.own.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_bounded_by_its_share_and_by_what_is_left() {
        let shared = SharedMemory::new(100);
        let pools: Vec<Arc<dyn MemoryPool>> = (0..2).map(|_| Arc::new(QueryMemory::new(60, &shared)) as Arc<dyn MemoryPool>).collect();
        let reserve = |pool| MemoryConsumer::new("test").register(pool);
        let (one, other) = (reserve(&pools[0]), reserve(&pools[1]));
        one.try_grow(60).unwrap();
        let refused = one.try_grow(1).unwrap_err().to_string();
        assert!(refused.contains("query.max_bytes_per_query"), "{refused}");
        other.try_grow(40).unwrap();
        let refused = other.try_grow(1).unwrap_err().to_string();
        assert!(refused.contains("(query.max_bytes)"), "{refused}");
        assert_eq!(shared.reserved(), 100);
        drop(one);
        other.try_grow(20).unwrap();
        drop(other);
        assert_eq!((shared.reserved(), pools[1].reserved()), (0, 0));
    }
}
