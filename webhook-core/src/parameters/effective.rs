//! Effective parameters of a run, each with its source.

use std::cell::Cell;
use std::collections::{BTreeMap, btree_map};
use std::fmt;

use serde::de::DeserializeOwned;
use serde::de::value::MapDeserializer;
use serde::ser::{Serialize, SerializeStruct, Serializer};
use serde_json::Value;

use super::problem::MASKED;

/// Parameters of one run, ordered by name.
///
/// The serialized form masks secret values. It suits answers, panels and notifications, but no store: a store
/// uses [`iter`](Self::iter) and seals secret values.
///
/// ```
/// use webhook_core::parameters::{EffectiveParameter, EffectiveParameters, Source};
///
/// let mut parameters = EffectiveParameters::new();
/// parameters.insert("region", EffectiveParameter::new("EMEA", Source::Query));
/// parameters.insert("password", EffectiveParameter::new("hunter2", Source::Default).secret());
/// assert_eq!(
///     serde_json::to_string(&parameters)?,
///     r#"{"password":{"value":"***","source":"default"},"region":{"value":"EMEA","source":"query"}}"#
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EffectiveParameters {
    by_name: BTreeMap<String, EffectiveParameter>,
}

/// One parameter of a run.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct EffectiveParameter {
    /// The value, converted if the parameter is declared. Not masked.
    pub value: Value,
    /// Source of the value.
    pub source: Source,
    /// True if the value must be sealed at rest and masked wherever it is shown.
    pub secret: bool,
}

/// Source of a parameter's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Source {
    /// Default of its block.
    Default,
    /// Query of the call.
    Query,
    /// Body of the call, JSON or form.
    Body,
    /// Mapping of the webhook, which takes the value from the call.
    Mapping,
    /// Fixed parameters of the webhook.
    Fixed,
}

impl Source {
    /// Returns the text on the wire, such as `default`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Query => "query",
            Self::Body => "body",
            Self::Mapping => "mapping",
            Self::Fixed => "fixed",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl EffectiveParameters {
    /// Returns an empty set of parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the parameter `name`, and returns the previous one of this name.
    pub fn insert(
        &mut self,
        name: impl Into<String>,
        parameter: EffectiveParameter,
    ) -> Option<EffectiveParameter> {
        self.by_name.insert(name.into(), parameter)
    }

    /// Returns the parameter `name`.
    pub fn get(&self, name: &str) -> Option<&EffectiveParameter> {
        self.by_name.get(name)
    }

    /// Iterates over the parameters, ordered by name. The values are not masked.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &EffectiveParameter)> {
        self.by_name.iter().map(|(name, parameter)| (name.as_str(), parameter))
    }

    /// Iterates over names and plain values, ordered by name, for an executor. The values are not masked.
    pub fn values(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.by_name.iter().map(|(name, parameter)| (name.as_str(), &parameter.value))
    }

    /// Reads the values into a type of the host's own, by name.
    ///
    /// A parameter that may be absent is an `Option`. Names that the type does not have are ignored.
    /// In [`execute`](crate::executor::Executor::execute), `?` makes the error fatal.
    ///
    /// ```
    /// use webhook_core::parameters::{EffectiveParameter, EffectiveParameters, Source};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Invoice {
    ///     customer: String,
    ///     months: u8,
    ///     note: Option<String>,
    /// }
    ///
    /// let mut parameters = EffectiveParameters::new();
    /// parameters.insert("customer", EffectiveParameter::new("ACME", Source::Query));
    /// parameters.insert("months", EffectiveParameter::new(3, Source::Default));
    /// let invoice: Invoice = parameters.parse()?;
    /// assert_eq!((invoice.customer.as_str(), invoice.months, invoice.note), ("ACME", 3, None));
    ///
    /// parameters.insert("months", EffectiveParameter::new(300, Source::Body));
    /// let error = parameters.parse::<Invoice>().map(|_| ()).unwrap_err();
    /// assert_eq!(error.to_string(), "parameter months: invalid value: integer `300`, expected u8");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Fails with [`UnfitParameters`] if the type cannot hold them. Its text names the parameter, and has no secret value.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, UnfitParameters> {
        let reading = Cell::new(None);
        let mut rest = self.by_name.iter();
        let values = std::iter::from_fn(|| {
            let next = rest.next();
            reading.set(next);
            next.map(|(name, parameter)| (name.as_str(), &parameter.value))
        });
        T::deserialize(MapDeserializer::new(values)).map_err(|error: serde_json::Error| match reading.get() {
            Some((name, parameter)) if parameter.secret => {
                UnfitParameters(format!("parameter {name} has another type"))
            }
            Some((name, _)) => UnfitParameters(format!("parameter {name}: {error}")),
            // The name of a field is no value.
            None if error.to_string().starts_with("missing field") => UnfitParameters(error.to_string()),
            None if self.by_name.values().any(|parameter| parameter.secret) => {
                UnfitParameters("the parameters do not have the expected form".to_owned())
            }
            None => UnfitParameters(error.to_string()),
        })
    }

    /// Returns the number of parameters.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Returns whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

