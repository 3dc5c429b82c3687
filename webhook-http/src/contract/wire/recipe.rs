//! Recipes: how to set up known senders.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use webhook_core::sender::recipes::{Recipe, RecipeStep, SecretOrigin};
use webhook_core::verification::Preset;

/// How to set up known senders so that their calls start the workflow `daily-sales`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Recipes {
    items: Vec<RecipeView>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Recipe")]
struct RecipeView {
    name: &'static str,
    /// Name for people.
    title: &'static str,
    /// Event that starts a run, as a sentence.
    starts: &'static str,
    preset: Option<Preset>,
    /// Origin of the secret.
    secret: SecretOrigin,
    /// Settings of the webhook, as a patch.
    #[schemars(with = "Map<String, Value>")]
    settings: Value,
    /// Steps at the sender. The settings are saved before the first.
    steps: &'static [RecipeStep],
    sample: SampleView,
    /// Parameters that the sample gives, as texts.
    parameters: BTreeMap<&'static str, &'static str>,
    /// Facts about a call that are checked, as sentences.
    verified: &'static [&'static str],
    /// Facts about a call that are not checked, as sentences.
    not_verified: &'static [&'static str],
}

/// A call as the sender makes it, without its signature.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct SampleView {
    headers: BTreeMap<&'static str, &'static str>,
    body: &'static str,
}

impl Recipes {
    pub(crate) fn all() -> Self {
        Self { items: Recipe::all().map(RecipeView::new).collect() }
    }
}

impl RecipeView {
    fn new(recipe: &'static Recipe) -> Self {
        let sample = &recipe.sample;
        Self {
            name: recipe.name,
            title: recipe.title,
            starts: recipe.starts,
            preset: recipe.preset(),
            secret: recipe.secret,
            settings: recipe.settings(),
            steps: recipe.steps,
            sample: SampleView { headers: sample.headers.iter().copied().collect(), body: sample.body() },
            parameters: recipe.parameters.iter().copied().collect(),
            verified: recipe.verified,
            not_verified: recipe.not_verified,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_say_what_goes_into_them() {
        let shown = serde_json::to_value(Recipes::all()).unwrap();
        let github = &shown["items"][0];
        assert_eq!((&github["name"], &github["secret"]), (&json!("github"), &json!("webhook")));
        let fields = json!([
            {"name": "Payload URL", "kind": "url"},
            {"name": "Content type", "kind": "choice", "text": "application/json"},
            {"name": "Secret", "kind": "secret"},
        ]);
        assert_eq!(github["steps"][2]["fields"].as_array().unwrap()[..3], fields.as_array().unwrap()[..]);
        assert_eq!(github["sample"]["headers"]["X-GitHub-Event"], "push");
        assert_eq!(github["settings"]["verification"]["preset"], "github");
    }
}
