//! A day with the panel: from the sign-in to the artifact of a run.

use reqwest::StatusCode;
use serde_json::{Value, json};
use webhook_testing::DeliverFailure;

use crate::Scene;
use crate::world::run_hash;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_makes_a_webhook_calls_it_and_manages_it() {
    let Some(scene) = Scene::start().await else { return };
    let browser = &scene.browser;
    browser.open(&format!("{}/panel", scene.world.base)).await;
    browser.fill("token", "wrong").await;
    browser.press("Sign in").await;
    browser.until_shown("This is not the admin token.").await;
    scene.no_complaints(&[401]).await;

    scene.sign_in().await;
    browser.click("//nav//a[normalize-space() = 'Daily sales']").await;
    browser.press("New webhook").await;
    browser.fill("label", "Nightly build").await;
    browser.press("Create").await;
    browser.until_shown("The webhook is ready").await;
    browser.press("Copy URL").await;
    browser.until_shown("Copied").await;
    let url = browser.clipboard().await;
    assert!(url.starts_with(&format!("{}/api/v1/report/daily-sales/webhook?token=whk_", scene.world.base)));
    browser.press("Done").await;
    let secret = url.split_once("whk_").unwrap().1;
    browser.until(&format!("!document.documentElement.outerHTML.includes('{secret}')")).await;

    // Copy URL in the card gives the same URL, Reveal shows it, and it starts a run that is followed to its
    // end.
    browser.run("return navigator.clipboard.writeText('')", json!([])).await;
    browser.press("Copy URL").await;
    browser.until_shown("The URL is on the clipboard.").await;
    assert_eq!(browser.clipboard().await, url);
    browser.press("Reveal").await;
    browser.until_shown(&url).await;
    browser.press("Hide").await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let call = |url: String| client.post(url).send();
    assert_eq!(call(url.clone()).await.unwrap().status(), StatusCode::ACCEPTED);
    browser.until("document.querySelector('.run .state').dataset.state === 'running'").await;
    browser.until("document.querySelector('.run progress').value > 0").await;
    browser.until("document.querySelector('.run .state').dataset.state === 'succeeded'").await;
    browser.until_shown("20 rows for EMEA").await;

    // Disable and enable the webhook.
    browser.click("//input[@aria-label = 'Nightly build enabled']").await;
    browser.until_shown("Nightly build is disabled").await;
    assert_eq!(call(url.clone()).await.unwrap().status(), StatusCode::FORBIDDEN);
    browser.click("//input[@aria-label = 'Nightly build enabled']").await;
    browser.until_shown("Nightly build is enabled").await;

    // Refresh the token, after a confirmation.
    browser.press("Refresh token").await;
    browser.until_shown("The current URL stops working at once").await;
    browser.press("Cancel").await;
    assert_eq!(call(url.clone()).await.unwrap().status(), StatusCode::ACCEPTED);
    browser.press("Refresh token").await;
    browser.press("Refresh token").await;
    browser.until_shown("The token was refreshed").await;
    browser.press("Copy URL").await;
    browser.until_shown("Copied").await;
    let fresh = browser.clipboard().await;
    browser.press("Done").await;
    assert_eq!(call(url).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(call(fresh).await.unwrap().status(), StatusCode::ACCEPTED);
    scene.no_complaints(&[]).await;
    settings(&scene).await;
    runs(&scene).await;

    browser.go("#/report/daily-sales").await;
    browser.click("//button[@role = 'tab' and . = 'Settings']").await;
    browser.press("Delete webhook").await;
    browser.press("Delete").await;
    browser.until_shown("No webhook yet").await;
    scene.no_complaints(&[]).await;
}

async fn settings(scene: &Scene) {
    let browser = &scene.browser;
    browser.click("//button[@role = 'tab' and . = 'Settings']").await;
    browser.fill("retries.max_attempts", "0").await;
    browser.fill("notifications.email.recipients", "nobody").await;
    browser.press("Save settings").await;
    browser.until("document.querySelector('[name=\"retries.max_attempts\"]').getAttribute('aria-invalid') === 'true'").await;
    let problem = "document.querySelector('[name=\"notifications.email.recipients\"]').closest('.field').querySelector('.problem').textContent";
    assert!(scene.text(problem).await.contains("\"nobody\" is not an address"));
    scene.no_complaints(&[422]).await;
    browser.fill("retries.max_attempts", "2").await;
    browser.fill("notifications.email.recipients", "").await;
    browser.fill("rate_limit.per_minute", "30").await;
    browser.fill("notifications.email.recipients", "ann@example.com\nbob@example.com").await;
    browser.click("//input[@name = 'notifications.email.on' and @value = 'success']").await;
    browser.press("Save settings").await;
    browser.until_shown("The settings were saved.").await;
    let page = scene.world.webhooks.manage().list_webhooks(Default::default()).await.unwrap();
    let settings = serde_json::to_value(&page.items[0].settings).unwrap();
    let email = json!({"recipients": ["ann@example.com", "bob@example.com"], "on": ["success", "failure"]});
    assert_eq!(settings["notifications"], json!({"email": email, "slack": null}));
    assert_eq!(
        (&settings["retries"]["max_attempts"], &settings["rate_limit"]["burst"]),
        (&json!(2), &json!(30))
    );
    browser.press("Send a test notification").await;
    browser.until_shown("ann@example.com (email): delivered").await;
    assert_eq!(scene.world.notifier.delivered(2).await.len(), 2);

    // Another user was faster.
    scene.world.webhooks.manage().set_webhook_enabled(page.items[0].id, true).await.unwrap();
    browser.fill("label", "Later").await;
    browser.press("Save settings").await;
    browser.until_shown("Another user changed this webhook.").await;
    browser.press("Load").await;
    browser.until("document.querySelector('.form input[name=label]').value === 'Nightly build'").await;
    scene.no_complaints(&[412]).await;
}

async fn runs(scene: &Scene) {
    let browser = &scene.browser;
    // One of the recipients cannot be reached at first.
    scene.world.notifier.fail_next(1, DeliverFailure::Permanent);
    browser.press("Run now").await;
    browser.choose("region", "APAC").await;
    browser.fill("rows", "many").await;
    browser.fill("password", "hunter2-canary").await;
    browser.press("Start run").await;
    browser.until("document.querySelector('[name=rows]').getAttribute('aria-invalid') === 'true'").await;
    scene.no_complaints(&[422]).await;
    browser.fill("rows", "9007199254740993").await;
    browser.press("Start run").await;
    browser.until("document.querySelector('.run-head .state').dataset.state === 'running'").await;
    browser.until("document.querySelector('.log').textContent.includes('step 2: read 10 rows')").await;
    browser.until("document.querySelector('.run-head .state').dataset.state === 'succeeded'").await;
    browser.until("document.querySelector('.log').textContent.includes('step 4: read 20 rows')").await;
    let shown = scene.text("document.querySelector('main').innerText").await;
    for part in ["9007199254740993", "APAC", "***", "body", "default"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("hunter2-canary"));
    browser.until("document.querySelectorAll('[data-state=given_up]').length === 1").await;
    browser.until_shown("told to fail for good").await;
    browser.click("//tr[.//*[@data-state = 'given_up']]//button[normalize-space() = 'Resend']").await;
    browser.until("document.querySelectorAll('[data-state=delivered]').length === 2").await;

    browser.press("Open sales.html").await;
    browser.until("document.querySelector('dialog iframe') !== null").await;
    browser.enter(Some("dialog iframe")).await;
    browser.until("document.querySelector('iframe') !== null").await;
    browser.enter(Some("iframe")).await;
    browser.until("document.body.innerText.includes('Sales in EMEA')").await;
    let look = "const it = getComputedStyle(document.querySelector('h1')); return [it.color, it.letterSpacing, origin]";
    assert_eq!(browser.run(look, json!([])).await, json!(["rgb(1, 2, 3)", "3px", "null"]));
    browser.enter(None).await;
    browser.press("Close").await;
    browser.press("Retry").await;
    browser.until_shown("A new run was started").await;
    scene.no_complaints(&[]).await;

    let training = scene.world.hook("notebook/training", json!({"label": "By hand"})).await;
    let run = scene.world.start_run(training, json!({"epochs": 10})).await;
    scene.go(&run_hash("notebook/training", run), "epoch 7 of 10").await;
    browser.press("Cancel run").await;
    browser.until("document.querySelector('.run-head .state').dataset.state === 'cancelled'").await;
    every_type(scene).await;
    history(scene).await;
}

async fn every_type(scene: &Scene) {
    let browser = &scene.browser;
    scene.go("#/notebook/training", "Train the forecast").await;
    browser.until_shown("By hand").await;
    browser.press("Run now").await;
    browser.press("Start run").await;
    browser.until("document.querySelector('[name=epochs]').getAttribute('aria-invalid') === 'true'").await;
    browser.fill("epochs", "3").await;
    browser.fill("rate", "0.5").await;
    browser.choose("shuffle", "true").await;
    browser
        .run("const it = document.querySelector('[name=until]'); it.value = '2026-01-31T06:00'", json!([]))
        .await;
    browser.fill("layers", "one\ntwo").await;
    browser.fill("options", "{\"a\": ").await;
    browser.press("Start run").await;
    browser.until_shown("This is not JSON").await;
    browser.fill("options", "{\"a\": 18446744073709551615}").await;
    browser.press("Start run").await;
    browser.until("location.hash.includes('/runs/')").await;
    browser.until_shown("18446744073709551615").await;
    let run = scene.text("location.hash.split('/').pop()").await;
    let record = scene.world.webhooks.manage().get_run(run.parse().unwrap()).await.unwrap();
    let given = |name: &str| {
        let mut found = record.parameters().iter().filter(|(own, _)| *own == name);
        found.next().map_or(Value::Null, |(_, parameter)| parameter.shown())
    };
    assert_eq!((given("epochs"), given("rate"), given("shuffle")), (json!(3), json!(0.5), json!(true)));
    assert_eq!(given("layers"), json!(["one", "two"]));
    assert_eq!(given("options"), json!({"a": u64::MAX}));
    assert!(given("until").as_str().unwrap().ends_with(":00:00.000Z"), "{}", given("until"));
    browser.press("Cancel run").await;
    scene.no_complaints(&[422]).await;
}

async fn history(scene: &Scene) {
    let browser = &scene.browser;
    scene.go("#/", "All runs").await;
    browser.choose("State", "cancelled").await;
    browser
        .until("[...document.querySelectorAll('.run .state')].every(it => it.dataset.state === 'cancelled')")
        .await;
    browser.choose("Workflow", "report/daily-sales").await;
    browser.until_shown("No run fits the filter").await;
}
