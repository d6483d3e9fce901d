//! The events: keys that look random and are the same each time, times a little before their tick.

/// Between two ticks.
pub const TICK_MS: u64 = 100;
/// How long an event counts.
pub const LOWER_MS: u64 = 60_000;
/// The grain in which events leave the window.
pub const PANE_MS: u64 = 1_000;
/// How far before its tick an event happened.
const AGE_MS: i64 = 10;
const START_MS: u64 = 1_000_000;

/// The events of a tick, by column.
pub struct Tick {
    /// Unix milliseconds.
    pub ms: u64,
    /// What is grouped by.
    pub keys: Vec<i64>,
    /// When each happened.
    pub times: Vec<i64>,
    /// What is summed.
    pub values: Vec<i64>,
}

/// All events.
pub struct Events {
    keys: i64,
    state: u64,
    tick: Tick,
}

impl Events {
    /// So many events a tick over so many keys.
    pub fn new(keys: i64, per_tick: usize) -> Self {
        Self { keys, state: 42, tick: Tick { ms: START_MS, keys: vec![0; per_tick], times: vec![0; per_tick], values: vec![0; per_tick] } }
    }

    /// The next tick's.
    pub fn next_tick(&mut self) -> &Tick {
        self.tick.ms += TICK_MS;
        for at in 0..self.tick.keys.len() {
            self.tick.keys[at] = (self.random() % self.keys as u64) as i64;
            self.tick.values[at] = (self.random() % 1_000) as i64;
            self.tick.times[at] = self.tick.ms as i64 - AGE_MS;
        }
        &self.tick
    }

    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.state >> 33
    }
}
