//! Reading the setting as a person gives it.

use serde_json::Value;

use super::networks::{Network, Networks};
use crate::setting::{SettingCode, SettingProblem};

/// Upper bound on the networks of one list.
const NETWORKS: usize = 256;

impl Networks {
    /// Reads the setting `allowed_networks`, and names every problem in it.
    pub(crate) fn read(value: Value, problems: &mut Vec<SettingProblem>) -> Self {
        let mut problem = |field: String, code, message: String| {
            problems.push(SettingProblem::new(field, code, message));
        };
        let name = "allowed_networks";
        let Value::Array(items) = value else {
            problem(name.to_owned(), SettingCode::WrongType, "a list of networks is expected".to_owned());
            return Self::default();
        };
        if !(1..=NETWORKS).contains(&items.len()) {
            let message = format!("1 to {NETWORKS} networks are expected, or null for any address");
            problem(name.to_owned(), SettingCode::OutOfRange, message);
        }
        let mut networks = Vec::new();
        for (index, item) in items.iter().take(NETWORKS).enumerate() {
            match item.as_str().unwrap_or_default().parse::<Network>() {
                Ok(network) => networks.push(network),
                Err(error) => {
                    problem(format!("{name}[{index}]"), SettingCode::Invalid, error.to_string());
                }
            }
        }
        Self::new(networks)
    }
}
