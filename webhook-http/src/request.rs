//! Reading requests: head, query and body.

pub(crate) mod body;
pub(crate) mod head;
pub(crate) mod query;
