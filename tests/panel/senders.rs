//! Tests of webhooks for real senders: recipes, secrets, settings, previews, and the address of the browser.

use serde_json::{Value, json};
use webhook_core::id::WebhookId;
use webhook_core::sender::recipes::Recipe;

use crate::Scene;
use crate::world::World;

/// Computes a signature as GitHub does, with the secret and the body that it gets.
const SIGN: &str = "const [secret, body] = [...arguments].map(it => new TextEncoder().encode(it));
    return crypto.subtle.importKey('raw', secret, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign'])
        .then(key => crypto.subtle.sign('HMAC', key, body))
        .then(made => [...new Uint8Array(made)].map(it => it.toString(16).padStart(2, '0')).join(''))";

fn recipe(name: &str) -> &'static Recipe {
    Recipe::all().find(|recipe| recipe.name == name).unwrap()
}

impl Scene {
    /// Opens the tab Sender of a new webhook of the demo workflow, and returns its id.
    async fn sender_tab(&self, settings: Value) -> WebhookId {
        let mut all = json!({"label": "From outside"});
        all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let hook = self.world.hook("report/daily-sales", all).await;
        self.sign_in().await;
        self.go("#/report/daily-sales", "From outside").await;
        self.show_tab("Sender", "Settings for the sender").await;
        hook
    }

    async fn show_tab(&self, name: &str, text: &str) {
        self.browser.click(&format!("//button[@role = 'tab' and . = '{name}']")).await;
        self.browser.until_shown(text).await;
    }

    /// Returns the settings for the sender, as they are stored.
    async fn sender_settings(&self, hook: WebhookId) -> Value {
        let webhook = self.world.webhooks.manage().get_webhook(hook).await.unwrap();
        serde_json::to_value(&webhook.settings.sender).unwrap()
    }

    /// Waits until the message at a setting contains `text`.
    async fn said_at(&self, name: &str, text: &str) {
        let field = format!("document.querySelector('[name=\"{name}\"]').closest('.field')");
        let text = json!(text);
        self.browser.until(&format!("{field}.querySelector('.problem').textContent.includes({text})")).await;
    }

