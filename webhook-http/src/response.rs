//! Builds answers.

pub(crate) mod answer;
pub(crate) mod body;
