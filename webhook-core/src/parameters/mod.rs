//! Parameters: what a workflow declares, what a caller gives, and what a run gets.
//!
//! A workflow declares [`ParameterBlocks`]. A trigger call brings a query ([`parse_query`]) and maybe a body
//! ([`parse_body`]). [`merge()`] lays the three over each other, block default < query < body, converts every
//! declared value to its declared type, and answers either the [`Merged`] parameters, each with the [`Source`] it
//! came from, or a list of *all* problems, so that a caller mends a call in one go.
//!
//! Everything here is pure and synchronous: no clock, no store, no I/O.
//!
//! # Promises
//!
//! - Conversion never guesses. `007`, `1_000` and `1e5` are not integers, `yes` is not a boolean, and an
//!   undeclared query value stays text. The rules are the table at [`ParameterType`].
//! - Names match by exact bytes. The query name `token` is taken out while the query is parsed, so no other
//!   code sees it as a parameter; in a body `token` is an ordinary name.
//! - The value of a block marked secret appears in no problem, no `Debug` text and no serialized form of this
//!   module. Stores reach it through [`EffectiveParameters::iter`].
//! - Tokens in what a caller gives are masked before it is kept, and what looks like the beginning of one in a message.
//! - A name that is not declared and looks like one that is makes a [`ParameterWarning`].
//! - What was accepted can be stored and read back: JSON is bounded in depth and in the number of its values, and a
//!   number that would change is a problem.

mod block;
mod body;
mod convert;
mod effective;
mod json;
mod limits;
mod look_alike;
mod mask;
mod media_type;
mod merge;
mod number_literal;
mod paste;
mod problem;
mod query;
mod quotes;
mod recheck;
mod size;
mod warning;

#[cfg(test)]
mod tests;

pub use block::{
    BlockProblem, InvalidBlocks, ParameterBlock, ParameterBlocks, ParameterType, UnknownParameterType,
};
pub use body::{BodyError, BodyParameters, check_content_encoding, parse_body};
pub use effective::{EffectiveParameter, EffectiveParameters, Source};
pub use json::{StrictJsonError, read_json};
pub use limits::ParameterLimits;
pub use media_type::MediaType;
pub use merge::{Merged, merge};
pub use problem::{ParameterProblem, ProblemCode};
pub use query::{MalformedQuery, ParsedQuery, QueryParameters, parse_query};
pub use recheck::recheck;
pub(crate) use size::can_be_stored;
pub use warning::{ParameterWarning, WarningCode};
