//! Checks that look at several settings, or at a sample of a call.

use super::settings::SenderSettings;
use crate::mapping::{CallContent, SECRET_HEADERS, Selector};
use crate::setting::{SettingCode, SettingProblem};
use crate::verification::Verification;

impl SenderSettings {
    /// Returns every problem between settings that are right each by itself.
    ///
    /// Those are a parameter that is both mapped and fixed, and a header or a whole body with the sender's secret that would be
    /// kept.
    #[must_use]
    pub fn conflicts(&self) -> Vec<SettingProblem> {
        let mut problems = Vec::new();
        for (index, rule) in self.mapping.iter().enumerate() {
            if self.fixed.contains_key(&rule.parameter) {
                let field = format!("mapping[{index}].parameter");
                let message = "the parameter is fixed, so its mapping would never count";
                problems.push(SettingProblem::new(field, SettingCode::Repeated, message));
            }
        }
        let secret_header = self.verification.as_ref().and_then(Verification::secret_header);
        for (field, selector) in self.selectors() {
            let (part, place) = match selector {
                Selector::Header { name }
                    if secret_header.is_some_and(|it| it.eq_ignore_ascii_case(name)) =>
                {
                    ("name", format!("the header {name}"))
                }
                Selector::RawBody if self.has_secret_in_body() => {
                    ("from", "the body as it was sent".to_owned())
                }
                _ => continue,
            };
            let message = format!("{place} holds the sender's secret, which must not be kept");
            problems.push(SettingProblem::new(format!("{field}.{part}"), SettingCode::Invalid, message));
        }
        problems
    }

    /// Returns whether the body of a call holds the sender's secret.
    pub(super) fn has_secret_in_body(&self) -> bool {
        self.verification.as_ref().is_some_and(Verification::has_secret_in_body)
    }

    /// Returns whether a header holds a secret of the caller, so that it is never kept.
    pub(crate) fn is_secret_header(&self, name: &str) -> bool {
        let of_sender = self.verification.as_ref().and_then(Verification::secret_header);
        SECRET_HEADERS.into_iter().chain(of_sender).any(|secret| secret.eq_ignore_ascii_case(name))
    }

    /// Returns every setting that looks at a place where a sample of a call has nothing, with what the sample has there.
    #[must_use]
    pub fn missing_in(&self, sample: &CallContent<'_>) -> Vec<SettingProblem> {
        let optional: Vec<String> = self.optional_fields();
        let looked_at = self.selectors().into_iter().filter(|(field, _)| !optional.contains(field));
        looked_at
            .filter(|(_, selector)| !selector.exists_in(sample))
            .map(|(field, selector)| {
                let (part, message) = match selector {
                    Selector::Body { pointer } => {
                        ("pointer", sample.payload.missing(pointer).unwrap_or_default())
                    }
                    Selector::Header { name } => ("name", format!("the sample has no header {name}")),
                    Selector::Query { name } => ("name", format!("the query of the sample has no {name:?}")),
                    Selector::Method | Selector::RawBody => {
                        ("from", "the body of the sample is empty".to_owned())
                    }
                };
                SettingProblem::new(format!("{field}.{part}"), SettingCode::NotInSample, message)
            })
            .collect()
    }

    /// Returns every place that is looked at, with the field of its setting.
    fn selectors(&self) -> Vec<(String, &Selector)> {
        let conditions = self.conditions.iter().flat_map(|conditions| &conditions.all).enumerate();
        let conditions =
            conditions.map(|(index, condition)| (format!("conditions.all[{index}]"), &condition.selector));
        let mapping = self.mapping.iter().enumerate();
        let mapping = mapping.map(|(index, rule)| (format!("mapping[{index}]"), &rule.selector));
        let key = self.idempotency_from.iter().map(|key| ("idempotency_from".to_owned(), key.selector()));
        conditions.chain(mapping).chain(key).collect()
    }

    /// Returns the fields of conditions that a missing value can meet.
    fn optional_fields(&self) -> Vec<String> {
        let conditions = self.conditions.iter().flat_map(|conditions| &conditions.all).enumerate();
        let optional = conditions.filter(|(_, condition)| !condition.needs_value());
        optional.map(|(index, _)| format!("conditions.all[{index}]")).collect()
    }
}