    async fn state_of_calls(&self) -> String {
        self.text("document.querySelector('.first-call').dataset.state").await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn github_is_set_up_by_its_recipe_and_its_first_call_turns_the_page_green() {
    let Some(scene) = Scene::start().await else { return };
    let (browser, github) = (&scene.browser, recipe("github"));
    let hook = scene.sender_tab(json!({})).await;
    browser.choose("recipe", "github").await;
    for fact in github.verified.iter().chain(github.not_verified) {
        browser.until_shown(fact).await;
    }
    browser.press("Use these settings").await;
    browser.until_shown("The settings for GitHub were saved.").await;
    let settings = scene.sender_settings(hook).await;
    assert_eq!(settings["verification"], json!({"preset": "github"}));
    assert_eq!(settings["conditions"], github.settings()["conditions"]);
    browser.until_shown("Every call is refused until there is a secret.").await;

    browser.press("Generate the secret").await;
    browser.until_shown("it is shown this once").await;
    browser.press("Copy secret").await;
    browser.until_shown("Copied").await;
    let secret = browser.clipboard().await;
    assert_eq!(secret.len(), 64, "{secret}");
    browser.press("Done").await;
    browser.until(&format!("!document.documentElement.outerHTML.includes('{secret}')")).await;
    browser.until_shown(&format!("…{}", &secret[60..])).await;

    browser.press("Copy Payload URL").await;
    browser.until_shown("Payload URL is on the clipboard.").await;
    let url = browser.clipboard().await;
    assert!(url.contains("/webhook?token=whk_"), "{url}");
    browser.press("Fill in the sample of GitHub").await;
    browser.press("Preview").await;
    browser.until_shown("it is not known to be its sender's").await;
    browser.until("document.querySelector('.preview tbody').innerText.includes('APAC')").await;

    assert_eq!(scene.state_of_calls().await, "waiting");
    let body = github.sample.body();
    let signature = browser.run(SIGN, json!([secret, body])).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let call = github
        .sample
        .headers
        .iter()
        .fold(client.post(&url), |call, (name, value)| call.header(*name, *value));
    let call = call.header("X-Hub-Signature-256", format!("sha256={}", signature.as_str().unwrap()));
    assert_eq!(call.body(body).send().await.unwrap().status(), 202);
    browser.until("document.querySelector('.first-call').dataset.state === 'called'").await;
    scene.no_complaints(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipe_that_the_secret_of_the_webhook_does_not_fit_says_so() {
    let Some(scene) = Scene::start().await else { return };
    let browser = &scene.browser;
    let hook = scene.sender_tab(json!({"verification": {"preset": "github"}})).await;
    scene.world.webhooks.manage().add_secret(hook, Some("a secret of the sender")).await.unwrap();
    browser.run("location.reload()", json!([])).await;
    browser.until_shown("From outside").await;
    scene.show_tab("Sender", "added just now").await;
    browser.choose("recipe", "standard-webhooks").await;
    browser.press("Use these settings").await;
    browser.press("Use them").await;
    browser.until_shown("no secret of the webhook has the form that this needs").await;
    assert_eq!(scene.sender_settings(hook).await["verification"], json!({"preset": "github"}));
    scene.no_complaints(&[422]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recipe_can_be_used_and_its_sample_starts_a_run_of_the_demo() {
    let Some(scene) = Scene::start().await else { return };
    let browser = &scene.browser;
    let hook = scene.sender_tab(json!({})).await;
    for recipe in Recipe::all() {
        browser.choose("recipe", recipe.name).await;
        browser.until_shown(recipe.starts).await;
        browser.press("Use these settings").await;
        // The settings of the recipe before are not replaced without a question.
        if recipe.name != "github" {
            browser.until_shown(&format!("Use the settings for {}?", recipe.title)).await;
            browser.press("Use them").await;
        }
        browser.until_shown(&format!("The settings for {} were saved.", recipe.title)).await;
        let stored = scene.sender_settings(hook).await;
        let expected = webhook_core::WebhookSettings::default().patched(&recipe.settings()).unwrap();
        assert_eq!(stored, serde_json::to_value(expected.sender).unwrap(), "{}", recipe.name);
        browser.press(&format!("Fill in the sample of {}", recipe.title)).await;
        browser.press("Preview").await;
        browser.until("document.querySelector('.preview tbody')?.innerText.includes('APAC')").await;
        let verdict = scene.text("document.querySelector('.preview .notice').innerText").await;
        let is_signed = recipe.verification().is_some_and(|verification| verification.needs_secret());
        let expected = if is_signed { "it is not known to be its sender's" } else { "would start a run" };
        assert!(verdict.contains(expected), "{}: {verdict}", recipe.name);
        browser.run("document.querySelector('.preview').replaceChildren()", json!([])).await;
    }
    scene.no_complaints(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_given_secret_is_never_shown_and_there_are_at_most_two() {
    let Some(scene) = Scene::start().await else { return };
    let browser = &scene.browser;
    let hook = scene.sender_tab(json!({"verification": {"preset": "stripe"}})).await;
    browser.until_shown("Every call is refused until there is a secret.").await;
    browser.press("Enter a secret").await;
    browser.until("document.activeElement.name === 'secret'").await;
    browser.fill("secret", "short").await;
    browser.press("Store").await;
    scene.said_at("secret", "8 to 512 bytes").await;
    let given = "whsec_a-secret-of-stripe-4711";
    browser.fill("secret", given).await;
    browser.press("Store").await;
    browser.until_shown("The secret was stored.").await;
    browser.until_shown("…4711").await;
    browser.until(&format!("!document.documentElement.outerHTML.includes('{given}')")).await;
    browser.until("![...document.querySelectorAll('input')].some(it => it.value.startsWith('whsec_'))").await;

    browser.press("Generate a secret").await;
    browser.press("Done").await;
    browser.until_shown("There are two.").await;
    browser
        .until(
            "[...document.querySelectorAll('button')].find(it => it.innerText === 'Enter a secret').disabled",
        )
        .await;
    browser.press("Remove the secret …4711").await;
    browser.until_shown("Calls that are signed with it are refused at once.").await;
    browser.press("Remove").await;
    browser.until("!document.querySelector('main').innerText.includes('…4711')").await;
    let left = scene.world.webhooks.manage().get_webhook(hook).await.unwrap();
    assert_eq!(left.secrets.iter().count(), 1);
    scene.no_complaints(&[422]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn problems_of_settings_are_shown_at_their_fields_and_values_keep_their_types() {
    let Some(scene) = Scene::start().await else { return };
    let browser = &scene.browser;
    let hook = scene.sender_tab(json!({})).await;
    browser.choose("verification.preset", "hmac").await;
    browser.fill("verification.signed", "{timestamp}").await;
    browser.press("Add a condition").await;
    browser.until("document.activeElement.name === 'conditions.all[0].from'").await;
    browser.fill("conditions.all[0].pointer", "no-slash").await;
    browser.fill("conditions.all[0].value", "5").await;
    browser.press("Map a parameter").await;
    browser.fill("mapping[0].parameter", "region").await;
    browser.choose("mapping[0].from", "header").await;
    browser.fill("mapping[0].name", "Authorization").await;
    browser.press("Fix a parameter").await;
    browser.fill("parameter", "rows").await;
    browser.fill("fixed.rows", "[1, 2").await;
    browser.press("Save settings").await;
    scene.said_at("fixed.rows", "This is not JSON").await;
    browser.fill("fixed.rows", "\"20\"").await;
    browser.fill("allowed_networks", "192.0.2.0/24, is expected").await;
    browser.press("Save settings").await;
    for (name, text) in [
        ("verification.header", "is needed"),
        ("verification.signed", "{body} must be part of what is signed"),
        ("conditions.all[0].pointer", "/"),
        ("mapping[0].name", "holds a secret of the caller"),
        ("allowed_networks", "192.0.2.0/24, is expected"),
    ] {
        scene.said_at(name, text).await;
    }
    browser.until("document.activeElement.name === 'verification.header'").await;

    browser.fill("verification.header", "X-Signature").await;
    browser.fill("verification.signed", "{body}").await;
    browser.fill("conditions.all[0].pointer", "/count").await;
    browser.press("Add a condition").await;
    browser.choose("conditions.all[1].op", "one_of").await;
    browser.fill("conditions.all[1].pointer", "/kind").await;
    browser.fill("conditions.all[1].value", "sale\n\"7\"\n7").await;
    browser.press("Add a condition").await;
    browser.press("Remove condition 3").await;
    browser.until("document.activeElement.getAttribute('aria-label') === 'Remove condition 2'").await;
    browser.fill("mapping[0].name", "X-Region").await;
    browser.fill("mapping[0].default", "EMEA").await;
    browser.fill("allowed_networks", "10.0.0.0/8\n192.0.2.7").await;
    browser.choose("pass_through", "declared").await;
    browser.choose("answer.status", "200").await;
    browser.fill("keep_bodies_s", "3600").await;
    browser.choose("idempotency_from", "own").await;
    browser.choose("idempotency_from.from", "body").await;
    browser.fill("idempotency_from.pointer", "/id").await;
    browser.press("Save settings").await;
    browser.until_shown("The settings were saved.").await;
    let stored = scene.sender_settings(hook).await;
    let all = &stored["conditions"]["all"];
    assert_eq!((&all[0]["value"], &all[1]["value"]), (&json!(5), &json!(["sale", "7", 7])));
    assert_eq!(stored["mapping"][0]["default"], "EMEA");
    assert_eq!(stored["fixed"], json!({"rows": "20"}));
    assert_eq!(stored["allowed_networks"].as_array().unwrap().len(), 2);
    assert_eq!((&stored["answer"]["status"], &stored["pass_through"]), (&json!(200), &json!("declared")));
    assert_eq!(stored["idempotency_from"], json!({"from": "body", "pointer": "/id"}));
    let webhook = scene.world.webhooks.manage().get_webhook(hook).await.unwrap();
    assert_eq!(webhook.settings.keep_bodies, Some(std::time::Duration::from_secs(3_600)));

    // The form shows a stored value as it was typed, and saving it again changes nothing.
    browser.until("document.querySelector('[name=\"fixed.rows\"]').value === '\"20\"'").await;
    browser
        .until("document.querySelector('[name=\"conditions.all[1].value\"]').value === 'sale\\n\"7\"\\n7'")
        .await;
    browser.press("Save settings").await;
    browser.until_shown("Nothing was changed.").await;
    browser.press("Remove fixed parameter 1").await;
    browser.press("Remove condition 2").await;
    browser.choose("verification.preset", "").await;
    browser.press("Save settings").await;
    browser.until("document.querySelector('[name=\"fixed.rows\"]') === null").await;
    browser.until_shown("The settings were saved.").await;
    let stored = scene.sender_settings(hook).await;
    assert_eq!((&stored["fixed"], &stored["verification"]), (&json!({}), &Value::Null));
    assert_eq!(stored["conditions"]["all"].as_array().unwrap().len(), 1);
    scene.no_complaints(&[422]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preview_shows_which_parameter_gets_what_and_what_can_never_fit() {
    let Some(scene) = Scene::start().await else { return };
    let browser = &scene.browser;
    scene
        .sender_tab(json!({
            "mapping": [
                {"parameter": "region", "from": "body", "pointer": "/region"},
                {"parameter": "date", "from": "body", "pointer": "/commits/0/day"},
            ],
            "conditions": {"all": [{"from": "body", "pointer": "/kind", "op": "equals", "value": "sale"}]},
            "pass_through": "none",
        }))
        .await;
    browser.fill("headers", "no colon").await;
    browser.press("Preview").await;
    scene.said_at("headers", "Write a header as Name: value").await;
    browser.fill("headers", "Content-Type: application/json").await;
    browser.fill("body", "{\"region\": \"APAC\", \"kind\": \"gift\", \"commits\": []}").await;
    browser.press("Preview").await;
    browser.until_shown("This call would be ignored").await;
    browser.until_shown("/kind of the body is sale").await;
    browser.until("document.querySelector('.preview tbody').innerText.includes('APAC')").await;
    browser.until_shown("Parameter 2: ").await;
    // The places of the sample are suggested for conditions and mapping.
    browser.until("[...document.getElementById(document.querySelector('[name=\"mapping[0].pointer\"]').getAttribute('list')).options].map(it => it.value).join() === '/region,/kind'").await;
    scene.said_at("mapping[1].pointer", "").await;
    browser
        .until(
            "document.querySelector('[name=\"mapping[1].pointer\"]').getAttribute('aria-invalid') === 'true'",
        )
        .await;
    browser
        .fill("body", "{\"region\": \"APAC\", \"kind\": \"sale\", \"commits\": [{\"day\": \"2026-01-10\"}]}")
        .await;
    browser.press("Preview").await;
    browser.until_shown("This call would start a run.").await;
    browser.until("document.querySelector('.preview tbody').innerText.includes('2026-01-10')").await;
    browser.until("document.querySelector('main [aria-invalid=true]') === null").await;
    browser
        .fill("body", "{\"region\": \"LUNA\", \"kind\": \"sale\", \"commits\": [{\"day\": \"today\"}]}")
        .await;
    browser.press("Preview").await;
    browser.until_shown("its parameters do not fit").await;
    // Nothing was started.
    assert_eq!(scene.world.webhooks.manage().list_runs(Default::default()).await.unwrap().items.len(), 0);
    scene.no_complaints(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_browser_is_told_how_it_is_seen_and_of_a_proxy_that_is_not_trusted() {
    let Some(scene) = Scene::start().await else { return };
    let browser = &scene.browser;
    let hook = scene.sender_tab(json!({})).await;
    browser.until_shown("You would be seen as 127.0.0.1.").await;
    assert!(!scene.text("document.querySelector('main').innerText").await.contains("--trusted-proxy"));
    browser.press("Allow this address").await;
    browser.press("Save settings").await;
    browser.until_shown("The settings were saved.").await;
    let stored = scene.sender_settings(hook).await;
    assert_eq!(stored["allowed_networks"].as_array().unwrap().len(), 1, "{stored}");

    browser.cdp("Network.enable", json!({})).await;
    let forwarded = json!({"headers": {"X-Forwarded-For": "203.0.113.9"}});
    browser.cdp("Network.setExtraHTTPHeaders", forwarded).await;
    browser.run("location.reload()", json!([])).await;
    browser.until_shown("From outside").await;
    scene.show_tab("Sender", "Settings for the sender").await;
    browser.until_shown("--trusted-proxy 127.0.0.1").await;
    scene.no_complaints(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_browser_is_told_that_a_trusted_proxy_leaves_it_unknown() {
    let Some(scene) = Scene::with(World::behind_trusted_proxy()).await else { return };
    let browser = &scene.browser;
    browser.cdp("Network.enable", json!({})).await;
    let hidden = json!({"headers": {"X-Forwarded-For": "unknown"}});
    browser.cdp("Network.setExtraHTTPHeaders", hidden).await;
    scene.sender_tab(json!({})).await;
    browser.until_shown("The trusted proxy does not tell your address").await;
    assert!(!scene.text("document.querySelector('main').innerText").await.contains("You would be seen"));
    scene.no_complaints(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_call_is_sent_as_a_sender_does_and_its_answer_is_shown() {
    let Some(scene) = Scene::start().await else { return };
    let browser = &scene.browser;
    scene.world.hook("report/daily-sales", json!({"label": "By hand"})).await;
    scene.sign_in().await;
    scene.go("#/report/daily-sales", "By hand").await;
    browser.press("Send a test call").await;
    browser.press("Send").await;
    browser.until_shown("Answered with 200").await;
    browser.until_shown("EMEA").await;
    assert_eq!(scene.world.webhooks.manage().list_runs(Default::default()).await.unwrap().items.len(), 0);
    browser.fill("body", "{\"region\": \"LUNA\"}").await;
    browser.press("Send").await;
    browser.until_shown("Answered with 422").await;
    browser.fill("body", "{\"region\": \"AMER\"}").await;
    browser.click("//input[@name = 'dry_run']").await;
    browser.press("Send").await;
    browser.until_shown("Answered with 202").await;
    assert_eq!(scene.world.webhooks.manage().list_runs(Default::default()).await.unwrap().items.len(), 1);
    scene.no_complaints(&[422]).await;
}
