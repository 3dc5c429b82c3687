//! A real browser, driven over WebDriver (W3C recommendation) with the workspace's HTTP client.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Upper bound on the time of one step on a page.
const PATIENCE: Duration = Duration::from_secs(20);
const BETWEEN_LOOKS: Duration = Duration::from_millis(30);

/// Key of an element's id on the wire.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Keys without a character (WebDriver section 17.4.2).
pub(crate) const TAB: char = '\u{e004}';
pub(crate) const ENTER: char = '\u{e007}';
pub(crate) const BACKSPACE: char = '\u{e003}';
pub(crate) const LEFT: char = '\u{e012}';
pub(crate) const ESCAPE: char = '\u{e00c}';

/// Script that runs in every page before its own scripts, and records what the policy refused.
const WATCH: &str = "window.refused = []; addEventListener('securitypolicyviolation', e => refused.push(e.violatedDirective + ' ' + e.blockedURI));";

/// A running browser. It and its driver end on drop.
pub(crate) struct Browser {
    driver: Child,
    browser: Option<Pid>,
    session: String,
    client: Client,
    _profile: tempfile::TempDir,
}

/// Returns the path of a program, if it is installed.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Prints that something is not tested, or fails if everything must be tested.
pub(crate) fn skip(why: &str) {
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{why}");
    eprintln!("SKIPPED: {why}");
}

