//! Tests of many tabs at once, of lists that miss nothing, and of values too long for a list.

use serde_json::{Value, json};

use crate::Scene;
use crate::world::{World, run_hash};

const LIVE: &str = "document.querySelector('.connection').dataset.state === 'live'";

fn streams(world: &World) -> usize {
    world.asked.lock().iter().filter(|path| path.ends_with("/events")).count()
}

fn shows(run: &str) -> String {
    format!("document.querySelector('[data-run=\"{run}\"]') !== null")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_windows_are_live_over_one_stream_and_another_takes_over_when_its_window_closes() {
    let Some(scene) = Scene::start().await else { return };
    let (browser, world) = (&scene.browser, &scene.world);
    let hook = world.hook("report/stock", json!({"label": "Shop"})).await;
    let mut windows = vec![browser.window().await];
    scene.sign_in().await;
    while windows.len() < 8 {
        windows.push(browser.another("window").await);
        scene.sign_in().await;
    }
    assert_eq!(streams(world), 1, "one window streams for all");
    let run = world.start_run(hook, json!({})).await.to_string();
    for window in &windows {
        browser.switch(window).await;
        browser.until(&shows(&run)).await;
        // Requests are answered: a page is opened and a run is started in each tab.
        scene.go("#/report/stock", "Shop").await;
        browser.press("Run now").await;
        browser.press("Start run").await;
        browser.until("location.hash.includes('/runs/')").await;
        browser.until_shown("the warehouse database refused the connection").await;
        scene.go("#/", "All runs").await;
    }
    browser.switch(&windows[0]).await;
    browser.close().await;
    browser.switch(&windows[7]).await;
    let run = world.start_run(hook, json!({})).await.to_string();
    for window in &windows[1..] {
        browser.switch(window).await;
        browser.until(LIVE).await;
        browser.until(&shows(&run)).await;
        scene.no_complaints(&[]).await;
    }
    assert_eq!(streams(world), 2, "one other took over");
}

/// Simulates a tab that goes to the background or returns from there.
const HIDE: &str = "Object.defineProperty(document, 'hidden', { value: arguments[0], configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hidden_tab_streams_nothing_and_shows_what_it_missed_when_it_is_seen_again() {
    let Some(scene) = Scene::start().await else { return };
    let (browser, world) = (&scene.browser, &scene.world);
    let hook = world.hook("report/stock", json!({"label": "Shop"})).await;
    scene.sign_in().await;
    browser.until_shown("No runs yet").await;
    let first = browser.window().await;
    browser.run(HIDE, json!([true])).await;
    let free = "return new Promise(done => { const look = () => navigator.locks.query().then(({ held }) =>
        held.length ? setTimeout(look, 20) : done(0)); look(); })";
    assert_eq!(browser.run(free, json!([])).await, json!(0), "no lock is held");
    let missed = world.start_run(hook, json!({})).await;
    world.ended(missed).await;
    assert_eq!(browser.run(&format!("return {}", shows(&missed.to_string())), json!([])).await, json!(false));

    // Another window streams meanwhile; both continue when the first is visible again.
    let second = browser.another("window").await;
    scene.sign_in().await;
    browser.switch(&first).await;
    browser.run(HIDE, json!([false])).await;
    browser.until(&shows(&missed.to_string())).await;
    let run = world.start_run(hook, json!({})).await;
    for window in [&first, &second] {
        browser.switch(window).await;
        browser.until(&shows(&run.to_string())).await;
    }
    assert_eq!(streams(world), 2);
    scene.no_complaints(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_that_come_to_fit_the_filter_are_put_where_they_belong() {
    let Some(scene) = Scene::start().await else { return };
    let (browser, world) = (&scene.browser, &scene.world);
    let hook = world.hook("notebook/training", json!({"label": "Planning"})).await;
    scene.sign_in().await;
    let mut runs = Vec::new();
    for _ in 0..3 {
        runs.push(world.start_run(hook, json!({"epochs": 1})).await);
    }
    browser.choose("State", "cancelled").await;
    browser.until_shown("No run fits the filter").await;
    for place in [1, 2, 0] {
        let cancelled = world.webhooks.manage().cancel_run(runs[place]).await.unwrap();
        browser.until(&shows(&cancelled.id().to_string())).await;
    }
    let listed = "return [...document.querySelectorAll('[data-run]')].map(item => item.dataset.run)";
    let newest_first: Vec<Value> = runs.iter().rev().map(|run| json!(run.to_string())).collect();
    assert_eq!(browser.run(listed, json!([])).await, Value::from(newest_first));
    scene.no_complaints(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_of_a_hundred_thousand_characters_is_shown_in_full_when_asked_for() {
    let Some(scene) = Scene::start().await else { return };
    let (browser, world) = (&scene.browser, &scene.world);
    let hook = world.hook("report/stock", json!({"label": "Shop"})).await;
    scene.sign_in().await;
    let run = world.start_run(hook, json!({"note": "x".repeat(100_000)})).await;
    scene.go(&run_hash("report/stock", run), "note").await;
    let length = "return document.querySelector('.value').textContent.length";
    assert!(browser.run(length, json!([])).await.as_u64().unwrap() < 5_000);
    browser.click("//button[starts-with(normalize-space(), 'Show 96')]").await;
    assert_eq!(browser.run(length, json!([])).await, json!(100_000));
    scene.no_complaints(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_are_shown_as_they_are_given_out() {
    let base = "https://hooks.example.com/our";
    let Some(scene) = Scene::with(World::behind(base)).await else { return };
    let browser = &scene.browser;
    scene.world.hook("report/stock", json!({"label": "Shop"})).await;
    scene.sign_in().await;
    scene.go("#/report/stock", "Shop").await;
    let address = format!("{base}/api/v1/report/stock/webhook");
    let shown = scene.text("document.querySelector('.url').textContent").await;
    assert!(shown.starts_with(&format!("{address}?token=whk_")), "{shown}");
    browser.press("Reveal").await;
    browser.until(&format!("document.querySelector('.url').textContent.startsWith('{address}?token=whk_') && !document.querySelector('.url').textContent.includes('•')")).await;
    let shown = scene.text("document.querySelector('pre code').textContent").await;
    assert!(shown.contains(&address), "{shown}");
    scene.no_complaints(&[]).await;
}
