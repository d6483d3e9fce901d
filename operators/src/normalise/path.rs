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

    /// The keys from the event down.
    pub fn segments(&self) -> Vec<String> {
        let mut segments = Vec::new();
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
}