impl Browser {
    /// Starts a browser, or prints what is missing.
    pub(crate) async fn start() -> Option<Self> {
        let (Some(chromium), Some(driver)) = (program("chromium"), program("chromedriver")) else {
            skip("the panel is tested with chromium and chromedriver, and one of them is not installed");
            return None;
        };
        let mut driver = Command::new(driver)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines().map(Result::unwrap);
        let port = lines.into_iter().find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        let address = format!("http://127.0.0.1:{}/session", port.expect("the driver names its port"));
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
        let profile = tempfile::tempdir().unwrap();
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--window-size=1440,900",
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"binary": chromium, "args": arguments},
        }}});
        let mut browser = Self { driver, browser: None, session: address.clone(), client, _profile: profile };
        let started = browser.ask("POST", "", Some(capabilities)).await.expect("a session");
        browser.session = format!("{address}/{}", started["sessionId"].as_str().unwrap());
        let id = started["capabilities"]["goog:processID"].as_i64().and_then(|id| id.try_into().ok());
        browser.browser = id.and_then(Pid::from_raw);
        browser.cdp("Page.addScriptToEvaluateOnNewDocument", json!({"source": WATCH})).await;
        Some(browser)
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, Value> {
        let request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.session));
        let request = if let Some(body) = body { request.json(&body) } else { request };
        let answer = request.send().await.unwrap();
        let good = answer.status().is_success();
        let mut content: Value = answer.json().await.unwrap();
        let value = content["value"].take();
        if good { Ok(value) } else { Err(value) }
    }

    /// Sends a command of the Chrome DevTools protocol.
    pub(crate) async fn cdp(&self, command: &str, parameters: Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        self.ask("POST", "/goog/cdp/execute", Some(body)).await.unwrap()
    }

    pub(crate) async fn open(&self, url: &str) {
        self.ask("POST", "/url", Some(json!({"url": url}))).await.unwrap();
    }

    /// Opens another `window` or `tab` and continues there. Returns its handle.
    pub(crate) async fn another(&self, kind: &str) -> String {
        let made = self.ask("POST", "/window/new", Some(json!({"type": kind}))).await.unwrap();
        let handle = made["handle"].as_str().unwrap().to_owned();
        self.switch(&handle).await;
        self.cdp("Page.addScriptToEvaluateOnNewDocument", json!({"source": WATCH})).await;
        handle
    }

    /// Returns the handle of the current window.
    pub(crate) async fn window(&self) -> String {
        self.ask("GET", "/window", None).await.unwrap().as_str().unwrap().to_owned()
    }

    /// Continues in another window.
    pub(crate) async fn switch(&self, handle: &str) {
        self.ask("POST", "/window", Some(json!({"handle": handle}))).await.unwrap();
    }

    /// Closes the current window.
    pub(crate) async fn close(&self) {
        self.ask("DELETE", "/window", None).await.unwrap();
    }

    /// Goes to an address within the page.
    pub(crate) async fn go(&self, hash: &str) {
        self.run("location.hash = arguments[0]", json!([hash])).await;
    }

    /// Goes back, as the button of the browser does.
    pub(crate) async fn back(&self) {
        self.ask("POST", "/back", Some(json!({}))).await.unwrap();
    }

    /// Runs a script on the page and returns its result; a promise is awaited.
    pub(crate) async fn run(&self, script: &str, arguments: Value) -> Value {
        let body = json!({"script": script, "args": arguments});
        let answer = self.ask("POST", "/execute/sync", Some(body)).await;
        answer.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Waits until an expression is true on the page.
    pub(crate) async fn until(&self, expression: &str) {
        let script = format!("try {{ return Boolean({expression}); }} catch {{ return false; }}");
        let deadline = Instant::now() + PATIENCE;
        while self.run(&script, json!([])).await != Value::Bool(true) {
            if Instant::now() > deadline {
                let page = self.run("return document.body.innerText", json!([])).await;
                panic!("not true: {expression}\n{}", page.as_str().unwrap_or_default());
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    /// Waits until the page shows this text.
    pub(crate) async fn until_shown(&self, text: &str) {
        self.until(&format!("document.body.innerText.includes({})", json!(text))).await;
    }

    /// Acts on the first displayed element that an XPath finds, as soon as that is possible.
    async fn act(&self, xpath: &str, path: &str, body: Value) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let outcome = self.try_to_act(xpath, path, &body).await;
            let Err(error) = outcome else { return };
            assert!(Instant::now() < deadline, "{xpath}: {error}");
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    async fn try_to_act(&self, xpath: &str, path: &str, body: &Value) -> Result<(), Value> {
        let search = json!({"using": "xpath", "value": xpath});
        let found = self.ask("POST", "/elements", Some(search)).await?;
        for shown in found.as_array().into_iter().flatten() {
            let element = format!("/element/{}", shown[ELEMENT].as_str().unwrap());
            if self.ask("GET", &format!("{element}/displayed"), None).await? == Value::Bool(true) {
                // Scroll it away from the header of the page, which stays in place.
                let middle =
                    json!({"script": "arguments[0].scrollIntoView({block: 'center'})", "args": [shown]});
                self.ask("POST", "/execute/sync", Some(middle)).await?;
                return self.ask("POST", &format!("{element}{path}"), Some(body.clone())).await.map(|_| ());
            }
        }
        Err(json!("it is not shown"))
    }

    pub(crate) async fn click(&self, xpath: &str) {
        self.act(xpath, "/click", json!({})).await;
    }

    /// Clicks the button with this name, which is its label if it has one.
    pub(crate) async fn press(&self, name: &str) {
        let inside = "(//dialog[@open])[last()]";
        let open = self.run("return document.querySelector('dialog[open]') !== null", json!([])).await;
        let root = if open == Value::Bool(true) { inside } else { "" };
        self.click(&format!(
            "{root}//button[(@aria-label = '{name}') or (not(@aria-label) and normalize-space() = '{name}')]"
        ))
        .await;
    }

    /// Replaces the content of a field, found by the name of its setting.
    pub(crate) async fn fill(&self, name: &str, text: &str) {
        let field = format!("//*[@name = '{name}']");
        self.act(&field, "/clear", json!({})).await;
        self.act(&field, "/value", json!({"text": text})).await;
    }

    pub(crate) async fn choose(&self, name: &str, value: &str) {
        self.click(&format!(
            "//select[@name = '{name}' or @aria-label = '{name}']/option[@value = '{value}']"
        ))
        .await;
    }

    /// Types on the keyboard, wherever the focus is.
    pub(crate) async fn keys(&self, keys: &[char]) {
        let one =
            |key: &char| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})];
        let actions: Vec<Value> = keys.iter().flat_map(one).collect();
        let body = json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]});
        self.ask("POST", "/actions", Some(body)).await.unwrap();
    }

    pub(crate) async fn size(&self, width: u32, height: u32, mobile: bool) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.cdp("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    pub(crate) async fn scheme(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.cdp("Emulation.setEmulatedMedia", json!({"features": features})).await;
    }

    pub(crate) async fn screenshot(&self) -> String {
        let shot = self.cdp("Page.captureScreenshot", json!({"format": "png"})).await;
        shot["data"].as_str().unwrap().to_owned()
    }

    /// Returns the text on the clipboard.
    pub(crate) async fn clipboard(&self) -> String {
        let read = self.run("return navigator.clipboard.readText()", json!([])).await;
        read.as_str().unwrap().to_owned()
    }

    pub(crate) async fn allow_clipboard(&self, origin: &str) {
        let permissions = ["clipboardReadWrite", "clipboardSanitizedWrite"];
        self.cdp("Browser.grantPermissions", json!({"origin": origin, "permissions": permissions})).await;
    }

    /// Enters the frame that a script finds; `null` leaves all frames.
    pub(crate) async fn enter(&self, frame: Option<&str>) {
        let id = match frame {
            Some(selector) => {
                self.run("return document.querySelector(arguments[0])", json!([selector])).await
            }
            None => Value::Null,
        };
        self.ask("POST", "/frame", Some(json!({"id": id}))).await.unwrap();
    }

    /// Returns the browser's complaints since the last call, without those about a status in `expected`.
    pub(crate) async fn complaints(&self, expected: &[u16]) -> Vec<String> {
        let entries = self.ask("POST", "/se/log", Some(json!({"type": "browser"}))).await.unwrap();
        let refused = self.run("return window.refused ?? []", json!([])).await;
        let messages = entries.as_array().unwrap().iter().filter(|entry| {
            let message = entry["message"].as_str().unwrap();
            let by_status = expected.iter().any(|status| message.contains(&format!("status of {status} ")));
            matches!(entry["level"].as_str(), Some("SEVERE" | "WARNING")) && !by_status
        });
        messages.chain(refused.as_array().unwrap()).map(Value::to_string).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(browser) = self.browser {
            let _ = kill_process(browser, Signal::KILL);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
