//! Tests of the call log in the panel: waiting for the first call, calls as they come, refused ones included.

use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::Scene;

impl Scene {
    /// Opens the tab Calls of a new webhook of the demo workflow, and returns its URL.
    async fn calls_tab(&self, settings: Value) -> String {
        let mut all = json!({"label": "From outside"});
        all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let hook = self.world.hook("report/daily-sales", all).await;
        self.sign_in().await;
        self.go("#/report/daily-sales", "From outside").await;
        self.browser.click("//button[@role = 'tab' and . = 'Calls']").await;
        self.browser.until_shown("No calls yet").await;
        self.world.webhooks.manage().get_url(hook).await.unwrap().expose().to_owned()
    }

    /// Waits until the newest call has this outcome.
    async fn newest_call(&self, outcome: &str, text: &str) {
        let newest = "document.querySelector('.call')";
        let text = json!(text);
        self.browser
            .until(&format!(
                "{newest}.querySelector('.state').dataset.state === '{outcome}' && {newest}.innerText.includes({text})"
            ))
            .await;
    }

    async fn first_call(&self, state: &str) {
        self.browser
            .until(&format!("document.querySelector('.first-call').dataset.state === '{state}'"))
            .await;
    }
}

fn call(url: &str, body: &Value) -> RequestBuilder {
    Client::builder().no_proxy().build().unwrap().post(url).json(body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_waits_for_its_first_call_and_shows_each_one_as_it_comes() {
    let Some(scene) = Scene::start().await else { return };
    let browser = &scene.browser;
    let url = scene.calls_tab(json!({})).await;
    scene.first_call("waiting").await;
    call(&url, &json!({"region": "LUNA"})).send().await.unwrap();
    scene.newest_call("refused", "parameters-invalid").await;
    scene.first_call("refused").await;
    call(&url, &json!({})).header("Webhook-Dry-Run", "true").send().await.unwrap();
    scene.newest_call("dry_run", "POST 200").await;
    scene.first_call("called").await;
    for outcome in ["accepted", "replayed"] {
        let accepted =
            call(&url, &json!({"region": "APAC"})).header("Idempotency-Key", "one").send().await.unwrap();
        assert_eq!(accepted.status(), 202);
        scene.newest_call(outcome, "127.0.0.1").await;
    }
    assert_eq!(browser.run("return document.querySelectorAll('.call').length", json!([])).await, json!(4));

    // The list holds the same after a reload, and leads to the run.
    browser.run("location.reload()", json!([])).await;
    browser.until_shown("From outside").await;
    browser.click("//button[@role = 'tab' and . = 'Calls']").await;
    browser.until("document.querySelectorAll('.call').length === 4").await;
    browser.click("//li[@class = 'call']//a").await;
    browser.until_shown("20 rows for EMEA").await;
    scene.no_complaints(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_refused_or_ignored_says_why() {
    let Some(scene) = Scene::start().await else { return };
    let (browser, world) = (&scene.browser, &scene.world);
    let condition = json!({"from": "body", "pointer": "/kind", "op": "equals", "value": "sale"});
    let url = scene.calls_tab(json!({"conditions": {"all": [condition]}})).await;
    call(&url, &json!({"kind": "gift"})).send().await.unwrap();
    scene.newest_call("ignored", "POST 200").await;
    let hook = world.webhooks.manage().list_webhooks(Default::default()).await.unwrap().items[0].id;
    let patch = json!({"verification": {"preset": "github"}});
    world.webhooks.manage().update_webhook(hook, &patch, None).await.unwrap();
    call(&url, &json!({"kind": "sale"})).send().await.unwrap();
    scene.newest_call("refused", "the webhook has no secret yet").await;
    browser.until_shown("signature-invalid").await;

    // A test call appears like any other. No event tells of the new settings.
    browser.run("location.reload()", json!([])).await;
    browser.until_shown("From outside").await;
    browser.click("//button[@role = 'tab' and . = 'Calls']").await;
    browser.press("Send a test call").await;
    browser.until_shown("This call is not signed.").await;
    browser.press("Send").await;
    browser.until_shown("Answered with 401").await;
    browser.press("Close").await;
    browser.until("document.querySelectorAll('.call').length === 3").await;
    scene.no_complaints(&[401]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_all_come_from_one_untrusted_proxy_are_warned_of() {
    let Some(scene) = Scene::start().await else { return };
    let browser = &scene.browser;
    browser.cdp("Network.enable", json!({})).await;
    let forwarded = json!({"headers": {"X-Forwarded-For": "203.0.113.9"}});
    browser.cdp("Network.setExtraHTTPHeaders", forwarded).await;
    let url = scene.calls_tab(json!({})).await;
    let warning = "All 2 calls so far came from one proxy.";
    for sender in ["192.0.2.7", "192.0.2.8"] {
        assert!(!scene.text("document.querySelector('main').innerText").await.contains(warning));
        call(&url, &json!({})).header("X-Forwarded-For", sender).send().await.unwrap();
        scene.newest_call("accepted", "127.0.0.1").await;
    }
    browser.until_shown(warning).await;
    browser.until_shown("--trusted-proxy 127.0.0.1").await;
    scene.no_complaints(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_kept_is_run_again_with_the_present_mapping() {
    let Some(scene) = Scene::start().await else { return };
    let (browser, manage) = (&scene.browser, scene.world.webhooks.manage());
    let rule = |pointer: &str| json!([{"parameter": "region", "from": "body", "pointer": pointer, "default": "EMEA"}]);
    let settings = json!({"mapping": rule("/wrong"), "pass_through": "none", "keep_bodies_s": 600});
    let url = scene.calls_tab(settings).await;
    call(&url, &json!({"area": "APAC"})).send().await.unwrap();
    scene.newest_call("accepted", "Replay").await;
    let hook = manage.list_webhooks(Default::default()).await.unwrap().items[0].id;
    manage.update_webhook(hook, &json!({"mapping": rule("/area")}), None).await.unwrap();
    browser.click("//li[@class = 'call']//button[starts-with(@aria-label, 'Replay the call of')]").await;
    browser.until_shown("The call was run again, with the present settings.").await;
    let runs = manage.list_runs(Default::default()).await.unwrap().items;
    let regions: Vec<Value> = runs
        .iter()
        .map(|run| run.parameters().iter().find(|(name, _)| *name == "region").unwrap().1.shown())
        .collect();
    assert_eq!(regions, [json!("APAC"), json!("EMEA")], "newest first");

    // A call whose content is not kept has no such button.
    manage.update_webhook(hook, &json!({"keep_bodies_s": null}), None).await.unwrap();
    call(&url, &json!({"area": "AMER"})).send().await.unwrap();
    browser.until("document.querySelectorAll('.call').length === 2").await;
    browser.until("!document.querySelector('.call').innerText.includes('Replay')").await;
    scene.no_complaints(&[]).await;
}
