//! Tests of the whole contract over a real socket with a real HTTP client, by the axum front end.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "front/axum.rs"]
mod front;
mod suite;
mod support;
