//! The limits a caller's parameters are held to.

/// The deepest JSON that can be asked for. serde_json reads 127 levels; the rest is for what a store and an answer
/// put around a value, so that what was accepted can be stored, read back and shown.
pub(super) const DEEPEST_JSON: usize = 96;

/// How much a caller may send.
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
    /// The longest name of an undeclared parameter, in bytes of UTF-8. Default 128.
    ///
    /// [`merge`](super::merge()) checks it. A declared name is bounded when its workflow is loaded.
    pub name_bytes: usize,
    /// The most distinct parameter names that query and body may give together. Default 256.
    ///
    /// [`merge`](super::merge()) checks it. Members of nested JSON objects do not count.
    pub parameters: usize,
    /// The longest body, in bytes. Default 1 MiB.
    ///
    /// Whoever reads the body checks it, while the body streams in.
    pub body_bytes: usize,
    /// The longest query, in bytes as sent, the token included. Default 16 KiB.
    ///
    /// Whoever reads the request checks it, before the query is parsed.
    pub query_bytes: usize,
    /// The most levels of nested arrays and objects in JSON. Default 64; more than 96 counts as 96, so that every
    /// value that is accepted can be stored and read back. See [`read_json`](super::read_json).
    pub json_depth: usize,
    /// The most values in the JSON of one call, every array, object and item counted, and the most pairs in a form.
    /// Default 10,000.
    ///
    /// A value of a few bytes takes hundreds in memory, so the number of bytes alone bounds nothing.
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
    /// Sets the longest name of an undeclared parameter, in bytes.
    pub fn with_name_bytes(mut self, bytes: usize) -> Self {
        self.name_bytes = bytes;
        self
    }

    /// Sets the most distinct names that one call may give.
    pub fn with_parameters(mut self, parameters: usize) -> Self {
        self.parameters = parameters;
        self
    }

    /// Sets the longest body, in bytes.
    pub fn with_body_bytes(mut self, bytes: usize) -> Self {
        self.body_bytes = bytes;
        self
    }

    /// Sets the longest query, in bytes.
    pub fn with_query_bytes(mut self, bytes: usize) -> Self {
        self.query_bytes = bytes;
        self
    }

    /// Sets the most levels of nested arrays and objects in JSON.
    pub fn with_json_depth(mut self, levels: usize) -> Self {
        self.json_depth = levels;
        self
    }

    /// Sets the most values in the JSON of one call, and pairs in a form.
    pub fn with_json_values(mut self, values: usize) -> Self {
        self.json_values = values;
        self
    }

    /// The depth that counts.
    pub(super) fn depth(&self) -> usize {
        self.json_depth.min(DEEPEST_JSON)
    }
}
