//! Parameters: declared by a workflow, given by a caller, merged for a run.
//!
//! A workflow declares [`ParameterBlocks`]. A trigger call brings a query ([`parse_query`]) and perhaps a
//! body ([`parse_body`]).
//! [`merge()`] combines the three: the body overrides the query, and the query overrides the default of a block. It converts each declared value to its declared type.
//! The result is either [`Merged`] parameters, each with its [`Source`], or a list of *all* problems, so that
//! the caller corrects the call in one go.
//!
//! This module is pure and synchronous: no clock, no store, no I/O.
//!
//! # Promises
//!
//! - Conversion never guesses. `007`, `1_000` and `1e5` are not integers, `yes` is not a boolean, and an
//!   undeclared query value stays text. The rules are the table at [`ParameterType`].
//! - Names match by exact bytes. The query name `token` is removed while the query is parsed, so no other
//!   code sees it as a parameter. In a body, `token` is an ordinary name.
//! - The value of a secret block appears in no problem, no `Debug` text and no serialized form of this
//!   module. Stores reach it through [`EffectiveParameters::iter`].
//! - Tokens in a caller's names and values are masked before they are kept. In a message, even the apparent
//!   beginning of a token is masked.
//! - An undeclared name that looks like a declared one gives a [`ParameterWarning`].
//! - Every accepted value can be stored and read back. JSON is bounded in depth and in the number of its
//!   values, and a number that would change is a problem.

mod block;
mod blocks;
mod body;
mod body_error;
mod convert;
mod effective;
mod given;
mod json;
mod limits;
mod look_alike;
mod mask;
mod media_type;
mod merge;
mod multipart;
mod number_literal;
mod overlay;
mod paste;
mod payload;
mod pointer;
mod problem;
mod query;
mod quotes;
mod recheck;
mod size;
mod types;
mod warning;

#[cfg(test)]
mod tests;

pub use block::ParameterBlock;
pub use blocks::{BlockProblem, InvalidBlocks, ParameterBlocks};
pub use body::{BodyParameters, check_content_encoding, parse_body};
pub use body_error::BodyError;
pub use effective::{EffectiveParameter, EffectiveParameters, Source, UnfitParameters};
pub(crate) use json::is_parameter_name;
pub use json::{StrictJsonError, read_json};
pub use limits::ParameterLimits;
pub use media_type::MediaType;
pub use merge::{Merged, merge, merge_over};
pub use overlay::{Overlay, PassThrough};
pub use payload::{Payload, PayloadForms, parse_payload};
pub use pointer::{InvalidPointer, Pointer};
pub use problem::{ParameterProblem, ProblemCode};
pub use query::{MalformedQuery, ParsedQuery, QueryParameters, parse_query};
pub use recheck::recheck;
pub(crate) use size::can_be_stored;
pub use types::{ParameterType, UnknownParameterType};
pub use warning::{ParameterWarning, WarningCode};
