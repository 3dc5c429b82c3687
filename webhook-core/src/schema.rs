//! JSON Schemas of values that are texts, under the feature `schema`.

/// Implements the inlined JSON Schema of a text with one keyword that restricts it.
macro_rules! text_schema {
    ($type:ident, $keyword:literal, $restriction:expr) => {
        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", $keyword: $restriction})
            }
        }
    };
}

pub(crate) use text_schema;
