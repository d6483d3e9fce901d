//! Templates over scripted ticks.

mod expressions;
mod operators;
mod random;
mod twin;
