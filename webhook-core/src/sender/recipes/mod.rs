//! Recipes: how to set up each known sender so that its calls start the workflow `daily-sales`.
//!
//! A recipe is data. The panel shows it step by step, and the pages of the providers are written from it. Names of fields
//! are those on the sender's own pages.

mod alerts;
mod apps;
mod platforms;
mod recipe;
mod trackers;
mod warehouses;

#[cfg(test)]
mod tests;

pub use recipe::{Field, FieldValue, Recipe, RecipeStep, Sample, SecretOrigin};

impl Recipe {
    /// Returns all recipes, in the order in which people look for them.
    pub fn all() -> impl ExactSizeIterator<Item = &'static Self> + Clone {
        static ALL: [&Recipe; 19] = [
            &apps::GITHUB,
            &apps::GITLAB,
            &apps::STRIPE,
            &apps::SLACK,
            &alerts::GRAFANA,
            &alerts::ALERTMANAGER,
            &warehouses::DBT_CLOUD,
            &warehouses::AIRBYTE,
            &warehouses::SNOWFLAKE,
            &warehouses::BIGQUERY,
            &warehouses::EVENT_GRID,
            &platforms::SHOPIFY,
            &platforms::TWILIO,
            &platforms::META,
            &platforms::MICROSOFT_GRAPH,
            &platforms::STANDARD_WEBHOOKS,
            &trackers::LINEAR,
            &trackers::SENTRY,
            &trackers::TRELLO,
        ];
        ALL.iter().copied()
    }
}
