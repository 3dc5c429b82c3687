//! Tests of the panel without a mouse: everything can be reached, and a whole day is done, by the keyboard.

use serde_json::json;

use crate::Scene;
use crate::browser::{BACKSPACE, ENTER, ESCAPE, LEFT, TAB};

/// Number of presses of Tab after which an element counts as unreachable: more than once around any page.
const MOST_TABS: usize = 90;
/// Script that returns the name of the focused element.
const NAME: &str = "const it = document.activeElement;
    return it.getAttribute('aria-label') ?? it.labels?.[0]?.innerText ?? it.innerText";

impl Scene {
    async fn focused(&self) -> String {
        self.browser.run(NAME, json!([])).await.as_str().unwrap_or_default().trim().to_owned()
    }

    /// Presses Tab until the focus is on an element whose name has this start.
    async fn tab_to(&self, name: &str) {
        let mut passed = Vec::new();
        while passed.len() < MOST_TABS {
            let focused = self.focused().await;
            if focused.starts_with(name) {
                return;
            }
            passed.push(focused);
            self.browser.keys(&[TAB]).await;
        }
        panic!("{name} is not among {passed:?}");
    }

    async fn enter_on(&self, name: &str) {
        self.tab_to(name).await;
        self.browser.keys(&[ENTER]).await;
    }

