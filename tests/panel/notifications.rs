//! The page of notifications across runs.

use serde_json::json;
use webhook_testing::DeliverFailure;

use crate::Scene;
use crate::world::parameters;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_that_were_given_up_are_found_and_sent_again_together() {
    let Some(scene) = Scene::start().await else { return };
    let (world, browser) = (&scene.world, &scene.browser);
    let email = json!({"recipients": ["ann@example.com", "bob@example.com"], "on": ["success"]});
    let hook = world.hook("report/daily-sales", json!({"notifications": {"email": email}})).await;
    world.notifier.fail_next(2, DeliverFailure::Permanent);
    let run = world.start_run(hook, parameters()).await;
    world.ended(run).await;
    let is_pending = async || world.webhooks.health().await.unwrap().pending_deliveries > 0;
    while is_pending().await {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }

    scene.sign_in().await;
    browser.click("//nav//a[normalize-space() = 'Notifications']").await;
    browser.until("document.querySelectorAll('.deliveries [data-state=given_up]').length === 2").await;
    browser.until_shown("told to fail for good").await;
    browser.click("(//a[normalize-space() = 'Open the run'])[1]").await;
    browser.until(&format!("location.hash.endsWith('/runs/{run}')")).await;

    scene.go("#/notifications", "ann@example.com").await;
    browser.press("Resend all").await;
    browser.until_shown("goes out once more").await;
    browser.press("Resend all").await;
    browser.until_shown("2 notifications are queued.").await;
    browser.until_shown("No notification fits the filter").await;
    world.notifier.delivered(2).await;
    browser.click("//select[@aria-label = 'State']/option[normalize-space() = 'Delivered']").await;
    browser.until("document.querySelectorAll('.deliveries [data-state=delivered]').length === 2").await;
    scene.no_complaints(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_of_notifications_shows_new_ones_and_how_they_went_by_itself() {
    let Some(scene) = Scene::start().await else { return };
    let (world, browser) = (&scene.world, &scene.browser);
    let email = json!({"recipients": ["ann@example.com"], "on": ["success"]});
    let hook = world.hook("report/daily-sales", json!({"notifications": {"email": email}})).await;
    scene.sign_in().await;
    scene.go("#/notifications?state=any", "No notifications yet").await;
    let run = world.start_run(hook, parameters()).await;
    browser.until("document.querySelector('.deliveries [data-state=delivered]') !== null").await;
    browser.until_shown("Daily sales · the run succeeded · Email").await;
    browser.click("//a[normalize-space() = 'Open the run']").await;
    browser.until(&format!("location.hash.endsWith('/runs/{run}')")).await;
    scene.no_complaints(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_without_its_integration_is_shown_as_unavailable_with_what_to_configure() {
    let Some(scene) = Scene::start().await else { return };
    let browser = &scene.browser;
    scene.world.hook("report/daily-sales", json!({})).await;
    scene.sign_in().await;
    scene.go("#/report/daily-sales", "Unnamed").await;
    browser.click("//button[@role = 'tab' and . = 'Settings']").await;
    browser.until_shown("Slack is not available.").await;
    browser.until_shown("Start webhook-server with --slack-token").await;
    let disabled = async |channel: &str| {
        let inputs =
            format!("[...document.querySelectorAll('[data-channel={channel}] :is(input, textarea)')]");
        scene.text(&format!("String({inputs}.map((input) => input.disabled))")).await
    };
    assert_eq!(disabled("slack").await, "true,true,true");
    assert_eq!(disabled("email").await, "false,false,false");
    let said = scene.text("document.querySelector('[data-channel=email]').textContent").await;
    assert!(!said.contains("not available"), "{said}");
    scene.no_complaints(&[]).await;
}
