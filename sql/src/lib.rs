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
//! | `functions` | what the field counts |
//! | `session` | what statements are planned with |
//! | [`engine`] | planning and running within bounds |
//! | `running`, `memory`, `stream` | queries that run, their memory, their rows |
//! | `wire` | types that every client reads |
//! | [`subscription`] | queries that are kept up to date |
//! | `flight`, [`client`], [`output`] | asking from outside |

mod checked;
pub mod client;
mod deleted;
pub mod engine;
mod error;
mod flight;
mod functions;
mod hex_id;
mod memory;
pub mod output;
mod running;
pub mod scope;
mod scoped;
mod server;
mod session;
mod statement;
mod stored;
mod stream;
pub mod subscription;
mod tables;
pub mod telemetry;
#[cfg(test)]
mod tests;
mod views;
mod wire;

pub use engine::{Engine, EngineOptions, QueryError};
pub use scope::{Authenticator, Scope};
pub use server::serve;
pub use statement::PLANNING_STACK_BYTES;
