//! Project keys: where they are looked up, and what is remembered of them in between.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use weir_protocol::ids::{KeyId, PublicKey};
use weir_protocol::record::Project;

/// A project key that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its id.
    pub key_id: KeyId,
    /// Whether it is taken; a disabled key is answered as an unknown one.
    pub enabled: bool,
    /// The project that it belongs to.
    pub project: Project,
    /// Origins that browsers may send from (`spec/ingest.md` section 8).
    pub allowed_domains: Vec<String>,
}

/// Keys could not be looked up; the request is answered 503 unless a remembered key stands in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("project keys cannot be looked up: {0}")]
pub struct KeySourceError(pub String);

/// Where keys are looked up.
pub trait KeySource: Send + Sync + 'static {
    /// Looks a key up; `None` where there is none.
    fn key(&self, public_key: PublicKey) -> impl Future<Output = Result<Option<Key>, KeySourceError>> + Send;
}

/// How long a known key is used before it is looked up again, which bounds how long a disabled one is still taken.
const KNOWN: Duration = Duration::from_secs(60);
/// How long after that it is still used while lookups fail.
const GRACE: Duration = Duration::from_secs(600);
/// How long after a failed lookup the next one waits.
const RETRY: Duration = Duration::from_secs(2);
/// How long a key counts as unknown; short, since a project may just have been created.
const UNKNOWN: Duration = Duration::from_secs(2);
/// Remembered keys. Past it those go that are looked up again soonest.
const KNOWN_COUNT_MAX: usize = 100_000;
/// Remembered unknown keys, apart from the known ones so that made-up keys push no real one out.
const UNKNOWN_COUNT_MAX: usize = 10_000;

/// A source of keys with a memory.
#[derive(Debug)]
pub(crate) struct KeyCache<K> {
    source: K,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    known: HashMap<PublicKey, Known>,
    /// Until when they count as unknown.
    unknown: HashMap<PublicKey, Instant>,
}

#[derive(Debug, Clone)]
struct Known {
    key: Arc<Key>,
    /// Until when no lookup is needed.
    fresh_until: Instant,
    /// Until when it stands in for a lookup that fails.
    usable_until: Instant,
}

impl<K: KeySource> KeyCache<K> {
    pub(crate) fn new(source: K) -> Self {
        Self { source, memory: Mutex::new(Memory::default()) }
    }

