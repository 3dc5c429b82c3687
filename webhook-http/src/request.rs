//! Reading requests: head, headers, query and body.

pub(crate) mod body;
pub(crate) mod head;
pub(crate) mod headers;
pub(crate) mod query;
