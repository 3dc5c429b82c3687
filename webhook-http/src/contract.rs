//! The HTTP contract: paths, operations, problems and wire types, and their description for programs.

pub(crate) mod openapi;
pub(crate) mod problem;
pub(crate) mod route;
pub(crate) mod wire;
