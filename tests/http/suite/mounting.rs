//! Tests of the routes among a host's own.

use serde_json::json;

use crate::front::server::{Server, ServerOptions};
use crate::front::{self, AdminAccess, PanelOptions, Routes};
use crate::support::{ADMIN, World, content, problem};

const OWN_NOT_FOUND: &str = "the host's own answer";

/// Serves routes beside a world, and returns their base URL.
async fn serve(routes: Routes) -> String {
    let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let base = format!("http://{}", server.local_address().unwrap());
    tokio::spawn(front::serve(server, routes, std::future::pending()));
    base
}

/// Puts routes below `/hooks`, beside a route of the host's own.
fn hosted(routes: Routes, own: &'static str) -> Routes {
    let own = front::own(Some(own), async || b"Hello".to_vec());
    front::with_own_not_found(front::joined(front::below("hooks", routes), own), OWN_NOT_FOUND)
}

#[tokio::test]
async fn below_a_prefix_everything_works_and_the_hosts_own_answers_stay() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let base = serve(hosted(front::routes(&world.webhooks), "hello")).await;
    let path = hook.url.strip_prefix(&world.base).unwrap();
    content(world.post(&format!("{base}/hooks{path}&region=APAC")).send().await.unwrap(), 202).await;
    let wrong = format!("{base}/hooks/api/v1/report/sales/webhook?token=wrong");
    problem(world.post(&wrong).send().await.unwrap(), 401, "unauthorized").await;
    let put = world.client.put(format!("{base}/hooks{path}")).send().await.unwrap();
    problem(put, 405, "method-not-allowed").await;
    assert_eq!(world.get(&format!("{base}/hello")).send().await.unwrap().text().await.unwrap(), "Hello");
    for unknown in ["/", "/hooks", "/hooks/nothing", "/api/v1/report/sales/webhook", "/healthz"] {
        let response = world.get(&format!("{base}{unknown}")).send().await.unwrap();
        assert_eq!(response.status(), 404, "{unknown}");
        assert_eq!(response.text().await.unwrap(), OWN_NOT_FOUND, "{unknown}");
    }
}

#[tokio::test]
async fn each_set_of_routes_answers_its_own_paths_only() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let run = content(world.post(&hook.url).send().await.unwrap(), 202).await;
    let status = run["status_url"].as_str().unwrap().strip_prefix(&world.base).unwrap();
    let trigger = hook.url.strip_prefix(&world.base).unwrap();
    let management = "/admin/api/v1/webhooks";
    let webhooks = &world.webhooks;
    let access = || AdminAccess::token(ADMIN).unwrap();
    let sets = [
        (front::routes(webhooks), [202, 401, 404, 200, 200]),
        (front::trigger_routes(webhooks), [202, 404, 404, 404, 404]),
        (front::status_routes(webhooks), [404, 401, 404, 404, 404]),
        (front::management_routes(webhooks, access()), [404, 404, 401, 404, 404]),
        (front::management_routes(webhooks, AdminAccess::Open), [404, 404, 200, 404, 404]),
        (front::all_routes(webhooks, access()), [202, 401, 401, 200, 200]),
        (front::all_routes(webhooks, AdminAccess::Disabled), [202, 401, 404, 200, 200]),
    ];
    for (place, (routes, expected)) in sets.into_iter().enumerate() {
        let base = serve(front::with_not_found(routes)).await;
        let mut statuses = [0; 5];
        for (path, seen) in [trigger, status, management, "/healthz", "/readyz"].iter().zip(&mut statuses) {
            // The host of the base URL, as behind a proxy.
            let request = world.get(&format!("{base}{path}")).header("host", world.address.to_string());
            *seen = request.send().await.unwrap().status().as_u16();
        }
        assert_eq!(statuses, expected, "{place}");
    }
}

#[tokio::test]
async fn a_host_may_register_kinds_of_its_own() {
    let options = ServerOptions::default();
    let world = World::start_with(|builder| builder.kind("model"), options, false).await;
    let url = |kind: &str| format!("{}/api/v1/{kind}/x/webhook", world.base);
    problem(world.post(&url("model")).send().await.unwrap(), 401, "unauthorized").await;
    problem(world.post(&url("table")).send().await.unwrap(), 404, "not-found").await;
}

#[tokio::test]
async fn a_host_needs_no_answer_of_its_own_to_unknown_paths() {
    let world = World::start_idle().await;
    let base = serve(front::routes(&world.webhooks)).await;
    assert_eq!(world.get(&format!("{base}/nothing")).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn the_panel_stands_below_a_prefix_beside_its_management_paths() {
    let world = World::start_idle().await;
    let panel = front::panel_routes(&PanelOptions::default());
    let all = front::all_routes(&world.webhooks, AdminAccess::token(ADMIN).unwrap());
    let base = serve(hosted(front::joined(all, panel), "panel")).await;
    let page = world.get(&format!("{base}/hooks/panel")).send().await.unwrap();
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(
        policy.starts_with("default-src 'none'; ") && policy.ends_with("frame-ancestors 'none'"),
        "{policy}"
    );
    assert!(policy.contains("; require-trusted-types-for 'script'; trusted-types 'none'; "), "{policy}");
    assert_eq!(page.headers()["cross-origin-opener-policy"], "same-origin");
    assert_eq!(page.headers()["cross-origin-resource-policy"], "same-origin");
    let page = page.text().await.unwrap();
    // Its addresses are relative to its own, so they and the management paths are below the prefix too.
    assert!(page.contains("src=\"panel/main.js\""));
    let script = world.get(&format!("{base}/hooks/panel/main.js")).send().await.unwrap();
    assert_eq!(script.headers()["content-type"], "text/javascript; charset=utf-8");
    let moved = world.get(&format!("{base}/hooks/panel/")).send().await.unwrap();
    assert_eq!(moved.url().path(), "/hooks/panel");
    for foreign in ["/hooks/panel/nothing", "/hooks/panels"] {
        assert_eq!(world.get(&format!("{base}{foreign}")).send().await.unwrap().status(), 404, "{foreign}");
    }
    assert_eq!(world.get(&format!("{base}/panel")).send().await.unwrap().text().await.unwrap(), "Hello");
}
