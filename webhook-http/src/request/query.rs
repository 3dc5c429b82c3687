//! Queries of requests other than trigger calls: known names, each at most once.

use std::str::FromStr;

use webhook_core::parameters::{MalformedQuery, parse_query};
use webhook_core::webhook::{SettingCode, SettingProblem};

use crate::contract::fields::{DEFAULT_ITEMS, LIMIT, MOST_ITEMS, QueryField};
use crate::contract::problem::Problem;
use crate::contract::slug::Slug;

/// Fields of a query, and the problems that were found in them.
pub(crate) struct QueryFields {
    pairs: Vec<(String, String)>,
    problems: Vec<SettingProblem>,
}

impl QueryFields {
    /// Reads a query. A token in it is ignored: callers may present theirs so.
    pub(crate) fn read(query: &str, longest: usize) -> Result<Self, Problem> {
        if query.len() > longest {
            return Err(webhook_core::intake::TriggerError::QueryTooLong { limit: longest }.into());
        }
        let parsed = parse_query(query).map_err(|error: MalformedQuery| {
            Problem::new(Slug::MalformedQuery).with_detail(error.to_string())
        })?;
        let pairs = parsed.parameters.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(Self { pairs: pairs.collect(), problems: Vec::new() })
    }

    /// Takes the value of a field.
    pub(crate) fn take<T: FromStr>(&mut self, field: &QueryField<T>) -> Option<T> {
        let name = field.field.name;
        let (of_name, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pairs).into_iter().partition(|(given, _)| given == name);
        self.pairs = others;
        if of_name.len() > 1 {
            self.problems.push(SettingProblem::new(
                name,
                SettingCode::Repeated,
                "it is given more than once",
            ));
            return None;
        }
        let (_, value) = of_name.into_iter().next()?;
        let read = value.parse().ok();
        if read.is_none() {
            self.problems.push(SettingProblem::new(
                name,
                SettingCode::Invalid,
                format!("{} is expected", (field.expected)()),
            ));
        }
        read
    }

    /// Takes `limit`: 1 to 200, by default 50.
    pub(crate) fn limit(&mut self) -> usize {
        let limit = self.take(&LIMIT).unwrap_or(DEFAULT_ITEMS);
        if !(1..=MOST_ITEMS).contains(&limit) {
            let expected = format!("{} is expected", (LIMIT.expected)());
            self.problems.push(SettingProblem::new(LIMIT.field.name, SettingCode::OutOfRange, expected));
        }
        limit
    }

    /// Returns all problems, unknown fields among them.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in &self.pairs {
            let problem = SettingProblem::new(name.as_str(), SettingCode::Unknown, "there is no such field");
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
        if self.problems.is_empty() { Ok(()) } else { Err(Problem::fields(self.problems)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::fields::{OFFSET, RUN_STATE};

    #[test]
    fn known_fields_are_taken_and_a_limit_has_a_default() {
        let mut fields = QueryFields::read("offset=7&token=whk_x", 100).unwrap();
        assert_eq!(fields.take(&OFFSET), Some(7));
        assert_eq!(fields.limit(), 50);
        assert!(fields.finish().is_ok());
    }

    #[test]
    fn wrong_repeated_and_unknown_fields_are_named_together() {
        let mut fields = QueryFields::read("offset=x&limit=201&state=a&state=b&colour=red", 100).unwrap();
        fields.take(&OFFSET);
        fields.take(&RUN_STATE);
        fields.limit();
        let body = fields.finish().unwrap_err().into_response().into_body().into_bytes().unwrap();
        let content: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let named: Vec<_> =
            content["errors"].as_array().unwrap().iter().map(|error| &error["field"]).collect();
        assert_eq!(named, ["offset", "state", "limit", "colour"]);
    }
}
