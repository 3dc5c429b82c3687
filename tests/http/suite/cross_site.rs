//! Tests of requests from pages of other sites, and of guessed admin tokens.

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::front::server::Server;
use crate::front::{self, AdminAccess};
use crate::support::{ADMIN, Hook, NOBODY, World, content, problem, raw};

/// Returns every request that changes something, with a body if it takes one.
fn changes(hook: &Hook) -> Vec<(Method, String)> {
    let webhook = format!("/webhooks/{}", hook.id);
    vec![
        (Method::POST, "/webhooks".to_owned()),
        (Method::PATCH, webhook.clone()),
        (Method::DELETE, webhook.clone()),
        (Method::POST, format!("{webhook}/refresh-token")),
        (Method::POST, format!("{webhook}/run")),
        (Method::POST, format!("{webhook}/test-notification")),
        (Method::POST, format!("/runs/{NOBODY}/cancel")),
        (Method::POST, format!("/runs/{NOBODY}/retry")),
        (Method::POST, format!("/deliveries/{NOBODY}/resend")),
        (Method::POST, "/deliveries/resend".to_owned()),
    ]
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing_even_with_the_right_token() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    for (method, path) in changes(&hook) {
        for (name, value) in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            let request = world.admin(method.clone(), &path).header(name, value);
            problem(request.send().await.unwrap(), 403, "cross-site-refused").await;
        }
    }
    let stored = world.webhooks.manage().get_webhook(hook.id).await.unwrap();
    assert_eq!((stored.revision, world.runs().await), (1, 0), "nothing was changed");
    let own = |request: RequestBuilder| {
        request.header("origin", &world.base).header("sec-fetch-site", "same-origin")
    };
    let run = own(world.admin(Method::POST, &format!("/webhooks/{}/run", hook.id))).send().await.unwrap();
    content(run, 202).await;
}

#[tokio::test]
async fn a_body_that_is_not_declared_as_json_is_refused() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    for declared in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("text/plain; application/json"),
    ] {
        let request = world.admin(Method::POST, &format!("/webhooks/{}/run", hook.id)).body("{}");
        let request = declared.into_iter().fold(request, |request, it| request.header("content-type", it));
        problem(request.send().await.unwrap(), 415, "unsupported-media-type").await;
    }
    assert_eq!(world.runs().await, 0);
    let empty = world.admin(Method::POST, &format!("/webhooks/{}/run", hook.id)).send().await.unwrap();
    content(empty, 202).await;
}

#[tokio::test]
async fn under_the_hosts_own_sign_in_a_rebound_name_reads_and_changes_nothing() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let routes = front::management_routes(&world.webhooks, AdminAccess::Open);
    let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = server.local_address().unwrap();
    tokio::spawn(front::serve(server, routes, std::future::pending()));
    let ask = async |head: String, host: &str| {
        let request =
            format!("{head} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let answer = raw(address, &[request.as_bytes()]).await;
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    // The base URL names another port than this second server has.
    let own = world.address.to_string();
    for (head, status) in [
        (format!("GET /admin/api/v1/webhooks/{}/url", hook.id), "200"),
        (format!("POST /admin/api/v1/webhooks/{}/run", hook.id), "202"),
    ] {
        for host in ["evil.example", "evil.example:80", &address.to_string()] {
            assert_eq!(ask(head.clone(), host).await, "403", "{head} {host}");
        }
        assert_eq!(ask(head.clone(), &own).await, status, "{head}");
    }
    assert_eq!(world.runs().await, 1);
}

#[tokio::test]
async fn guessed_admin_tokens_are_limited_and_the_right_one_is_not() {
    let world = World::start_idle().await;
    let wrong = || world.client.get(format!("{}/admin/api/v1/webhooks", world.base)).bearer_auth("wrong");
    let mut limited = 0;
    for _ in 0..80 {
        let response = wrong().send().await.unwrap();
        match response.status().as_u16() {
            401 => drop(problem(response, 401, "unauthorized").await),
            _ => {
                limited += 1;
                assert!(response.headers().contains_key("retry-after"));
                problem(response, 429, "rate-limited").await;
            }
        }
    }
    assert!(limited >= 10, "60 at once and one more each second are let through, {limited} were not");
    content(world.admin(Method::GET, "/webhooks").send().await.unwrap(), 200).await;
    assert!(AdminAccess::token(&ADMIN[..20]).is_err());
}
