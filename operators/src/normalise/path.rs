//! Where a value stands in an event: a list on the stack that costs nothing until something is wrong there.

/// A place, from the event down.
#[derive(Debug, Clone, Copy)]
pub enum Path<'p> {
    /// The event itself.
    Root,
    /// A member of an object.
    Key(&'p Path<'p>, &'p str),
    /// An element of a list.
    Index(&'p Path<'p>, usize),
}

impl<'p> Path<'p> {
    /// A member of the object that stands here.
    pub fn key(&'p self, key: &'p str) -> Path<'p> {
        Path::Key(self, key)
    }

    /// An element of the list that stands here.
    pub fn index(&'p self, index: usize) -> Path<'p> {
        Path::Index(self, index)
    }

    /// How many keys lead here.
    pub fn depth(&self) -> usize {
        match self {
            Path::Root => 0,
            Path::Key(parent, _) | Path::Index(parent, _) => parent.depth() + 1,
        }
    }

    /// What [`Self::segments`] takes, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Path::Root => 0,
            Path::Key(parent, key) => parent.bytes() + key.len() + EACH_KEY_BYTES,
            Path::Index(parent, index) => parent.bytes() + Digits::of(*index).as_str().len() + EACH_KEY_BYTES,
        }
    }

    /// Whether these are the keys from the event down to here.
    pub fn is(&self, keys: &[String]) -> bool {
        match (self, keys.split_last()) {
            (Path::Root, last) => last.is_none(),
            // From here up: places differ at their ends more often than at their beginnings.
            (Path::Key(parent, key), Some((last, above))) => last == key && parent.is(above),
            (Path::Index(parent, index), Some((last, above))) => last == Digits::of(*index).as_str() && parent.is(above),
            (_, None) => false,
        }
    }

    /// Whether the keys lead here, or through here further down.
    pub fn begins(&self, keys: &[String]) -> bool {
        keys.get(..self.depth()).is_some_and(|above| self.is(above))
    }

    /// A number that is the same for the same place.
    pub fn hash(&self) -> u64 {
        match self {
            Path::Root => ROOT_HASH,
            Path::Key(parent, key) => below(parent.hash(), key),
            Path::Index(parent, index) => below(parent.hash(), Digits::of(*index).as_str()),
        }
    }

    /// The keys from the event down.
    pub fn segments(&self) -> Vec<String> {
        let mut segments = Vec::with_capacity(self.depth());
        let mut place = self;
        loop {
            match place {
                Path::Root => break,
                Path::Key(parent, key) => {
                    segments.push((*key).to_owned());
                    place = parent;
                }
                Path::Index(parent, index) => {
                    segments.push(index.to_string());
                    place = parent;
                }
            }
        }
        segments.reverse();
        segments
    }
}

/// What a key takes beside its text.
pub const EACH_KEY_BYTES: usize = 24;
/// Where hashes begin, and what they are multiplied by: FNV-1a of 64 bits.
const ROOT_HASH: u64 = 0xcbf2_9ce4_8422_2325;
const HASH_FACTOR: u64 = 0x0100_0000_01b3;
/// Of a longer key the hash tells the beginning and the length only: a key may be as long as an event, with thousands of places
/// below it.
const HASHED_BYTES_MAX: usize = 48;

fn below(parent: u64, key: &str) -> u64 {
    let hashed = &key.as_bytes()[..key.len().min(HASHED_BYTES_MAX)];
    let step = |hash: u64, byte: u64| (hash ^ byte).wrapping_mul(HASH_FACTOR);
    step(hashed.iter().fold(parent, |hash, byte| step(hash, u64::from(*byte))), 0x100 + key.len() as u64)
}

/// The hash of a place, as [`Path::hash`].
pub fn hash(keys: &[&str]) -> u64 {
    keys.iter().fold(ROOT_HASH, |parent, key| below(parent, key))
}

/// The hashes of all places from the event down to one.
pub fn hashes(keys: &[String]) -> impl Iterator<Item = u64> {
    let below = keys.iter().scan(ROOT_HASH, |hash, key| {
        *hash = below(*hash, key);
        Some(*hash)
    });
    std::iter::once(ROOT_HASH).chain(below)
}

/// A number's decimal digits, without a place on the heap.
struct Digits {
    text: [u8; 20],
    from: usize,
}

impl Digits {
    fn of(mut number: usize) -> Self {
        let mut digits = Self { text: [b'0'; 20], from: 20 };
        loop {
            digits.from -= 1;
            digits.text[digits.from] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return digits;
            }
        }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[self.from..]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_the_event_down() {
        let values = Path::Root.key("exception");
        let first = values.index(0);
        assert_eq!(first.key("type").segments(), ["exception", "0", "type"]);
        assert!(Path::Root.segments().is_empty());
    }

    #[test]
    fn a_place_is_known_by_its_keys() {
        let values = Path::Root.key("values");
        for index in [0, 9, 10, 123, usize::MAX] {
            let place = values.index(index);
            let keys = place.segments();
            assert!(place.is(&keys) && place.begins(&keys) && values.begins(&keys) && Path::Root.begins(&keys), "{keys:?}");
            assert!(!values.is(&keys) && !place.key("x").begins(&keys) && !values.index(index ^ 1).is(&keys), "{keys:?}");
            assert_eq!(hashes(&keys).collect::<Vec<_>>(), [Path::Root.hash(), values.hash(), place.hash()]);
            assert_eq!((place.depth(), place.bytes()), (2, "values".len() + keys[1].len() + 2 * EACH_KEY_BYTES));
            assert_eq!(hash(&keys.iter().map(String::as_str).collect::<Vec<_>>()), place.hash());
        }
        assert_ne!(Path::Root.key("ab").hash(), Path::Root.key("a").key("b").hash());
        assert_ne!(Path::Root.key(&"k".repeat(100)).hash(), Path::Root.key(&"k".repeat(101)).hash());
    }
}
