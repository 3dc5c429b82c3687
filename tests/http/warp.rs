//! Tests of the whole contract over a real socket with a real HTTP client, by the warp front end.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "front/warp.rs"]
mod front;
mod suite;
mod support;
