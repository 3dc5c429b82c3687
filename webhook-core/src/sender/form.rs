//! Reading the settings as a person gives them.

use serde_json::Value;

use super::settings::{Answer, SenderSettings};
use crate::mapping::{Conditions, KeySource, MappingRule, read_fixed};
use crate::network::Networks;
use crate::setting::{SettingCode, SettingProblem, SettingsForm};
use crate::verification::Verification;

impl SenderSettings {
    /// The names of the settings on the wire.
    pub(crate) const NAMES: [&'static str; 8] = [
        "verification",
        "idempotency_from",
        "allowed_networks",
        "conditions",
        "mapping",
        "pass_through",
        "fixed",
        "answer",
    ];

    /// Those that have several forms. A patch replaces them as a whole, so that no member of another form is left.
    pub(crate) const REPLACED: [&'static str; 3] = ["verification", "idempotency_from", "conditions"];

    /// Takes these settings out of a form, and names every problem in them.
    pub(crate) fn read(form: &mut SettingsForm<'_>) -> Self {
        let pass_through = form.take("pass_through", "all, declared or none").unwrap_or_default();
        let [verification, key, networks, conditions, mapping, fixed, answer] = [
            "verification",
            "idempotency_from",
            "allowed_networks",
            "conditions",
            "mapping",
            "fixed",
            "answer",
        ]
        .map(|name| form.inner(name));
        let problems = form.problems();
        let settings = Self {
            verification: verification.and_then(|value| Verification::read(value, problems)),
            idempotency_from: key.and_then(|value| KeySource::read(value, problems)),
            allowed_networks: networks.map(|value| Networks::read(value, problems)),
            conditions: conditions.map(|value| Conditions::read(value, problems)),
            mapping: mapping.map(|value| MappingRule::read_all(value, problems)).unwrap_or_default(),
            pass_through,
            fixed: fixed.map(|value| read_fixed(value, problems)).unwrap_or_default(),
            answer: answer.and_then(|value| read_answer(value, problems)),
        };
        problems.extend(settings.conflicts());
        settings
    }

    /// Takes over the setting of this name.
    pub(crate) fn copy_setting(&mut self, name: &str, from: &Self) {
        match name {
            "verification" => self.verification.clone_from(&from.verification),
            "idempotency_from" => self.idempotency_from.clone_from(&from.idempotency_from),
            "allowed_networks" => self.allowed_networks.clone_from(&from.allowed_networks),
            "conditions" => self.conditions.clone_from(&from.conditions),
            "mapping" => self.mapping.clone_from(&from.mapping),
            "pass_through" => self.pass_through = from.pass_through,
            "fixed" => self.fixed.clone_from(&from.fixed),
            "answer" => self.answer = from.answer,
            _ => {}
        }
    }
}

fn read_answer(value: Value, problems: &mut Vec<SettingProblem>) -> Option<Answer> {
    let mut form = SettingsForm::new("answer.", value, problems);
    let status: Option<u16> = form.required("status", "200, 202 or 204");
    let read = status.filter(|status| matches!(status, 200 | 202 | 204));
    if status.is_some() && read.is_none() {
        form.problem("status", SettingCode::OutOfRange, "200, 202 or 204 is expected".to_owned());
    }
    form.refuse_the_rest();
    read.map(|status| Answer { status })
}
