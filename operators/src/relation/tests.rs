//! Templates over scripted ticks.

mod expressions;
mod operators;
