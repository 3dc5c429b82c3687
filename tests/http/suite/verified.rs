//! Tests of webhooks with settings for a sender: signatures, secrets, handshakes, conditions, mapping, networks.

use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sha2::Sha256;
use webhook_core::network::Networks;

use crate::front::server::ServerOptions;
use crate::support::{Hook, NOBODY, World, content, named, problem};

pub(super) const SECRET: &str = "It's a Secret to Everybody";

/// Returns the HMAC that GitHub and Slack send, in hexadecimal digits.
pub(super) fn mac(text: &str) -> String {
    let mut code = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    code.update(text.as_bytes());
    code.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Creates a webhook with these settings and the secret.
pub(super) async fn hook(world: &World, settings: Value) -> Hook {
    let hook = world.hook(settings).await;
    let secret = world.admin(Method::POST, &format!("/webhooks/{}/secrets", hook.id));
    content(secret.json(&json!({"secret": SECRET})).send().await.unwrap(), 201).await;
    hook
}

pub(super) fn github(world: &World, url: &str, event: &str, body: &str) -> RequestBuilder {
    let signature = format!("sha256={}", mac(body));
    let call = world.post(url).header("X-GitHub-Event", event).header("X-GitHub-Delivery", "72d3162e");
    call.header("X-Hub-Signature-256", signature)
        .header(CONTENT_TYPE, "application/json")
        .body(body.to_owned())
}

pub(super) fn pushes() -> Value {
    json!({
        "verification": {"preset": "github"},
        "conditions": {"all": [{"from": "header", "name": "X-GitHub-Event", "op": "equals", "value": "push"}]},
        "mapping": [{"parameter": "region", "from": "body", "pointer": "/repository/region"}],
        "pass_through": "none", "fixed": {"count": 7},
    })
}

pub(super) const PUSH: &str = r#"{"ref":"refs/heads/main","repository":{"region":"APAC"}}"#;

#[tokio::test]
async fn a_signed_call_starts_a_run_with_mapped_and_fixed_parameters_and_a_changed_one_is_refused() {
    let world = World::start_idle().await;
    let hook = hook(&world, pushes()).await;
    let accepted = content(github(&world, &hook.url, "push", PUSH).send().await.unwrap(), 202).await;
    let run = world.managed_run(&accepted).await;
    let expected = json!({
        "count": {"value": 7, "source": "fixed"}, "region": {"value": "APAC", "source": "mapping"},
    });
    assert_eq!(run["parameters"], expected);
    let again = github(&world, &hook.url, "push", &PUSH.replace("main", "next")).send().await.unwrap();
    assert_eq!(again.headers()["idempotency-replayed"], "true", "the delivery is the key, whatever the body");
    assert_eq!(content(again, 202).await["run_id"], accepted["run_id"]);
    let changed = github(&world, &hook.url, "push", PUSH).body(PUSH.replace("APAC", "AMAC"));
    let refused = changed.send().await.unwrap();
    assert_eq!(refused.headers()[WWW_AUTHENTICATE], "Signature");
    let refused = problem(refused, 401, "signature-invalid").await.to_string();
    assert!(!refused.contains("Secret to Everybody") && !refused.contains(&mac(PUSH)), "{refused}");
    problem(world.post(&hook.url).body(PUSH).send().await.unwrap(), 401, "signature-invalid").await;
    problem(world.get(&hook.url).send().await.unwrap(), 401, "signature-invalid").await;
    let large = format!("{}{}", PUSH, " ".repeat(100_000));
    content(
        github(&world, &hook.url, "push", &large).header("Webhook-Dry-Run", "true").send().await.unwrap(),
        200,
    )
    .await;
    assert_eq!(world.runs().await, 1);
    // A run by hand has no call, and its fixed parameters are the same.
    let by_hand = world.admin(Method::POST, &format!("/webhooks/{}/run", hook.id));
    let started =
        content(by_hand.json(&json!({"parameters": {"count": 8}})).send().await.unwrap(), 202).await;
    assert_eq!(started["warnings"][0]["code"], "fixed");
}

#[tokio::test]
async fn a_ping_and_an_event_that_is_not_asked_for_start_nothing() {
    let world = World::start_idle().await;
    let hook = hook(&world, pushes()).await;
    let ping = github(&world, &hook.url, "ping", r#"{"zen":"Design for failure."}"#).send().await.unwrap();
    assert_eq!(content(ping, 200).await, json!({"status": "handshake"}));
    let issue = content(github(&world, &hook.url, "issues", "{}").send().await.unwrap(), 200).await;
    let condition = json!({"from": "header", "name": "X-GitHub-Event", "op": "equals", "value": "push"});
    assert_eq!(issue, json!({"status": "ignored", "condition": condition}));
    assert_eq!(world.runs().await, 0);
    let used =
        content(world.admin(Method::GET, &format!("/webhooks/{}", hook.id)).send().await.unwrap(), 200).await;
    assert!(used["last_used_at"].is_string());
}

#[tokio::test]
async fn a_challenge_is_sent_back_only_once_its_signature_was_checked() {
    let world = World::start_idle().await;
    let hook = hook(&world, json!({"verification": {"preset": "slack"}})).await;
    let body = r#"{"type":"url_verification","challenge":"3eZbrw1aBm2rZ"}"#;
    problem(world.post(&hook.url).body(body).send().await.unwrap(), 401, "signature-invalid").await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for (time, status) in [(now - 400, 401), (now, 200), (now + 400, 401)] {
        let signature = format!("v0={}", mac(&format!("v0:{time}:{body}")));
        let call = world
            .post(&hook.url)
            .header("X-Slack-Request-Timestamp", time)
            .header("X-Slack-Signature", signature);
        let answer = content(call.body(body).send().await.unwrap(), status).await;
        assert_eq!(answer["challenge"] == "3eZbrw1aBm2rZ", status == 200, "{answer}");
    }
    assert_eq!(world.runs().await, 0);
}

#[tokio::test]
async fn a_url_is_checked_by_the_methods_of_its_sender_and_by_no_others() {
    let world = World::start_idle().await;
    let of = async |settings: Value| hook(&world, settings).await;
    let request = |method: Method, url: &str| world.client.request(method, url);
    let trello = of(json!({"verification": {"preset": "trello"}})).await;
    content(request(Method::HEAD, &trello.url).send().await.unwrap(), 200).await;
    let wrong = trello.url.replace("token=whk_", "token=whk_x");
    content(request(Method::HEAD, &wrong).send().await.unwrap(), 401).await;
    let options = request(Method::OPTIONS, &trello.url).send().await.unwrap();
    assert_eq!(options.headers()[ALLOW], "GET, POST");
    problem(options, 405, "method-not-allowed").await;

    let events =
        of(json!({"verification": {"preset": "cloudevents"}, "rate_limit": {"per_minute": 90}})).await;
    let options =
        request(Method::OPTIONS, &events.url).header("WebHook-Request-Origin", "eventgrid.azure.net");
    let allowed = options.header("WebHook-Request-Rate", "120").send().await.unwrap();
    let headers = allowed.headers().clone();
    content(allowed, 200).await;
    assert_eq!(headers["webhook-allowed-origin"], "eventgrid.azure.net");
    assert_eq!(
        (&headers["webhook-allowed-rate"], &headers[ALLOW]),
        (&"90".parse().unwrap(), &"POST".parse().unwrap())
    );
    problem(request(Method::OPTIONS, &events.url).send().await.unwrap(), 405, "method-not-allowed").await;

    let graph = of(json!({"verification": {"preset": "microsoft-graph"}})).await;
    let url = graph.with("validationToken=Validation%3A+Testing+%3Cb%3E");
    let answer = world.post(&url).header(CONTENT_TYPE, "text/plain").send().await.unwrap();
    assert_eq!(answer.headers()[CONTENT_TYPE], "text/plain; charset=utf-8");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    assert_eq!(
        (answer.status().as_u16(), answer.text().await.unwrap().as_str()),
        (200, "Validation: Testing <b>")
    );

    let disabled = json!({"enabled": false});
    content(
        world.admin(Method::PATCH, &format!("/webhooks/{}", trello.id)).json(&disabled).send().await.unwrap(),
        200,
    )
    .await;
    content(request(Method::HEAD, &trello.url).send().await.unwrap(), 403).await;
    assert_eq!(world.runs().await, 0);
}

#[tokio::test]
async fn a_verify_token_is_taken_and_never_returned() {
    let world = World::start_idle().await;
    let hook = hook(&world, json!({"allow_get": false})).await;
    let patch = async |body: Value, status| {
        let request = world.admin(Method::PATCH, &format!("/webhooks/{}", hook.id));
        let answer = content(request.json(&body).send().await.unwrap(), status).await;
        assert!(!answer.to_string().contains("my-verify-token"), "{answer}");
        answer
    };
    let url = |token: &str| {
        hook.with(&format!("hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token={token}"))
    };
    let check = async |token: &str| {
        let answer = world.get(&url(token)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let meta =
        patch(json!({"verification": {"preset": "meta", "verify_token": "my-verify-token"}}), 200).await;
    assert_eq!(meta["verification"], json!({"preset": "meta"}));
    assert_eq!(check("my-verify-token").await, (200, "1158201444".to_owned()));
    assert_eq!(check("another-token").await.0, 401);
    // Saves the settings as they were read, without the verify token.
    patch(json!({"verification": meta["verification"]}), 200).await;
    assert_eq!(check("my-verify-token").await.0, 200);
    let wrong =
        patch(json!({"verification": {"preset": "github", "verify_token": "my-verify-token"}}), 422).await;
    assert_eq!(named(&wrong), [("verification.verify_token", "invalid")]);
    let short = patch(json!({"verification": {"preset": "meta", "verify_token": "x"}}), 422).await;
    assert_eq!(named(&short), [("verification.verify_token", "invalid")]);
    patch(json!({"verification": {"preset": "meta", "verify_token": null}}), 200).await;
    assert_eq!(check("my-verify-token").await.0, 401);
    patch(json!({"verification": null}), 200).await;
    assert_eq!(check("my-verify-token").await.0, 403, "an ordinary GET, which this webhook does not allow");
}

#[tokio::test]
async fn secrets_are_shown_once_kept_sealed_and_at_most_two() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({"verification": {"scheme": "shared-secret", "header": "X-Api-Key"}})).await;
    let secrets = format!("/webhooks/{}/secrets", hook.id);
    let call = async |secret: &str| {
        world.post(&hook.url).header("X-Api-Key", secret).send().await.unwrap().status().as_u16()
    };
    let add = async |body: Value, status| {
        content(world.admin(Method::POST, &secrets).json(&body).send().await.unwrap(), status).await
    };
    let list = async || content(world.admin(Method::GET, &secrets).send().await.unwrap(), 200).await;
    assert_eq!(call("").await, 401, "without a secret every call is refused");
    let made = add(json!({}), 201).await;
    let first = made["secret"].as_str().unwrap().to_owned();
    assert_eq!((first.len(), made["hint"].as_str().unwrap()), (64, &first[60..]));
    let given = add(json!({"secret": "secret-for-tests"}), 201).await;
    assert!(given.get("secret").is_none(), "{given}");
    for short in ["short", " secret-for-tests", "secret\nfor-tests"] {
        let wrong = add(json!({"secret": short}), 422).await;
        assert!(named(&wrong)[0].0 == "secret" && !wrong.to_string().contains("for-tests"), "{wrong}");
    }
    assert_eq!(named(&add(json!({}), 422).await), [("secret", "out_of_range")]);
    assert_eq!(
        (call(&first).await, call("secret-for-tests").await, call("another-secret").await),
        (202, 202, 401)
    );
    let listed = list().await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    assert_eq!(listed["items"][0]["id"], given["id"]);
    assert!(!listed.to_string().contains(&first) && !listed.to_string().contains("secret-for-tests"));
    let stored = format!("{:?}", world.webhooks.manage().get_webhook(hook.id).await.unwrap());
    assert!(!stored.contains("secret-for-tests") && !stored.contains(&first));
    let one = format!("{secrets}/{}", made["id"].as_str().unwrap());
    content(world.admin(Method::DELETE, &one).send().await.unwrap(), 204).await;
    problem(world.admin(Method::DELETE, &one).send().await.unwrap(), 404, "not-found").await;
    problem(
        world.admin(Method::DELETE, &format!("{secrets}/{NOBODY}")).send().await.unwrap(),
        404,
        "not-found",
    )
    .await;
    assert_eq!((call(&first).await, call("secret-for-tests").await), (401, 202));
    let other = format!("{secrets}/{}", given["id"].as_str().unwrap());
    content(world.admin(Method::DELETE, &other).send().await.unwrap(), 204).await;
    let standard = json!({"verification": {"preset": "standard-webhooks"}});
    content(
        world.admin(Method::PATCH, &format!("/webhooks/{}", hook.id)).json(&standard).send().await.unwrap(),
        200,
    )
    .await;
    assert!(add(json!({}), 201).await["secret"].as_str().unwrap().starts_with("whsec_"));
    let basic = world.hook(json!({"verification": {"scheme": "basic"}})).await;
    let made = content(
        world.admin(Method::POST, &format!("/webhooks/{}/secrets", basic.id)).send().await.unwrap(),
        201,
    )
    .await;
    let (user, password) = made["secret"].as_str().unwrap().split_once(':').unwrap();
    let call = world.post(&basic.url).basic_auth(user, Some(password));
    content(call.send().await.unwrap(), 202).await;
    let refused = world.post(&basic.url).header(AUTHORIZATION, "Basic d3Jvbmc6d3Jvbmc=");
    problem(refused.send().await.unwrap(), 401, "signature-invalid").await;
}

#[tokio::test]
async fn only_allowed_networks_may_call_and_the_word_of_a_trusted_proxy_counts() {
    let trusted = Networks::new(vec!["127.0.0.0/8".parse().unwrap()]);
    let world =
        World::start_with(|builder| builder.trusted_proxies(trusted), ServerOptions::default(), false).await;
    let hook = world.hook(json!({"allowed_networks": ["192.0.2.0/24", "2001:db8::/32"]})).await;
    problem(world.post(&hook.url).send().await.unwrap(), 403, "address-not-allowed").await;
    for (name, value, address) in [
        ("X-Forwarded-For", "203.0.113.9, 192.0.2.7", "192.0.2.7"),
        ("Forwarded", "for=\"[2001:db8::7]:4711\"", "2001:db8::7"),
    ] {
        let accepted = content(world.post(&hook.url).header(name, value).send().await.unwrap(), 202).await;
        assert_eq!(world.run(&accepted).await.caller().address.unwrap().to_string(), address);
    }
    let outside = world.post(&hook.url).header("X-Forwarded-For", "192.0.2.7, 203.0.113.9");
    problem(outside.send().await.unwrap(), 403, "address-not-allowed").await;
    // The network of the proxy may call. A client that spoils what the proxy wrote does not pass as it.
    let inside = world.hook(json!({"allowed_networks": ["127.0.0.0/8"]})).await;
    content(world.post(&inside.url).send().await.unwrap(), 202).await;
    let contradicted = world.post(&inside.url).header("X-Forwarded-For", "203.0.113.9");
    let spoilt = world.post(&inside.url).header("Forwarded", "for=\", for=203.0.113.9");
    for call in [contradicted.header("Forwarded", "for=_me"), spoilt] {
        problem(call.send().await.unwrap(), 403, "address-not-allowed").await;
    }

    let direct = World::start_idle().await;
    let hook = direct.hook(json!({"allowed_networks": ["192.0.2.0/24"]})).await;
    let forged = direct.post(&hook.url).header("X-Forwarded-For", "192.0.2.7");
    problem(forged.send().await.unwrap(), 403, "address-not-allowed").await;
}

#[tokio::test]
async fn a_manager_is_told_the_address_that_counts_and_whether_a_proxy_is_believed() {
    let client = async |world: &World, forwarded: Option<&str>| {
        let request = world.admin(Method::GET, "/client");
        let request =
            forwarded.iter().fold(request, |request, value| request.header("X-Forwarded-For", *value));
        content(request.send().await.unwrap(), 200).await
    };
    let trusted = Networks::new(vec!["127.0.0.0/8".parse().unwrap()]);
    let behind =
        World::start_with(|builder| builder.trusted_proxies(trusted), ServerOptions::default(), false).await;
    let seen = json!({"address": "192.0.2.7", "connection": "127.0.0.1", "forwarded": true});
    assert_eq!(client(&behind, Some("203.0.113.9, 192.0.2.7")).await, seen);
    let unknown = json!({"address": null, "connection": "127.0.0.1", "forwarded": true});
    assert_eq!(client(&behind, Some("192.0.2.7, unknown")).await, unknown);
    let direct = World::start_idle().await;
    for (given, forwarded) in [(None, false), (Some("192.0.2.7"), true)] {
        let seen = json!({"address": "127.0.0.1", "connection": "127.0.0.1", "forwarded": forwarded});
        assert_eq!(client(&direct, given).await, seen);
    }
}

#[tokio::test]
async fn a_webhook_that_follows_a_recipe_takes_the_sample_of_the_recipe() {
    let world = World::start_idle().await;
    let list = async |path| content(world.admin(Method::GET, path).send().await.unwrap(), 200).await;
    let presets = list("/presets").await["items"].as_array().unwrap().len();
    assert_eq!(presets, 13);
    for recipe in list("/recipes").await["items"].as_array().unwrap() {
        let mut settings = recipe["settings"].clone();
        settings["fixed"]["count"] = json!(7);
        let source = if settings["fixed"]["region"].is_null() { "mapping" } else { "fixed" };
        let hook = world.hook(settings).await;
        let request = world.admin(Method::POST, &format!("/webhooks/{}/preview", hook.id));
        let shown = content(request.json(&recipe["sample"]).send().await.unwrap(), 200).await;
        assert_eq!(shown["conditions"]["met"], true, "{shown}");
        assert_eq!(shown["parameters"]["region"], json!({"value": "APAC", "source": source}), "{recipe}");
        // A sample has no signature, so only a webhook without a secret accepts it.
        let accepted = shown["verification"].is_null() || shown["verification"]["ok"] == true;
        assert_eq!(accepted, recipe["secret"] == "none", "{shown}");
    }
}

#[tokio::test]
async fn success_has_the_status_that_the_sender_takes() {
    let world = World::start_idle().await;
    for (status, is_empty) in [(200, false), (202, false), (204, true)] {
        let hook = world.hook(json!({"answer": {"status": status}})).await;
        let answer = world.post(&hook.url).send().await.unwrap();
        assert!(answer.headers().contains_key("location"));
        assert_eq!(content(answer, status).await.is_null(), is_empty);
    }
    assert_eq!(world.runs().await, 3);
}

#[tokio::test]
async fn a_secret_in_a_body_becomes_no_part_of_a_run() {
    let world = World::start_idle().await;
    let hook = hook(&world, json!({"verification": {"preset": "microsoft-graph"}})).await;
    let body = json!({"value": [{"clientState": SECRET, "changeType": "updated"}]});
    let accepted = content(world.post(&hook.url).json(&body).send().await.unwrap(), 202).await;
    let path = format!("/runs/{}", accepted["run_id"].as_str().unwrap());
    let run = content(world.admin(Method::GET, &path).send().await.unwrap(), 200).await;
    assert_eq!(run["parameters"]["value"]["value"], json!([{"changeType": "updated"}]));
    let request = world.admin(Method::POST, &format!("/webhooks/{}/preview", hook.id));
    let headers = json!({"Content-Type": "application/json"});
    let sample = json!({"headers": headers, "body": body.to_string()});
    let shown = content(request.json(&sample).send().await.unwrap(), 200).await;
    assert_eq!(shown["verification"]["ok"], true, "{shown}");
    assert!(!shown.to_string().contains(SECRET), "{shown}");
    let whole = json!({"mapping": [{"parameter": "region", "from": "raw_body"}]});
    let patch = world.admin(Method::PATCH, &format!("/webhooks/{}", hook.id)).json(&whole);
    let refused = problem(patch.send().await.unwrap(), 422, "settings-invalid").await;
    assert_eq!(named(&refused), [("mapping[0].from", "invalid")]);
}

#[tokio::test]
async fn an_array_and_a_multipart_form_are_taken_where_the_webhook_looks_into_calls() {
    let world = World::start_idle().await;
    let mapping = json!([{"parameter": "region", "from": "body", "pointer": "/0/region"}]);
    let array = world.hook(json!({"mapping": mapping})).await;
    content(world.post(&array.url).json(&json!([{"region": "APAC"}])).send().await.unwrap(), 202).await;
    let plain = world.hook(json!({})).await;
    problem(world.post(&plain.url).json(&json!([1])).send().await.unwrap(), 400, "malformed-body").await;
    let parts = "--b\r\nContent-Disposition: form-data; name=\"region\"\r\n\r\nAPAC\r\n--b--\r\n";
    let send = |hook: &Hook, body: &str| {
        world.post(&hook.url).header(CONTENT_TYPE, "multipart/form-data; boundary=b").body(body.to_owned())
    };
    let form = world.hook(json!({"fixed": {"count": 1}})).await;
    let accepted = content(send(&form, parts).send().await.unwrap(), 202).await;
    assert_eq!(world.run(&accepted).await.parameters().iter().count(), 2);
    let file = parts.replace("name=\"region\"", "name=\"data\"; filename=\"a.csv\"");
    problem(send(&form, &file).send().await.unwrap(), 422, "parameters-invalid").await;
    problem(send(&plain, parts).send().await.unwrap(), 415, "unsupported-media-type").await;
}
