//! Tests of the server at shutdown.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use webhook_testing::Step;

use super::server::{
    HEALTH, LARGE, PATIENCE, SHORT, closed_after, large_answer, one_answer, read_slowly, world,
};
use crate::front;
use crate::front::server::{Server, ServerOptions};
use crate::support::{content, read_all};

#[tokio::test]
async fn an_answer_that_is_read_slowly_is_finished_at_shutdown() {
    let (mut stream, stop, served) = large_answer(ServerOptions::default()).await;
    stop.send(()).unwrap();
    // Longer than the time at shutdown for connections that bring nothing.
    let total = read_slowly(&mut stream, 30, Duration::from_millis(50)).await;
    assert!(total > LARGE, "{total}");
    assert_eq!(served.await.unwrap().cut_off, 0);
}

#[tokio::test]
async fn an_answer_that_is_not_read_is_cut_off_at_the_deadline_of_the_shutdown_and_counted() {
    let options = ServerOptions::default().with_shutdown_deadline(2 * SHORT);
    let (mut stream, stop, served) = large_answer(options).await;
    stop.send(()).unwrap();
    assert_eq!(served.await.unwrap().cut_off, 1);
    assert!(read_slowly(&mut stream, 0, SHORT).await < LARGE);
}

#[tokio::test]
async fn at_shutdown_idle_and_silent_connections_close_at_once() {
    let mut world = world(ServerOptions::default()).await;
    let mut idle = TcpStream::connect(world.address).await.unwrap();
    idle.write_all(HEALTH).await.unwrap();
    one_answer(&mut idle).await;
    let mut silent = TcpStream::connect(world.address).await.unwrap();
    let mut half = TcpStream::connect(world.address).await.unwrap();
    half.write_all(b"GET /heal").await.unwrap();
    // It is answered, so the other two were accepted before.
    assert_eq!(world.get(&format!("{}/healthz", world.base)).send().await.unwrap().status(), 200);
    let started = Instant::now();
    world.tell_to_stop();
    assert_eq!(world.served().await.cut_off, 0);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    for stream in [&mut idle, &mut silent, &mut half] {
        closed_after(stream).await;
    }
    assert!(TcpStream::connect(world.address).await.is_err());
}

#[tokio::test]
async fn who_waits_for_a_run_is_answered_202_when_the_shutdown_begins() {
    let mut world = world(ServerOptions::default()).await;
    let hook = world.hook(json!({})).await;
    world.executor.script_next([Step::WaitForRelease]);
    let call = world.post(&hook.url).header("prefer", "wait=60");
    let waiting = tokio::spawn(async move { content(call.send().await.unwrap(), 202).await });
    world.executor.executed(1).await;
    let started = Instant::now();
    world.tell_to_stop();
    assert_eq!(world.served().await.cut_off, 0);
    let answer: Value = waiting.await.unwrap();
    assert_eq!(answer["state"], "running");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn who_waits_for_a_run_is_answered_when_the_service_stops_accepting() {
    let world = world(ServerOptions::default()).await;
    let hook = world.hook(json!({})).await;
    world.executor.script_next([Step::WaitForRelease]);
    let call = world.post(&hook.url).header("prefer", "wait=60");
    let waiting = tokio::spawn(async move { content(call.send().await.unwrap(), 202).await });
    world.executor.executed(1).await;
    world.webhooks.stop_accepting();
    let answer = tokio::time::timeout(PATIENCE, waiting).await.expect("it waits on").unwrap();
    assert_eq!(answer["state"], "running");
}

#[tokio::test]
async fn answers_under_way_are_cut_off_at_the_deadline_of_the_shutdown() {
    let options = ServerOptions::default().with_shutdown_deadline(SHORT);
    let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap().with_options(options);
    let address = server.local_address().unwrap();
    let (reached, arrived) = tokio::sync::mpsc::channel::<()>(1);
    let mut arrived = arrived;
    let never = front::own(None, move || {
        let reached = reached.clone();
        async move {
            reached.send(()).await.unwrap();
            std::future::pending::<Vec<u8>>().await
        }
    });
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(HEALTH).await.unwrap();
    let started = Instant::now();
    let served = front::serve(server, never, async move { arrived.recv().await.unwrap() }).await;
    assert_eq!(served.cut_off, 1);
    assert!(started.elapsed() >= SHORT);
    closed_after(&mut stream).await;
}

#[tokio::test]
async fn an_answer_under_way_is_finished_at_shutdown() {
    let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = server.local_address().unwrap();
    let (reached, mut arrived) = tokio::sync::mpsc::channel::<()>(1);
    let slow = front::own(None, move || {
        let reached = reached.clone();
        async move {
            reached.send(()).await.unwrap();
            tokio::time::sleep(SHORT).await;
            b"done".to_vec()
        }
    });
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(HEALTH).await.unwrap();
    let served = tokio::spawn(front::serve(server, slow, async move { arrived.recv().await.unwrap() }));
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("done"), "{answer}");
    assert_eq!(served.await.unwrap().cut_off, 0);
}
