//! Runs the example `axum_host` over a socket.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "../examples/axum_host.rs"]
#[allow(dead_code, reason = "the test calls a part of the example")]
mod axum_host;

use reqwest::{Client, StatusCode, header, redirect};
use serde_json::{Value, json};
use webhook_trigger::prelude::*;

use axum_host::{App, routes, webhooks};

#[tokio::test]
async fn an_axum_application_runs_webhooks_behind_its_own_sign_in() {
    let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let origin = format!("http://{}", server.local_address().unwrap());
    let webhooks = webhooks(MemoryStore::new(), &origin).await.unwrap();
    let workers = webhooks.start_workers(WorkerOptions::default());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let routes = routes(App::new("open sesame", webhooks.clone()));
    let shutdown = webhooks.shutdown_on(async {
        let _ = stopped.await;
    });
    let served = tokio::spawn(server.serve(routes, shutdown));
    let client = Client::builder().no_proxy().redirect(redirect::Policy::none()).build().unwrap();

    // The application's own pages.
    assert!(client.get(&origin).send().await.unwrap().text().await.unwrap().contains("Reports"));
    let guarded = ["/reports", "/hooks/panel", "/hooks/panel/main.js", "/hooks/admin/api/v1/webhooks"];
    for path in guarded {
        let response = client.get(format!("{origin}{path}")).send().await.unwrap();
        assert_eq!(response.headers()[header::LOCATION], "/sign-in", "{path}");
    }
    let sign_in = |password: &str| {
        client
            .post(format!("{origin}/sign-in"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("password={}", password.replace(' ', "+")))
            .send()
    };
    assert_eq!(sign_in("guessed").await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let signed_in = sign_in("open sesame").await.unwrap();
    assert_eq!(signed_in.headers()[header::LOCATION], "/hooks/panel");
    let cookie =
        signed_in.headers()[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    for path in guarded {
        let response = client.get(format!("{origin}{path}")).header("cookie", &cookie).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }

    // A person creates a webhook, a caller starts a run, and the person sees it.
    let body = json!({"workflow": {"kind": "report", "id": "sales"}});
    let create = client.post(format!("{origin}/hooks/admin/api/v1/webhooks")).header("cookie", &cookie);
    let created: Value = create.json(&body).send().await.unwrap().json().await.unwrap();
    let url = created["url"].as_str().unwrap_or_else(|| panic!("{created}"));
    assert!(url.starts_with(&format!("{origin}/hooks/api/v1/report/sales/webhook?token=")), "{url}");
    let call = client.post(format!("{url}&region=APAC")).header("prefer", "wait=20");
    let ended: Value = call.send().await.unwrap().json().await.unwrap();
    assert_eq!(
        (&ended["state"], &ended["run"]["summary"]),
        (&json!("succeeded"), &json!("Sales of APAC")),
        "{ended}"
    );
    let reports = client.get(format!("{origin}/reports")).header("cookie", &cookie).send().await.unwrap();
    assert!(reports.text().await.unwrap().contains("report/sales succeeded"));

    // A page of another site has the person's cookie, and changes nothing.
    let foreign = client.post(format!("{origin}/hooks/admin/api/v1/webhooks")).header("cookie", &cookie);
    let foreign = foreign.header("origin", "https://evil.example").json(&body).send().await.unwrap();
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);

    // An open event stream, as of an open panel, does not hold up the shutdown.
    let events = client.get(format!("{origin}/hooks/admin/api/v1/events")).header("cookie", &cookie);
    let events = events.send().await.unwrap();
    assert_eq!(events.status(), StatusCode::OK);
    stop.send(()).unwrap();
    assert_eq!(served.await.unwrap().cut_off, 0);
    workers.shutdown(std::time::Duration::from_secs(20)).await;
}
