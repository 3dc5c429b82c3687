//! Tests of the tower service, called directly and under hyper.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tower_service::Service;
use webhook_core::Webhooks;
use webhook_core::executor::Workflow;
use webhook_core::memory::MemoryStore;
use webhook_core::store::RunQuery;
use webhook_http::{AdminAccess, Api, PeerAddress, ResponseBody};
use webhook_panel::PanelOptions;
use webhook_testing::ScriptedExecutor;
use webhook_tower::ApiService;
use webhook_tower::server::{Server, TimelyBody};

async fn webhooks() -> Webhooks {
    let sales = Workflow::new("report/sales".parse().unwrap(), "Sales", Default::default());
    let builder = Webhooks::builder().store(MemoryStore::new()).executor(ScriptedExecutor::new(vec![sales]));
    builder.base_url("http://trigger.example".parse().unwrap()).build().await.unwrap()
}

/// Creates a webhook, and returns the path and query of its URL.
async fn hook(webhooks: &Webhooks) -> String {
    let created =
        webhooks.manage().create_webhook("report/sales".parse().unwrap(), Default::default()).await.unwrap();
    created.url.expose().strip_prefix("http://trigger.example").unwrap().to_owned()
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", "trigger.example").body(Full::default()).unwrap()
}

async fn answer(service: &mut ApiService, request: Request<Full<Bytes>>) -> Response<ResponseBody> {
    service.call(request).await.unwrap()
}

#[tokio::test]
async fn the_contract_the_panel_and_a_404_for_the_rest_are_one_service() {
    let webhooks = webhooks().await;
    let path = hook(&webhooks).await;
    let api = Api::new(webhooks, AdminAccess::Open);
    let mut without = ApiService::new(api.clone());
    let mut service = ApiService::new(api).with_panel(&PanelOptions::default().without_sign_in());
    let call = Request::post(&path).body(Full::from("{}")).unwrap();
    let accepted = answer(&mut service, call).await;
    assert_eq!(accepted.status(), StatusCode::ACCEPTED);
    let body = accepted.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(br#"{"run_id":"#), "{body:?}");
    for (path, status) in [
        ("/api/v1/report/sales/webhook", 401),
        ("/api/v1/table/sales/webhook", 404),
        ("/admin/api/v1/webhooks", 200),
        ("/panel", 200),
        ("/panel/main.js", 200),
        ("/readyz", 200),
        ("/nothing", 404),
    ] {
        assert_eq!(answer(&mut service, get(path)).await.status(), status, "{path}");
    }
    assert_eq!(answer(&mut without, get("/panel")).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_run_has_the_address_that_the_server_told() {
    let webhooks = webhooks().await;
    let path = hook(&webhooks).await;
    let mut service = ApiService::new(Api::new(webhooks.clone(), AdminAccess::Disabled));
    let mut call = Request::post(&path).body(Full::default()).unwrap();
    call.extensions_mut().insert(PeerAddress([192, 0, 2, 7].into()));
    assert_eq!(answer(&mut service, call).await.status(), StatusCode::ACCEPTED);
    let runs = webhooks.manage().list_runs(RunQuery::default()).await.unwrap().items;
    assert_eq!(runs[0].caller().address, Some([192, 0, 2, 7].into()));
}

#[tokio::test]
async fn under_http_2_the_authority_is_the_host_and_no_header_is_of_the_connection() {
    let webhooks = webhooks().await;
    let path = hook(&webhooks).await;
    let mut service = ApiService::new(Api::new(webhooks, AdminAccess::Open));
    let mut request =
        Request::get("http://trigger.example/admin/api/v1/webhooks").body(Full::default()).unwrap();
    *request.version_mut() = Version::HTTP_2;
    assert_eq!(answer(&mut service, request).await.status(), StatusCode::OK);
    // So large that the rest is not drained.
    let mut request = Request::post(&path).body(Full::from(vec![b' '; 16 * 1024 * 1024])).unwrap();
    *request.version_mut() = Version::HTTP_2;
    let refused = answer(&mut service, request).await;
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(!refused.headers().contains_key("connection"));
}

/// Sends a request, and reads until the other side closes.
async fn raw(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn hyper_serves_it() {
    let webhooks = webhooks().await;
    let path = hook(&webhooks).await;
    let service = ApiService::new(Api::new(webhooks, AdminAccess::Disabled));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    let call = format!("POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let answer = raw(address, &call).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    assert!(answer.contains("\r\ncache-control: no-store\r\n"), "{answer}");
}

/// A service that is ready once it is told.
#[derive(Clone)]
struct Gated {
    inner: ApiService,
    open: watch::Receiver<bool>,
    is_ready: bool,
}

impl Service<Request<TimelyBody>> for Gated {
    type Response = Response<ResponseBody>;
    type Error = std::convert::Infallible;
    type Future = webhook_tower::ResponseFuture;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if !*self.open.borrow() {
            let (mut open, waker) = (self.open.clone(), context.waker().clone());
            tokio::spawn(async move {
                let _ = open.wait_for(|open| *open).await;
                waker.wake();
            });
            return Poll::Pending;
        }
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<TimelyBody>) -> Self::Future {
        assert!(self.is_ready, "called before it was ready");
        self.inner.call(request)
    }
}

#[tokio::test]
async fn the_server_calls_a_service_once_it_is_ready() {
    let (open, opened) = watch::channel(false);
    let inner = ApiService::new(Api::new(webhooks().await, AdminAccess::Disabled));
    let service = Gated { inner, open: opened, is_ready: false };
    let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = server.local_address().unwrap();
    tokio::spawn(server.serve(service, std::future::pending()));
    let mut asking =
        std::pin::pin!(raw(address, "GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"));
    let is_pending = poll_fn(|context| Poll::Ready(asking.as_mut().poll(context).is_pending())).await;
    assert!(is_pending);
    open.send(true).unwrap();
    assert!(asking.await.starts_with("HTTP/1.1 200 "));
}
