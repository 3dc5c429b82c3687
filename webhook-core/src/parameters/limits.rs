//! Limits on the parameters of a call.

/// Upper bound on the nesting that [`ParameterLimits::json_depth`] allows.
///
/// serde_json reads 127 levels. The rest is for the levels that a store or an answer adds around a value, so
/// an accepted value can be stored, read back and shown.
pub(super) const DEEPEST_JSON: usize = 96;

/// Limits on what a caller may send.
///
/// ```
/// use webhook_core::parameters::ParameterLimits;
///
/// let limits = ParameterLimits::default().with_json_depth(8);
/// assert_eq!(limits.json_depth, 8);
/// assert_eq!(limits.body_bytes, 1024 * 1024);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParameterLimits {
    /// Upper bound on the name of an undeclared parameter, in bytes of UTF-8. Default: 128.
    ///
    /// [`merge`](super::merge()) checks it. A declared name is checked when its workflow is loaded.
    pub name_bytes: usize,
    /// Upper bound on the distinct parameter names in query and body together. Default: 256.
    ///
    /// [`merge`](super::merge()) checks it. Members of nested JSON objects do not count.
    pub parameters: usize,
    /// Upper bound on the body, in bytes. Default: 1 MiB.
    ///
    /// The reader of the body checks it while the body streams in.
    pub body_bytes: usize,
    /// Upper bound on the query, in bytes as sent, the token included. Default: 16 KiB.
    ///
    /// The reader of the request checks it before the query is parsed.
    pub query_bytes: usize,
    /// Upper bound on the nesting of arrays and objects in JSON, in levels. Default: 64.
    ///
    /// A value above 96 counts as 96, so that every accepted value can be stored and read back. See
    /// [`read_json`](super::read_json).
    pub json_depth: usize,
    /// Upper bound on the JSON values of one call, including arrays and objects, and on the pairs of a form.
    /// Default: 10,000.
    ///
    /// A value of a few bytes takes hundreds of bytes in memory, so a bound on the bytes alone is not enough.
    pub json_values: usize,
}

impl Default for ParameterLimits {
    fn default() -> Self {
        Self {
            name_bytes: 128,
            parameters: 256,
            body_bytes: 1024 * 1024,
            query_bytes: 16 * 1024,
            json_depth: 64,
            json_values: 10_000,
        }
    }
}

impl ParameterLimits {
    /// Sets the upper bound on the name of an undeclared parameter, in bytes.
    pub fn with_name_bytes(mut self, bytes: usize) -> Self {
        self.name_bytes = bytes;
        self
    }

    /// Sets the upper bound on the distinct names of one call.
    pub fn with_parameters(mut self, parameters: usize) -> Self {
        self.parameters = parameters;
        self
    }

    /// Sets the upper bound on the body, in bytes.
    pub fn with_body_bytes(mut self, bytes: usize) -> Self {
        self.body_bytes = bytes;
        self
    }

    /// Sets the upper bound on the query, in bytes.
    pub fn with_query_bytes(mut self, bytes: usize) -> Self {
        self.query_bytes = bytes;
        self
    }

    /// Sets the upper bound on the nesting of arrays and objects in JSON, in levels.
    pub fn with_json_depth(mut self, levels: usize) -> Self {
        self.json_depth = levels;
        self
    }

    /// Sets the upper bound on the JSON values of one call, and on the pairs of a form.
    pub fn with_json_values(mut self, values: usize) -> Self {
        self.json_values = values;
        self
    }

    /// Returns the effective bound on nesting: `json_depth`, at most 96.
    pub(super) fn depth(&self) -> usize {
        self.json_depth.min(DEEPEST_JSON)
    }
}
