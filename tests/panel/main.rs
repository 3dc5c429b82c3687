//! Tests of the panel in a real browser: chromium through its driver. Any complaint of the browser, in its
//! console or by its content policy, fails a test.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(clippy::print_stderr, reason = "a test says why it is skipped")]

mod browser;
mod calls;
mod day;
mod forms;
mod keyboard;
mod looks;
mod notifications;
mod own_sign_in;
mod safety;
mod senders;
mod snippets;
mod tabs;
mod world;

use browser::Browser;
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};
use world::{ADMIN, World};

/// Allows one browser at a time, since they are heavy.
static ONE: Mutex<()> = Mutex::const_new(());

/// A world, and a browser that is signed in to its panel.
struct Scene {
    world: World,
    browser: Browser,
    _turn: MutexGuard<'static, ()>,
}

impl Scene {
    /// Starts both; `None` if there is no browser.
    async fn start() -> Option<Self> {
        Self::with(World::start()).await
    }

    async fn with(world: impl Future<Output = World>) -> Option<Self> {
        let turn = ONE.lock().await;
        let browser = Browser::start().await?;
        let world = world.await;
        browser.allow_clipboard(&world.base).await;
        Some(Self { world, browser, _turn: turn })
    }

    async fn sign_in(&self) {
        self.browser.open(&format!("{}/panel", self.world.base)).await;
        self.browser.fill("token", ADMIN).await;
        self.browser.press("Sign in").await;
        self.browser.until("document.querySelector('.connection').dataset.state === 'live'").await;
        self.browser.until("document.querySelector('.side-list').children.length > 0").await;
    }

    /// Opens a page and waits until it shows `text` and has finished loading.
    async fn go(&self, hash: &str, text: &str) {
        self.browser.go(hash).await;
        self.browser.until_shown(text).await;
        self.browser.until("document.querySelector('.loading') === null").await;
    }

    async fn no_complaints(&self, expected: &[u16]) {
        assert_eq!(self.browser.complaints(expected).await, Vec::<String>::new());
    }

    async fn text(&self, expression: &str) -> String {
        let text = self.browser.run(&format!("return {expression}"), json!([])).await;
        text.as_str().unwrap_or_default().to_owned()
    }
}
