//! The panel behind a host's own sign-in, whose session ends while the panel is open.

use serde_json::json;

use crate::Scene;
use crate::world::{Refusal, World};

const ENDED: &str = "Your session has ended";
const SHOWS_NOTICE: &str = "document.querySelector('#panel > .ended .notice') !== null";
const LIVE: &str = "document.querySelector('.connection').dataset.state === 'live'";

/// Closes the stream and opens it again, as a page does that is left and shown again.
const OPEN_STREAM_AGAIN: &str = "dispatchEvent(new Event('pagehide')); dispatchEvent(new Event('pageshow'))";

async fn open_panel(refusal: Refusal) -> Option<Scene> {
    let scene = Scene::with(World::behind_own_sign_in(refusal)).await?;
    scene.browser.open(&format!("{}/panel", scene.world.base)).await;
    scene.browser.until(LIVE).await;
    scene.browser.until_shown("Stock levels").await;
    Some(scene)
}

/// Ends the session, which first the stream and then a click notices, or the click alone.
async fn session_ends(refusal: Refusal) {
    for by_stream in [true, false] {
        let Some(scene) = open_panel(refusal).await else { return };
        let browser = &scene.browser;
        *scene.world.session.lock() = false;
        if by_stream {
            browser.run(OPEN_STREAM_AGAIN, json!([])).await;
            browser.until_shown("Signed out").await;
        } else {
            browser.click("//nav//a[contains(., 'Stock levels')]").await;
        }
        browser.until(SHOWS_NOTICE).await;
        let text = scene.text("document.body.innerText").await;
        assert!(text.contains(ENDED) && !text.contains("cannot be reached"), "{refusal:?}: {text}");

        // The user signs in in another tab.
        *scene.world.session.lock() = true;
        browser.run(OPEN_STREAM_AGAIN, json!([])).await;
        browser.until(&format!("{LIVE} && !({SHOWS_NOTICE})")).await;

        *scene.world.session.lock() = false;
        browser.click("//nav//a[contains(., 'Daily sales')]").await;
        browser.until(SHOWS_NOTICE).await;
        scene.no_complaints(&[401]).await;
        browser.press("Sign in again").await;
        browser.until_shown("The sign-in form of the host").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_ended_is_told_when_the_api_redirects_to_the_form() {
    session_ends(Refusal::Redirect).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_ended_is_told_when_the_api_answers_an_empty_401() {
    session_ends(Refusal::EmptyUnauthorized).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_ended_is_told_when_the_api_answers_with_the_form() {
    session_ends(Refusal::Form).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_be_reached_is_not_taken_for_an_ended_session() {
    let Some(scene) = open_panel(Refusal::Redirect).await else { return };
    let browser = &scene.browser;
    browser.cdp("Network.enable", json!({})).await;
    let offline = json!({"offline": true, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1});
    browser.cdp("Network.emulateNetworkConditions", offline).await;
    browser.click("//nav//a[contains(., 'Stock levels')]").await;
    browser.until_shown("The server cannot be reached").await;
    assert!(!scene.text("document.body.innerText").await.contains(ENDED));
}
