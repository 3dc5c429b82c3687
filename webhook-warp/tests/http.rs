//! Tests of the whole contract over a real socket with a real HTTP client, by the warp front end.

#![allow(clippy::unwrap_used)]

#[path = "front/warp.rs"]
mod front;
#[path = "http/mod.rs"]
mod http;
mod support;
