//! DataFusion over the tables and Flight SQL in front of it.
//!
//! A statement is planned over one snapshot of all tables and runs against that alone, on the async runtime: it never
//! touches a worker of the graph. What a caller may read is decided by its token, in the tables themselves.
//!
//! | module | noun |
//! |---|---|
//! | [`scope`] | who asks, and what of |
//! | `statement` | which statements are answered |
//! | `stored`, `tables`, `views` | what can be asked about |
//! | `deleted` | rows that nobody is shown any more |
//! | `hex_id` | ids as text |
//! | [`engine`] | planning and running within bounds |
//! | `wire` | types that every client reads |
//! | `flight`, [`client`], [`output`] | asking from outside |

pub mod client;
mod deleted;
pub mod engine;
mod flight;
mod hex_id;
pub mod output;
pub mod scope;
mod server;
mod statement;
mod stored;
mod tables;
pub mod telemetry;
mod views;
mod wire;

pub use engine::{Engine, EngineOptions, QueryError};
pub use scope::{Authenticator, Scope};
pub use server::serve;