    /// The key, remembered or looked up. `now` is the time of the request.
    pub(crate) async fn key(&self, public_key: PublicKey, now: Instant) -> Result<Option<Arc<Key>>, KeySourceError> {
        if let Some(remembered) = self.memory().recall(public_key, now) {
            return Ok(remembered);
        }
        // Of a remembered key one request asks, and the others go on with it: the catalog may take seconds to say that it is away.
        self.memory().defer(public_key, now);
        let asked = Instant::now();
        let found = self.source.key(public_key).await;
        // A lookup that took long counts from its end.
        let now = now + Some(asked.elapsed()).filter(|took| *took >= RETRY).unwrap_or_default();
        match found {
            Ok(found) => Ok(self.memory().learn(public_key, found, now)),
            Err(error) => {
                let stale = self.memory().stand_in(public_key, now);
                if stale.is_some() {
                    tracing::warn!(%error, %public_key, "using a remembered project key");
                }
                stale.map(Some).ok_or(error)
            }
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Every change is a single insertion or removal, so a panic elsewhere leaves nothing half done.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// What is known without a lookup: a key, that there is none, or nothing.
    fn recall(&self, public_key: PublicKey, now: Instant) -> Option<Option<Arc<Key>>> {
        if let Some(known) = self.known.get(&public_key).filter(|known| now < known.fresh_until) {
            return Some(Some(Arc::clone(&known.key)));
        }
        self.unknown.get(&public_key).filter(|until| now < **until).map(|_| None)
    }

    fn learn(&mut self, public_key: PublicKey, found: Option<Key>, now: Instant) -> Option<Arc<Key>> {
        let Some(key) = found.map(Arc::new) else {
            self.known.remove(&public_key);
            make_room(&mut self.unknown, UNKNOWN_COUNT_MAX, |until| *until, now);
            self.unknown.insert(public_key, now + UNKNOWN);
            return None;
        };
        self.unknown.remove(&public_key);
        make_room(&mut self.known, KNOWN_COUNT_MAX, |known| known.usable_until, now);
        let known = Known { key: Arc::clone(&key), fresh_until: now + KNOWN, usable_until: now + KNOWN + GRACE };
        self.known.insert(public_key, known);
        Some(key)
    }

    /// Lets a key that has to be looked up again be used as it is for a while.
    fn defer(&mut self, public_key: PublicKey, now: Instant) {
        if let Some(known) = self.known.get_mut(&public_key).filter(|known| now < known.usable_until) {
            known.fresh_until = now + RETRY;
        }
    }

    /// A known key in place of a lookup that failed.
    fn stand_in(&mut self, public_key: PublicKey, now: Instant) -> Option<Arc<Key>> {
        let known = self.known.get_mut(&public_key).filter(|known| now < known.usable_until)?;
        known.fresh_until = now + RETRY;
        Some(Arc::clone(&known.key))
    }
}

/// Where the map is full, removes what has expired; where that does not help, the half that expires first.
fn make_room<V>(map: &mut HashMap<PublicKey, V>, count_max: usize, until: impl Fn(&V) -> Instant, now: Instant) {
    if map.len() < count_max {
        return;
    }
    map.retain(|_, value| now < until(value));
    if map.len() >= count_max {
        let mut ends: Vec<Instant> = map.values().map(&until).collect();
        let middle = ends.len() / 2;
        let (_, median, _) = ends.select_nth_unstable(middle);
        let median = *median;
        map.retain(|_, value| until(value) > median);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    type Answer = Result<Option<Key>, KeySourceError>;

    /// Answers what it was told to, in that order; a lookup too many fails the test.
    struct Scripted(Mutex<VecDeque<Answer>>);

    impl KeySource for Scripted {
        async fn key(&self, _: PublicKey) -> Answer {
            self.0.lock().unwrap().pop_front().expect("no further lookup")
        }
    }

    fn key(key_id: u64) -> Key {
        let project = Project { org_id: 1, project_id: 1, slug: "shop".to_owned(), retention_days: 90 };
        Key { key_id, enabled: true, project, allowed_domains: vec!["*".to_owned()] }
    }

    /// Asks at the given seconds and compares the ids of the keys found (0 for none, −1 for an error); the script must be used up.
    async fn check(script: Vec<Answer>, asked: &[(u64, i64)]) {
        let cache = KeyCache::new(Scripted(Mutex::new(script.into())));
        let start = Instant::now();
        for &(second, want) in asked {
            let got = match cache.key(PublicKey([1; 16]), start + Duration::from_secs(second)).await {
                Ok(Some(key)) => key.key_id as i64,
                Ok(None) => 0,
                Err(_) => -1,
            };
            assert_eq!(got, want, "at {second} s of {asked:?}");
        }
        assert_eq!(cache.source.0.lock().unwrap().len(), 0, "lookups left after {asked:?}");
    }

    #[tokio::test]
    async fn keys_are_remembered_for_a_while() {
        let broken = || Err(KeySourceError("broken".to_owned()));
        check(vec![Ok(Some(key(5)))], &[(0, 5), (1, 5), (59, 5)]).await;
        check(vec![Ok(Some(key(5))), Ok(Some(key(6)))], &[(0, 5), (60, 6), (119, 6)]).await;
        check(vec![Ok(None), Ok(Some(key(5)))], &[(0, 0), (1, 0), (2, 5), (3, 5)]).await;
        check(vec![Ok(Some(key(5))), Ok(None), Ok(None)], &[(0, 5), (60, 0), (61, 0), (62, 0)]).await;
        check(vec![broken(), Ok(Some(key(5)))], &[(0, -1), (0, 5)]).await;
        check(vec![Ok(Some(key(5))), broken(), broken(), Ok(Some(key(6)))], &[(0, 5), (60, 5), (61, 5), (62, 5), (64, 6)]).await;
        check(vec![Ok(Some(key(5))), broken()], &[(0, 5), (660, -1)]).await;
    }

    /// Answers the first lookup, and never again.
    struct Silent(Mutex<Option<Answer>>);

    impl KeySource for Silent {
        async fn key(&self, _: PublicKey) -> Answer {
            let answer = self.0.lock().unwrap().take();
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        }
    }

    #[tokio::test]
    async fn one_request_waits_for_a_source_that_does_not_answer_and_the_others_do_not() {
        let cache = Arc::new(KeyCache::new(Silent(Mutex::new(Some(Ok(Some(key(5))))))));
        let (id, start) = (PublicKey([1; 16]), Instant::now());
        cache.key(id, start).await.unwrap();
        let late = start + Duration::from_secs(60);
        let waiting = tokio::spawn({
            let cache = Arc::clone(&cache);
            async move { cache.key(id, late).await }
        });
        while cache.memory().recall(id, late).is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(cache.key(id, late).await.unwrap().map(|key| key.key_id), Some(5));
        assert!(!waiting.is_finished());
        waiting.abort();
    }

    #[test]
    fn memory_is_bounded() {
        let now = Instant::now();
        let mut memory = Memory::default();
        for n in 0..UNKNOWN_COUNT_MAX as u64 + 5 {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&n.to_le_bytes());
            memory.learn(PublicKey(id), None, now + Duration::from_micros(n));
        }
        assert!(memory.unknown.len() <= UNKNOWN_COUNT_MAX / 2 + 5, "{} remembered", memory.unknown.len());
        let last = PublicKey::NIL;
        memory.learn(last, None, now + Duration::from_secs(1));
        assert_eq!(memory.recall(last, now + Duration::from_secs(1)), Some(None), "the newest stays");
    }
}
