//! The distinct users of an issue: exact for a few hundred, an estimate beyond.
//!
//! The estimate is HyperLogLog with 4096 registers (standard error 1.6 %). Both forms depend only on which users were
//! added, not on the order or on how often, so every replay of the journal counts alike.

use serde::{Deserialize, Serialize};
use weir_protocol::limits::ISSUE_USERS_EXACT_MAX;

/// The users that an issue has been seen with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Users {
    /// The hashes of the users themselves, in order.
    Exact(Vec<u64>),
    /// For each register the greatest rank seen.
    Estimated(Vec<u8>),
}

const PRECISION: u32 = 12;
const REGISTERS: usize = 1 << PRECISION;

impl Default for Users {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

impl Users {
    /// Adds a user by a hash whose bits are evenly spread; says whether the count may have changed.
    pub fn add(&mut self, hash: u64) -> bool {
        match self {
            Self::Exact(hashes) => {
                let Err(at) = hashes.binary_search(&hash) else { return false };
                hashes.insert(at, hash);
                if hashes.len() > ISSUE_USERS_EXACT_MAX {
                    let mut registers = vec![0; REGISTERS];
                    hashes.iter().for_each(|hash| _ = raise(&mut registers, *hash));
                    *self = Self::Estimated(registers);
                }
                true
            }
            Self::Estimated(registers) => raise(registers, hash),
        }
    }

    /// Takes a user away. An estimate cannot forget: it stays as it is.
    pub fn remove(&mut self, hash: u64) {
        if let Self::Exact(hashes) = self
            && let Ok(at) = hashes.binary_search(&hash)
        {
            hashes.remove(at);
        }
    }

    /// How many distinct users were added.
    pub fn count(&self) -> i64 {
        match self {
            Self::Exact(hashes) => hashes.len() as i64,
            Self::Estimated(registers) => estimate(registers),
        }
    }
}

fn raise(registers: &mut [u8], hash: u64) -> bool {
    // User hashes have 63 bits; mixing spreads them over all 64 and keeps register and rank apart.
    let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (hash >> 29);
    let Some(register) = registers.get_mut((mixed >> (64 - PRECISION)) as usize) else { return false };
    let rank = ((mixed << PRECISION) | (1 << (PRECISION - 1))).leading_zeros() as u8 + 1;
    let raised = rank > *register;
    *register = (*register).max(rank);
    raised
}

fn estimate(registers: &[u8]) -> i64 {
    let m = REGISTERS as f64;
    let sum: f64 = registers.iter().map(|rank| 2f64.powi(-i32::from(*rank))).sum();
    let raw = 0.7213 / (1.0 + 1.079 / m) * m * m / sum;
    let empty = registers.iter().filter(|rank| **rank == 0).count();
    // Below 2.5 m the share of empty registers tells more (linear counting).
    let value = if raw <= 2.5 * m && empty > 0 { m * (m / empty as f64).ln() } else { raw };
    value.round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(user: u32) -> u64 {
        let bytes = blake3::hash(&user.to_le_bytes());
        u64::from_le_bytes(bytes.as_bytes()[..8].try_into().unwrap()) >> 1
    }

    #[test]
    fn few_are_counted_exactly_and_many_within_five_per_cent() {
        for distinct in [0u32, 1, 100, 512, 513, 5_000, 20_000, 200_000] {
            let mut users = Users::default();
            for user in (0..distinct).chain(0..distinct.min(300)) {
                users.add(hash(user));
            }
            let (got, want) = (users.count(), i64::from(distinct));
            let allowed = if distinct <= 512 { 0 } else { want / 20 };
            assert!((got - want).abs() <= allowed, "{got} for {want}");
        }
    }

    #[test]
    fn order_does_not_matter() {
        let count = |order: &mut dyn Iterator<Item = u32>| {
            let mut users = Users::default();
            order.for_each(|user| _ = users.add(hash(user)));
            users
        };
        assert_eq!(count(&mut (0..2_000)), count(&mut (0..2_000).rev()));
    }
}
