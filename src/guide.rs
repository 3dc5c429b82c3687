//! Guides: how to embed the library, one page for each task. Their code is compiled, and runs with the tests.

#[doc = include_str!("guide/quick_start.md")]
pub mod quick_start {}

#[doc = include_str!("guide/executor.md")]
pub mod executor {}

#[doc = include_str!("guide/store.md")]
pub mod store {}

#[doc = include_str!("guide/notifier.md")]
pub mod notifier {}

#[doc = include_str!("guide/sign_in.md")]
pub mod sign_in {}

#[doc = include_str!("guide/testing.md")]
pub mod testing {}

#[doc = include_str!("guide/production.md")]
pub mod production {}

#[doc = include_str!("guide/many_machines.md")]
pub mod many_machines {}

#[doc = include_str!("guide/security.md")]
pub mod security {}
