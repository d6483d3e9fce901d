//! The relational database: projects, keys, tokens, commits and the lake's catalog.
