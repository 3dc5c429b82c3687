//! The contract as a tower service.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
#[cfg(feature = "panel")]
use std::sync::Arc;
use std::task::{Context, Poll};

use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;
use webhook_core::error::BoxError;
use webhook_http::{Api, PeerAddress, ResponseBody};
#[cfg(feature = "panel")]
use webhook_panel::{Panel, PanelOptions};

/// The HTTP contract as a tower service. It never fails: errors are responses.
///
/// Paths are relative to where the host mounts it. A path that is not the contract's is answered 404; a host with paths of its
/// own asks [`Api::route`] first, or lets its router decide.
///
/// A server tells more about a connection in the extensions of a request: its [`PeerAddress`], the
/// [`ShutdownSignal`](webhook_http::ShutdownSignal) and the [`Room`](webhook_http::Room). Without the address, the limit
/// on wrong tokens counts all callers as one.
///
/// It must be polled within a tokio runtime that has its timers enabled. Its clones share the service.
#[derive(Debug, Clone)]
pub struct ApiService {
    api: Api,
    #[cfg(feature = "panel")]
    panel: Option<Arc<Panel>>,
}

/// Future of the response of an [`ApiService`].
///
/// # Cancel safety
/// It is dropped when the client goes away. By then, a run may have been started or a change made.
pub struct ResponseFuture(Pin<Box<dyn Future<Output = Response<ResponseBody>> + Send>>);

impl ApiService {
    /// Creates the service of this contract.
    #[must_use]
    pub fn new(api: Api) -> Self {
        Self {
            api,
            #[cfg(feature = "panel")]
            panel: None,
        }
    }

    /// Adds the panel: a page at `/panel` for people who manage webhooks and follow runs.
    #[cfg(feature = "panel")]
    #[must_use]
    pub fn with_panel(mut self, options: &PanelOptions) -> Self {
        self.panel = Some(Arc::new(Panel::new(options)));
        self
    }

    async fn answer<B>(self, parts: Parts, body: B) -> Response<ResponseBody>
    where
        B: Body + Send,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let path = parts.uri.path();
        if let Some(route) = self.api.route(path) {
            let peer = parts.extensions.get().map(|PeerAddress(address)| *address);
            return self.api.handle(route, parts, peer, body).await;
        }
        #[cfg(feature = "panel")]
        if let Some(panel) = &self.panel
            && let Some(answer) = panel.handle(&parts.method, path, &parts.headers)
        {
            return answer;
        }
        Api::not_found(&parts.headers)
    }
}

impl<B> Service<Request<B>> for ApiService
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = ResponseFuture;

    /// Returns at once: the service is always ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        let (parts, body) = request.into_parts();
        ResponseFuture(Box::pin(self.clone().answer(parts, body)))
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context).map(Ok)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ResponseFuture")
    }
}
