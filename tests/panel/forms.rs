//! Tests that forms send text as it was typed, and never lose any without a message.

use serde_json::json;

use crate::Scene;
use crate::browser::TAB;

impl Scene {
    /// Waits until a field is marked as wrong with a message that contains `text`.
    async fn refused(&self, name: &str, text: &str) {
        let text = json!(text);
        let field = format!("document.querySelector('[name=\"{name}\"]')");
        let said =
            format!("{field}.closest('.field').querySelector('.problem').textContent.includes({text})");
        self.browser.until(&format!("{field}.getAttribute('aria-invalid') === 'true' && {said}")).await;
    }

    async fn runs_started(&self) -> usize {
        self.world.webhooks.manage().list_runs(Default::default()).await.unwrap().items.len()
    }

    async fn focus_on(&self, name: &str) {
        self.browser.run("document.getElementsByName(arguments[0])[0].focus()", json!([name])).await;
    }

    async fn type_text(&self, text: &str) {
        self.browser.keys(&text.chars().collect::<Vec<_>>()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_typed_date_is_refused_and_text_goes_out_as_it_was_typed() {
    let Some(scene) = Scene::start().await else { return };
    let browser = &scene.browser;
    scene.world.hook("notebook/training", json!({"label": "By hand", "enabled": false})).await;
    scene.sign_in().await;
    scene.go("#/notebook/training", "By hand").await;
    browser.press("Run now").await;
    browser.until_shown("This webhook is disabled").await;
    browser.fill("epochs", "3").await;
    scene.focus_on("day").await;
    scene.type_text("12").await;
    browser.press("Start run").await;
    scene.refused("day", "This is not complete").await;
    assert_eq!(scene.runs_started().await, 0);
    browser.until("document.activeElement.name === 'day'").await;
    browser.run("document.getElementsByName('day')[0].value = '2026-01-31'", json!([])).await;
    let note = "  first line\n\tsecond line \n";
    let set = "const it = document.getElementsByName('note')[0]; it.value = arguments[0];";
    browser.run(set, json!([note])).await;
    browser.press("Start run").await;
    browser.until("location.hash.includes('/runs/')").await;
    let run = scene.text("location.hash.split('/').pop()").await;
    let record = scene.world.webhooks.manage().get_run(run.parse().unwrap()).await.unwrap();
    let given = |name: &str| record.parameters().iter().find(|(own, _)| *own == name).unwrap().1.shown();
    assert_eq!((given("note"), given("day")), (json!(note), json!("2026-01-31")));
    scene.no_complaints(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_are_not_saved_are_not_lost_without_asking() {
    let Some(scene) = Scene::start().await else { return };
    let browser = &scene.browser;
    scene.world.hook("report/stock", json!({"label": "Shop"})).await;
    scene.sign_in().await;
    scene.go("#/report/stock", "Shop").await;
    browser.click("//button[@role = 'tab' and . = 'Settings']").await;
    browser.fill("timeout_s", "0x10").await;
    browser.press("Save settings").await;
    scene.refused("timeout_s", "decimal digits").await;

    // Leave by a link and by Back. A user who stays finds everything unchanged.
    browser.click("//nav//a[normalize-space() = 'All runs']").await;
    browser.until_shown("Leave without saving?").await;
    browser.press("Cancel").await;
    browser.until("location.hash === '#/report/stock'").await;
    browser.back().await;
    browser.until_shown("Leave without saving?").await;
    browser.press("Cancel").await;
    browser.until("location.hash === '#/report/stock'").await;
    browser.until("document.querySelector('[name=timeout_s]').value === '0x10'").await;

    browser.click("//nav//a[normalize-space() = 'All runs']").await;
    browser.press("Leave without saving").await;
    browser.until("document.querySelector('h1').textContent === 'All runs'").await;
    scene.go("#/report/stock", "Shop").await;
    browser.click("//button[@role = 'tab' and . = 'Settings']").await;
    browser.fill("timeout_s", "30").await;
    browser.press("Save settings").await;
    browser.until_shown("The settings were saved.").await;
    scene.go("#/", "All runs").await;
    scene.no_complaints(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn back_closes_dialogs_and_finds_the_filters_again() {
    let Some(scene) = Scene::start().await else { return };
    let browser = &scene.browser;
    let hook = scene.world.hook("report/stock", json!({"label": "Shop", "allow_get": false})).await;
    let run = scene.world.start_run(hook, json!({})).await;
    scene.world.ended(run).await;
    scene.sign_in().await;
    browser.choose("State", "failed").await;
    browser.until("location.hash === '#/?state=failed'").await;
    scene.go("#/report/stock", "Shop").await;
    browser.until_shown("curl POST").await;
    assert!(!scene.text("document.querySelector('main').innerText").await.contains("curl GET"));
    browser.press("Run now").await;
    browser.until("document.querySelector('dialog[open]') !== null").await;
    browser.keys(&[TAB]).await;
    browser.back().await;
    browser.until("document.querySelector('dialog') === null").await;
    browser.until("document.querySelector('h1').textContent === 'All runs'").await;
    let chosen = "document.querySelector('[aria-label=State]').value === 'failed'";
    browser.until(chosen).await;
    browser.run("location.reload()", json!([])).await;
    browser.until(chosen).await;

    let unknown = "01900000-0000-7000-8000-000000000000";
    scene.go(&format!("#/report/stock/runs/{unknown}"), unknown).await;
    browser.until("document.querySelector('main .notice, main .empty, main [role=alert]') !== null").await;
    browser.until("document.querySelector('.log')?.checkVisibility() !== true").await;
    scene.no_complaints(&[404]).await;
}