    async fn type_into(&self, name: &str, text: &str) {
        self.tab_to(name).await;
        self.browser.keys(&text.chars().collect::<Vec<_>>()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_day_is_done_by_the_keyboard_alone() {
    let Some(scene) = Scene::start().await else { return };
    let browser = &scene.browser;
    browser.open(&format!("{}/panel", scene.world.base)).await;
    browser.until("document.activeElement.name === 'token'").await;
    browser.keys(&crate::ADMIN.chars().chain([ENTER]).collect::<Vec<_>>()).await;
    browser.until_shown("Daily sales").await;
    browser.until("document.querySelector('.loading') === null").await;
    scene.enter_on("Daily sales").await;
    browser.until_shown("No webhook yet").await;

    scene.enter_on("New webhook").await;
    browser.until("document.activeElement.name === 'label'").await;
    scene.type_into("Label", "By keyboard").await;
    scene.enter_on("Create").await;
    browser.until_shown("The webhook is ready").await;
    scene.enter_on("Copy URL").await;
    browser.until_shown("Copied").await;
    let first = browser.clipboard().await;
    scene.enter_on("Done").await;
    browser.until("document.querySelector('dialog') === null").await;
    scene.enter_on("Reveal").await;
    browser
        .until(
            "document.querySelector('.card .url').innerText.includes(arguments[0])"
                .replace("arguments[0]", &json!(first).to_string())
                .as_str(),
        )
        .await;

    scene.type_into("By keyboard enabled", " ").await;
    browser.until_shown("By keyboard is disabled").await;
    scene.type_into("By keyboard enabled", " ").await;
    browser.until_shown("By keyboard is enabled").await;

    scene.enter_on("Refresh token").await;
    browser.until("document.activeElement.innerText === 'Cancel'").await;
    scene.enter_on("Refresh token").await;
    browser.until_shown("The token was refreshed").await;
    scene.enter_on("Copy URL").await;
    browser.until_shown("Copied").await;
    assert_ne!(browser.clipboard().await, first);
    scene.enter_on("Done").await;
    browser.until("document.querySelector('dialog') === null").await;

    scene.tab_to("Call it").await;
    browser.keys(&[LEFT]).await;
    browser.until_shown("Save settings").await;
    scene.type_into("Email to", "ann@example.com").await;
    scene.tab_to("Attempts").await;
    browser.keys(&[BACKSPACE, '0']).await;
    scene.enter_on("Save settings").await;
    browser.until("document.activeElement.name === 'retries.max_attempts'").await;
    browser.keys(&[BACKSPACE, '2']).await;
    scene.enter_on("Save settings").await;
    browser.until_shown("The settings were saved.").await;
    scene.no_complaints(&[422]).await;

    scene.enter_on("Run now").await;
    browser.until("document.querySelector('dialog[open]') !== null").await;
    scene.type_into("region", "AP").await;
    scene.enter_on("Start run").await;
    browser.until("document.querySelector('.run-head .state').dataset.state === 'succeeded'").await;
    browser.until_shown("APAC").await;
    scene.enter_on("Open sales.html").await;
    browser.until("document.querySelector('dialog iframe') !== null").await;
    browser.keys(&[ESCAPE]).await;
    browser.until("document.activeElement.getAttribute('aria-label') === 'Open sales.html'").await;
    scene.enter_on("Retry").await;
    browser.until_shown("A new run was started").await;

    let training = scene.world.hook("notebook/training", json!({"label": "Planning"})).await;
    scene.world.start_run(training, json!({"epochs": 10})).await;
    scene.enter_on("All runs").await;
    scene.tab_to("Running").await;
    browser.keys(&[ENTER]).await;
    browser.until_shown("epoch 7 of 10").await;
    scene.enter_on("Cancel run").await;
    browser.until("document.querySelector('.run-head .state').dataset.state === 'cancelled'").await;

    scene.enter_on("Daily sales").await;
    browser.until_shown("By keyboard").await;
    scene.tab_to("Call it").await;
    browser.keys(&[LEFT]).await;
    scene.enter_on("Delete webhook").await;
    browser.until("document.activeElement.innerText === 'Cancel'").await;
    scene.enter_on("Delete").await;
    browser.until_shown("No webhook yet").await;
    browser.until("document.activeElement.innerText === 'New webhook'").await;
    scene.enter_on("Sign out").await;
    browser.until("document.activeElement.name === 'token'").await;
    scene.no_complaints(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_can_be_reached_by_keyboard() {
    let Some(scene) = Scene::start().await else { return };
    let browser = &scene.browser;
    scene.world.hook("report/daily-sales", json!({"label": "Nightly build"})).await;
    browser.open(&format!("{}/panel", scene.world.base)).await;
    browser.until("document.activeElement.name === 'token'").await;
    browser.keys(&crate::ADMIN.chars().chain([ENTER]).collect::<Vec<_>>()).await;
    browser.until_shown("Daily sales").await;
    scene.go("#/report/daily-sales", "Nightly build").await;
    browser.until("document.activeElement.id === 'main'").await;
    let mut reached = Vec::new();
    for _ in 0..60 {
        browser.keys(&[TAB]).await;
        reached.push(scene.focused().await);
        let outlined = "const it = getComputedStyle(document.activeElement);
            return document.activeElement === document.body || it.outlineStyle !== 'none'";
        assert_eq!(
            browser.run(outlined, json!([])).await,
            json!(true),
            "{:?} shows no focus",
            reached.last()
        );
    }
    let wanted = [
        "Run now",
        "New webhook",
        "Run now by Nightly build",
        "Nightly build enabled",
        "Copy URL",
        "Reveal",
        "Refresh token",
        "Call it",
        "curl POST",
        "Copy curl POST",
        "State",
        "Webhook",
        "Sign out",
        "Skip to the content",
    ];
    for wanted in wanted {
        assert!(reached.iter().any(|it| it.starts_with(wanted)), "{wanted} is not among {reached:?}");
    }
    // Arrows change tabs, a dialog takes the focus, and Escape closes it and restores the focus.
    browser.run("document.querySelector('[role=tab]').focus()", json!([])).await;
    browser.keys(&[LEFT]).await;
    browser.until_shown("Save settings").await;
    browser
        .run(
            "[...document.querySelectorAll('button')].find(it => it.innerText === 'Refresh token').focus()",
            json!([]),
        )
        .await;
    browser.keys(&[ENTER]).await;
    browser.until("document.activeElement.closest('dialog') !== null").await;
    browser.keys(&[ESCAPE]).await;
    browser.until("document.activeElement.innerText === 'Refresh token'").await;
    scene.no_complaints(&[]).await;
}
