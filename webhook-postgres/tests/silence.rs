//! The connection that listens goes silent: nothing comes, and it does not end, as when a firewall forgets it.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod scene;

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use webhook_core::store::Store;
use webhook_postgres::PostgresStore;

/// Passes connections on to a port, until it is told to keep those that there are without passing anything on.
async fn start_proxy(port: u16, mut silent: watch::Receiver<u32>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut silence = silent.clone();
            silence.mark_unchanged();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                    _ = silence.changed() => std::future::pending().await,
                }
            });
            silent.mark_unchanged();
        }
    });
    own
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_an_answer_is_given_up_for_another_one() {
    let Some(server) = scene::server() else { return };
    let (silence, silent) = watch::channel(0);
    let proxy = start_proxy(server.port(), silent).await;
    let url = format!("{}&listen=127.0.0.1:{proxy}", scene::url(server, &scene::schema()));
    let store = PostgresStore::open(url.parse().unwrap()).await.unwrap();
    store.events_since(None).await.unwrap();
    silence.send(1).unwrap();
    let begin = async {
        loop {
            match store.events_since(None).await {
                Ok(events) => return events.cursor,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let cursor = tokio::time::timeout(Duration::from_secs(90), begin).await.unwrap();
    scene::running(&store).await;
    let events = tokio::time::timeout(Duration::from_secs(20), store.events_since(Some(cursor)));
    assert!(!events.await.unwrap().unwrap().items.is_empty());
}
