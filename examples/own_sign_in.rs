//! A host's own sign-in in front of the panel and the management API.
//!
//! People sign in with a form and get a session cookie. Callers of webhooks need no session, only their token.
//! Open `http://127.0.0.1:8080/panel`, and sign in as `ada` with the password `lovelace`.

#![allow(clippy::print_stdout, reason = "it prints what to call")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::distr::{Alphanumeric, SampleString};
use warp::http::{HeaderMap, Response, StatusCode, header};
use warp::path::Peek;
use warp::{Filter, Rejection, Reply};
use webhook_trigger::prelude::*;

const FORM: &str = r#"<!doctype html><title>Sign in</title><form method="post">
<label>Name <input name="name"></label> <label>Password <input name="password" type="password"></label>
<button>Sign in</button></form>"#;

/// Names of people who have signed in, by the id of their session.
#[derive(Clone, Default)]
struct Sessions(Arc<Mutex<HashMap<String, String>>>);

impl Sessions {
    fn begin(&self, user: &str) -> String {
        let id = Alphanumeric.sample_string(&mut rand::rng(), 43); // 256 bits
        self.0.lock().insert(id.clone(), user.to_owned());
        id
    }

    fn end(&self, headers: &HeaderMap) {
        self.0.lock().retain(|id, _| Some(id.as_str()) != session_id(headers));
    }

    fn user(&self, headers: &HeaderMap) -> Option<String> {
        session_id(headers).and_then(|id| self.0.lock().get(id).cloned())
    }
}

fn session_id(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|cookies| cookies.split("; ")).find_map(|cookie| cookie.strip_prefix("session="))
}

/// A request to a guarded path came without a session.
#[derive(Debug)]
struct NotSignedIn {
    is_page: bool,
}

impl warp::reject::Reject for NotSignedIn {}

/// Lets people pass who have signed in. Paths that are not guarded are left to other routes.
fn guard(sessions: Sessions) -> impl Filter<Extract = (), Error = Rejection> + Clone {
    let check = move |rest: Peek, headers: HeaderMap| {
        let first = rest.segments().next();
        let is_page = first == Some("panel");
        let is_guarded = is_page || first == Some("admin");
        let is_known = sessions.user(&headers).is_some();
        async move {
            match (is_guarded, is_known) {
                (false, _) => Err(warp::reject::not_found()),
                (true, true) => Ok(()),
                (true, false) => Err(warp::reject::custom(NotSignedIn { is_page })),
            }
        }
    };
    warp::path::peek().and(warp::header::headers_cloned()).and_then(check).untuple_one()
}

/// Sends people to the form, and programs an error.
async fn ask_to_sign_in(rejection: Rejection) -> Result<Response<String>, Rejection> {
    match rejection.find::<NotSignedIn>() {
        Some(NotSignedIn { is_page: true }) => Ok(redirect("/sign-in", None)),
        Some(NotSignedIn { is_page: false }) => {
            Ok(answer(StatusCode::UNAUTHORIZED, "sign in at /sign-in".to_owned()))
        }
        None => Err(rejection),
    }
}

/// The host's own pages: the form, and the end of a session.
fn own_pages(sessions: Sessions) -> impl Filter<Extract = (impl Reply,), Error = Rejection> + Clone {
    let path = warp::path!("sign-in");
    let form = path.and(warp::get()).map(|| warp::reply::html(FORM));
    let (begin, end) = (sessions.clone(), sessions);
    let sign_in = path
        .and(warp::post())
        .and(warp::header::headers_cloned())
        .and(warp::body::content_length_limit(4096))
        .and(warp::body::form())
        .map(move |headers: HeaderMap, form: HashMap<String, String>| {
            let given = |name: &str| form.get(name).map(String::as_str);
            // A host looks up a hash that is slow to compute, such as Argon2, and limits tries.
            let is_right = (given("name"), given("password")) == (Some("ada"), Some("lovelace"));
            match (is_from_another_site(&headers), is_right) {
                (true, _) => answer(StatusCode::FORBIDDEN, "sign in at this site".to_owned()),
                (false, false) => answer(StatusCode::FORBIDDEN, "wrong name or password".to_owned()),
                (false, true) => redirect("/panel", Some(&cookie(&begin.begin("ada"), ""))),
            }
        });
    let sign_out = warp::path!("sign-out").and(warp::post()).and(warp::header::headers_cloned()).map(
        move |headers: HeaderMap| match is_from_another_site(&headers) {
            true => answer(StatusCode::FORBIDDEN, "sign out at this site".to_owned()),
            false => {
                end.end(&headers);
                redirect("/sign-in", Some(&cookie("", "; Max-Age=0")))
            }
        },
    );
    form.or(sign_in).or(sign_out)
}

/// Returns whether a page of another site has caused this request. Programs other than browsers send neither header.
///
/// The host's own forms need this check. The management API has one of its own, also of `Origin` and `Host`.
fn is_from_another_site(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none")
}

/// Behind HTTPS, a host adds `Secure`, and names the cookie `__Host-session`.
fn cookie(id: &str, more: &str) -> String {
    format!("session={id}; Path=/; HttpOnly; SameSite=Lax{more}")
}

fn answer(status: StatusCode, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response
}

fn redirect(to: &'static str, cookie: Option<&str>) -> Response<String> {
    let mut response = answer(StatusCode::SEE_OTHER, String::new());
    response.headers_mut().insert(header::LOCATION, header::HeaderValue::from_static(to));
    if let Some(cookie) = cookie.and_then(|cookie| cookie.parse().ok()) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let server = Server::bind(address.parse()?).await?;
    let base_url = format!("http://{}", server.local_address()?);

    let sales = Workflow::new("report/sales".parse()?, "Sales", ParameterBlocks::default());
    let webhooks = Webhooks::builder()
        .store(MemoryStore::new())
        .executor(FnExecutor::new([sales], async |_| Ok(RunOutput::new().with_summary("printed"))))
        .token_key(TokenKey::generate())
        .base_url(base_url.parse()?) // people open the panel here, and nowhere else
        .build()
        .await?;
    println!("{base_url}/panel");

    let sessions = Sessions::default();
    let managed = webhook_trigger::warp::management_routes(&webhooks, AdminAccess::Open)
        .or(webhook_trigger::warp::panel_routes(&PanelOptions::default().without_sign_in()));
    // Every change is logged under `webhook::audit`, within this span, so the log says who made it.
    let (users, guarded) = (sessions.clone(), guard(sessions.clone()).and(managed));
    let guarded = guarded.with(warp::trace(move |request| {
        tracing::info_span!("signed_in", user = users.user(request.request_headers()))
    }));
    let routes = webhook_trigger::warp::routes(&webhooks)
        .or(own_pages(sessions))
        .or(guarded)
        .recover(ask_to_sign_in)
        .or(webhook_trigger::warp::not_found());

    let workers = webhooks.start_workers(WorkerOptions::default());
    let interrupted = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    server.serve(webhook_trigger::warp::service(routes), webhooks.shutdown_on(interrupted)).await;
    workers.shutdown(Duration::from_secs(30)).await;
    webhooks.close().await;
    Ok(())
}
