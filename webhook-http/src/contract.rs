//! The HTTP contract: the table of operations and what is derived from it, problems and wire types.

pub(crate) mod fields;
pub(crate) mod links;
pub(crate) mod openapi;
pub(crate) mod operation;
pub(crate) mod operations;
pub(crate) mod problem;
pub(crate) mod route;
pub(crate) mod slug;
pub(crate) mod template;
pub(crate) mod wire;
