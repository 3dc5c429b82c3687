//! Holds the store of the example to the promises of a store.
//!
//! A test target of its own, since Cargo makes no program of an example that it tests, and `examples` starts the program.

#![allow(dead_code, reason = "the program of the example is not started here")]

#[path = "../examples/own_store.rs"]
mod own_store;
