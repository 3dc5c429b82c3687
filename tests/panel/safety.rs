//! Tests that texts of workflows and callers are never markup.

use serde_json::{Value, json};

use crate::Scene;
use crate::world::{HOSTILE, World, run_hash};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_titles_labels_values_logs_and_artifacts_are_shown_as_text() {
    let Some(scene) = Scene::with(World::hostile()).await else { return };
    let (browser, world) = (&scene.browser, &scene.world);
    let label: String = HOSTILE.chars().take(200).collect();
    let hook = world.hook("report/hostile", json!({"label": label})).await;
    let run = world.start_run(hook, json!({"free": HOSTILE, "<b>name</b>": [HOSTILE]})).await;
    world.ended(run).await;
    scene.sign_in().await;
    scene.go("#/report/hostile", HOSTILE).await;
    for name in ["GitHub Actions", "cron", "Airflow", "curl GET"] {
        browser.click(&format!("//button[@role = 'tab' and . = '{name}']")).await;
    }
    browser.press("Run now").await;
    browser.press("Close").await;
    scene.go(&run_hash("report/hostile", run), "<b>name</b>").await;
    browser.until("document.querySelector('.log').textContent.includes('onerror')").await;
    browser.until("document.querySelector('.log').textContent.includes('xxxxxxxx')").await;
    let drawn = browser.run("return document.querySelector('.log').textContent.length", json!([])).await;
    assert!(drawn.as_u64().unwrap() < 10_000, "a long line is cut: {drawn}");
    let markup =
        "return document.querySelectorAll('main script, main img, main a[href^=javascript], main b').length";
    assert_eq!(browser.run(markup, json!([])).await, json!(0));
    scene.no_complaints(&[]).await;

    browser.press("Open evil.html").await;
    browser.until("document.querySelector('dialog iframe') !== null").await;
    browser.enter(Some("dialog iframe")).await;
    browser.until("document.querySelector('iframe') !== null").await;
    browser.enter(Some("iframe")).await;
    browser.until("document.querySelector('#reached') !== null && document.readyState === 'complete'").await;
    let images = "return [[...document.images].map(it => it.naturalWidth), origin]";
    assert_eq!(browser.run(images, json!([])).await, json!([[0, 0], "null"]));
    browser.enter(None).await;
    let asked = world.asked.lock().clone();
    assert!(asked.iter().any(|path| path == "/panel/artifact.html"), "{asked:?}");
    let reached: Vec<_> = asked.iter().filter(|path| path.contains("way-out")).collect();
    assert!(reached.is_empty(), "the artifact reached {reached:?}");
    scene.no_complaints(&[]).await;
    assert_eq!(browser.run("return window.pwned ?? null", json!([])).await, Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_clipboard_is_refused_the_url_is_there_to_be_copied_by_hand() {
    let Some(scene) = Scene::start().await else { return };
    let browser = &scene.browser;
    scene.world.hook("report/stock", json!({"label": "Shop"})).await;
    scene.sign_in().await;
    scene.go("#/report/stock", "Shop").await;
    let refuse = "Object.defineProperty(navigator, 'clipboard', { value: undefined }); document.execCommand = () => false";
    browser.run(refuse, json!([])).await;
    browser.press("Copy URL").await;
    browser.until_shown("The text is selected").await;
    browser.until("document.activeElement.value.includes('token=whk_')").await;
    browser.press("Close").await;
    browser.press("Sign out").await;
    browser.until_shown("Admin token").await;
    browser.fill("token", "wrong").await;
    browser.press("Sign in").await;
    browser.until_shown("This is not the admin token.").await;
    assert_eq!(browser.run("return sessionStorage.length", json!([])).await, json!(0));
    scene.no_complaints(&[401]).await;
}

/// Replaces the server: a stream that breaks off within an event's lines, then one that announces a gap.
const TWO_STREAMS: &str = r#"
    // The page itself holds the lock, so this simulates a browser without locks.
    Object.defineProperty(navigator, 'locks', { value: undefined });
    return import('/panel/events.js').then(({ listen }) => new Promise((done) => {
        const [heard, asked, own] = [[], [], window.fetch];
        const streams = [['retry: 9\nid: a-1\n\n', ':\nevent: run\nid: a-2\nda', 'ta: {"id":7}\r\n\r\nevent: ru'],
            ['event: reset\nid: b-9\ndata: {}\n\n']];
        window.fetch = (url, { headers }) => {
            asked.push([headers.get('Last-Event-ID'), headers.get('Authorization')]);
            const pieces = streams[asked.length - 1];
            const body = new ReadableStream({ start(stream) {
                pieces.forEach(piece => stream.enqueue(new TextEncoder().encode(piece)));
                stream.close();
            } });
            return Promise.resolve(new Response(body));
        };
        const live = listen((type, data) => {
            heard.push([type, data]);
            if (type !== 'reset') return;
            live.stop();
            window.fetch = own;
            done({ heard, asked });
        }, () => {});
    }));"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_broke_off_goes_on_after_the_last_event_and_a_gap_is_heard_of() {
    let Some(scene) = Scene::start().await else { return };
    scene.sign_in().await;
    let told = scene.browser.run(TWO_STREAMS, json!([])).await;
    assert_eq!(told["heard"], json!([["run", {"id": 7}], ["reset", {}]]));
    let bearer = format!("Bearer {}", crate::ADMIN);
    assert_eq!(told["asked"], json!([[null, bearer], ["a-2", bearer]]));
    scene.no_complaints(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_settings_samples_and_callers_are_shown_as_text() {
    let Some(scene) = Scene::with(World::hostile()).await else { return };
    let (browser, world) = (&scene.browser, &scene.world);
    let place = json!({"from": "query", "name": HOSTILE, "op": "equals", "value": HOSTILE});
    let settings = json!({
        "label": "Outside", "conditions": {"all": [place]}, "fixed": {"rate": HOSTILE},
        "mapping": [{"parameter": HOSTILE, "from": "query", "name": HOSTILE, "default": HOSTILE}],
    });
    let hook = world.hook("report/hostile", settings).await;
    let url = world.webhooks.manage().get_url(hook).await.unwrap().expose().to_owned();
    scene.sign_in().await;
    scene.go("#/report/hostile", "Outside").await;
    browser.click("//button[@role = 'tab' and . = 'Sender']").await;
    browser.until_shown("Settings for the sender").await;
    browser.fill("body", &json!({HOSTILE: HOSTILE}).to_string()).await;
    browser.press("Preview").await;
    browser.until_shown("This call would be ignored").await;
    browser.until("document.querySelector('.preview').innerText.includes('onerror')").await;
    browser.click("//button[@role = 'tab' and . = 'Calls']").await;
    let client = reqwest::Client::builder().no_proxy().user_agent(HOSTILE).build().unwrap();
    client.post(&url).body("{}").send().await.unwrap();
    browser.until("document.querySelector('.call').innerText.includes('onerror')").await;
    let markup = "return document.querySelectorAll('main script, main img, main a[href^=javascript]').length";
    assert_eq!(browser.run(markup, json!([])).await, json!(0));
    assert_eq!(browser.run("return window.pwned ?? null", json!([])).await, Value::Null);
    scene.no_complaints(&[]).await;
}
