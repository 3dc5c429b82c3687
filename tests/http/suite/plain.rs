//! Tests of the routes under the framework's own server, which has no bounds.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::front::{self, AdminAccess, PanelOptions};
use crate::support::{ADMIN, World, raw};

const PATIENCE: Duration = Duration::from_secs(20);

/// Serves all routes under the framework's own server, beside a world.
async fn serve(world: &World) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = front::all_routes(&world.webhooks, AdminAccess::token(ADMIN).unwrap());
    let routes = front::joined(routes, front::panel_routes(&PanelOptions::default()));
    let routes = front::joined(routes, front::below("below", front::routes(&world.webhooks)));
    let (stop, stopped) = oneshot::channel();
    let signal = world.webhooks.shutdown_on(async {
        let _ = stopped.await;
    });
    (address, stop, tokio::spawn(front::serve_plainly(listener, routes, signal)))
}

#[tokio::test]
async fn a_target_without_a_path_is_nobodys() {
    let world = World::start_idle().await;
    let (address, _stop, _serving) = serve(&world).await;
    for line in
        ["GET x:80", "CONNECT x:80", "OPTIONS *", "GET http://a", "GET /", "GET /below", "GET /below/"]
    {
        let request = format!("{line} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let answer = raw(address, &[request.as_bytes()]).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{line}: {answer:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]

    /// Checks both servers.
    #[test]
    fn every_target_is_answered(targets in prop::collection::vec(target(), 100)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::start_idle().await;
            let (plain, _stop, _serving) = serve(&world).await;
            for target in &targets {
                let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
                for address in [plain, world.address] {
                    let answer = tokio::time::timeout(PATIENCE, raw(address, &[request.as_bytes()])).await;
                    let answer = answer.unwrap();
                    assert!(answer.starts_with("HTTP/1.1 "), "{target}: {answer:?}");
                    assert!(!answer.starts_with("HTTP/1.1 5"), "{target}: {answer:?}");
                }
            }
        });
    }
}

/// Generates short targets, and targets made of typical parts.
fn target() -> impl Strategy<Value = String> {
    prop_oneof!["[!-~]{1,3}", "([a-z*/:?.@%#\\[\\]]|http://|/api/v1/report|healthz){1,8}"]
}

#[tokio::test]
async fn a_shutdown_ends_event_streams_and_calls_that_wait_for_their_runs() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let (address, stop, serving) = serve(&world).await;
    let events =
        format!("GET /admin/api/v1/events HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {ADMIN}\r\n\r\n");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(events.as_bytes()).await.unwrap();
    let mut begun = [0; 12];
    stream.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
    let path = &hook.url[world.base.len()..];
    let call = format!("POST {path} HTTP/1.1\r\nhost: a\r\nprefer: wait=60\r\nconnection: close\r\n\r\n");
    let waiting = tokio::spawn(async move { raw(address, &[call.as_bytes()]).await });
    while world.runs().await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.send(()).unwrap();
    tokio::time::timeout(PATIENCE, serving).await.expect("the shutdown hangs").unwrap();
    assert!(waiting.await.unwrap().starts_with("HTTP/1.1 202 "));
}