/// Error: a type of the host's own cannot hold the parameters of a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnfitParameters(String);

impl EffectiveParameter {
    /// Holds a value that is not secret.
    pub fn new(value: impl Into<Value>, source: Source) -> Self {
        Self { value: value.into(), source, secret: false }
    }

    /// Marks the value as secret.
    pub fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

impl fmt::Debug for EffectiveParameter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = formatter.debug_struct("EffectiveParameter");
        if self.secret {
            fields.field("value", &MASKED);
        } else {
            fields.field("value", &self.value);
        }
        fields.field("source", &self.source).field("secret", &self.secret).finish()
    }
}

impl Serialize for EffectiveParameter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("EffectiveParameter", 2)?;
        if self.secret {
            fields.serialize_field("value", MASKED)?;
        } else {
            fields.serialize_field("value", &self.value)?;
        }
        fields.serialize_field("source", &self.source)?;
        fields.end()
    }
}

impl Serialize for EffectiveParameters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(&self.by_name)
    }
}

impl FromIterator<(String, EffectiveParameter)> for EffectiveParameters {
    fn from_iter<I: IntoIterator<Item = (String, EffectiveParameter)>>(parameters: I) -> Self {
        Self { by_name: parameters.into_iter().collect() }
    }
}

impl IntoIterator for EffectiveParameters {
    type Item = (String, EffectiveParameter);
    type IntoIter = btree_map::IntoIter<String, EffectiveParameter>;

    fn into_iter(self) -> Self::IntoIter {
        self.by_name.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_a_plain_value_and_hides_a_secret_one() {
        let plain = EffectiveParameter::new("visible", Source::Body);
        assert!(format!("{plain:?}").contains("visible"));
        let parameters: EffectiveParameters =
            [("key".to_owned(), EffectiveParameter::new("canary", Source::Body).secret())]
                .into_iter()
                .collect();
        assert!(!format!("{parameters:?}").contains("canary"));
    }

    #[test]
    fn parameters_that_do_not_fit_are_named_and_secret_values_are_not_shown() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct Host {
            a: u8,
            b: Option<Vec<u8>>,
        }
        #[derive(Debug, serde::Deserialize)]
        struct Flat {
            #[serde(flatten)]
            _host: Host,
        }
        let parsed = |values: &[(&str, Value)], secret: bool| {
            let parameters: EffectiveParameters = values
                .iter()
                .map(|(name, value)| {
                    let value = EffectiveParameter::new(value.clone(), Source::Body);
                    ((*name).to_owned(), if secret { value.secret() } else { value })
                })
                .collect();
            let error = |error: UnfitParameters| error.to_string();
            (parameters.parse::<Host>().map_err(error), parameters.parse::<Flat>().map(drop).map_err(error))
        };
        let (host, flat) = parsed(&[("a", 1.into()), ("other", "x".into())], true);
        assert_eq!((host, flat), (Ok(Host { a: 1, b: None }), Ok(())));
        let (host, flat) = parsed(&[("a", 1.into()), ("b", vec![7].into())], false);
        assert_eq!((host, flat), (Ok(Host { a: 1, b: Some(vec![7]) }), Ok(())));

        let wrong = [("a", Value::from("canary")), ("b", Value::Null)];
        let (host, flat) = parsed(&wrong, false);
        let message = "invalid type: string \"canary\", expected u8".to_owned();
        assert_eq!((host, flat), (Err(format!("parameter a: {message}")), Err(message)));
        let (host, flat) = parsed(&wrong, true);
        assert!(host.unwrap_err().contains("parameter a") && flat.is_err());
        for secret in [parsed(&wrong, true).0.unwrap_err(), parsed(&wrong, true).1.unwrap_err()] {
            assert!(!secret.contains("canary"), "{secret}");
        }
        for secret in [false, true] {
            let (host, flat) = parsed(&[("b", Value::Null)], secret);
            assert_eq!([host.unwrap_err(), flat.unwrap_err()], ["missing field `a`"; 2]);
        }
    }

    #[test]
    fn a_source_has_the_same_text_on_the_wire_and_for_people() {
        for source in [Source::Default, Source::Query, Source::Body, Source::Mapping, Source::Fixed] {
            assert_eq!(serde_json::to_value(source).unwrap(), source.to_string());
        }
    }
}
