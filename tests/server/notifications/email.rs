//! Tests of emails, as a mail server receives them and a MIME library parses them.

use std::path::Path;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::json;
use webhook_core::Webhooks;
use webhook_core::notifier::DeliveryState;
use webhook_core::webhook::SettingCode;
use webhook_notify::smtp::{Encryption, SmtpNotifier, SmtpOptions};
use webhook_testing::{Step, python};

use super::fixture::{CANARY, NotifyingFixture};
use super::mail_server::MailServer;

const PASSWORD: &str = "p@ss canary-77";

fn notifier(options: SmtpOptions) -> SmtpNotifier {
    SmtpNotifier::new(options.with_from("Reports <reports@example.com>").unwrap()).unwrap()
}

fn email(recipients: &[&str], on: &[&str]) -> serde_json::Value {
    json!({"notifications": {"email": {"recipients": recipients, "on": on}}})
}

/// Creates a certificate for `localhost`, and returns its PEM with the arguments for a server that uses it.
pub(crate) fn certificate(folder: &Path) -> (String, [String; 4]) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    std::fs::write(&certificate, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    (cert.pem(), ["--certificate".to_owned(), text(&certificate), "--key".to_owned(), text(&key)])
}

async fn plain_fixture(server: &MailServer, settings: serde_json::Value) -> NotifyingFixture {
    let options = SmtpOptions::from_url(&format!("smtp://127.0.0.1:{}", server.port)).unwrap();
    NotifyingFixture::new(Webhooks::builder().notifier(notifier(options)), settings).await
}

#[tokio::test]
async fn a_success_and_a_failure_reach_every_recipient_as_configured() {
    let Some(python) = python("notifications", &["aiosmtpd"]) else { return };
    let server = MailServer::start(&python, 0, &[]);
    let recipients = ["a@example.com", "b@example.com", "c@example.org"];
    let fixture = plain_fixture(&server, email(&recipients, &["success", "failure"])).await;
    fixture.executor.script_next([Step::SucceedWith("12 rows & <b>more</b>".to_owned())]);
    let region = "EMEA <script>\r\nBcc: x@y.z";
    let good = fixture.start(json!({"note": region, "password": CANARY})).await;
    let delivered = fixture.settled(good).await;
    assert!(delivered.iter().all(|delivery| delivery.state == DeliveryState::Delivered), "{delivered:?}");
    fixture.executor.script_next([Step::FailFatal("no such table: Ü".to_owned())]);
    let bad = fixture.start(json!({})).await;
    fixture.settled(bad).await;

    let mut mails = server.mails(6).await;
    let failures = mails.split_off(3);
    mails.sort_by(|one, other| one.to.cmp(&other.to));
    for (mail, recipient) in mails.iter().zip(recipients) {
        assert_eq!(
            (mail.to.as_slice(), mail.recipients.as_slice()),
            (&[recipient.to_owned()][..], &[recipient.to_owned()][..])
        );
        assert_eq!((mail.from.as_str(), mail.subject.as_str()), ("reports@example.com", "Sales succeeded"));
        assert_eq!(mail.auto_submitted, "auto-generated");
        assert!(!mail.headers.iter().any(|name| name.eq_ignore_ascii_case("bcc")), "{:?}", mail.headers);
        let url = format!("https://app.example.com/hooks/panel#/report/sales/runs/{good}");
        assert!(mail.text.contains("12 rows & <b>more</b>") && mail.text.contains(&url), "{}", mail.text);
        assert!(mail.text.contains("password = ***") && mail.text.contains("note = EMEA <script>"));
        assert!(mail.html.contains("&lt;script&gt;") && !mail.html.contains("<script>"), "{}", mail.html);
        for said in [&mail.text, &mail.html, &mail.raw] {
            assert!(!said.contains(CANARY) && !said.contains(&fixture.token) && !said.contains("token="));
        }
        let id = delivered.iter().find(|delivery| delivery.recipient == recipient).unwrap().id;
        assert_eq!(mail.message_id, format!("{id}@example.com"));
    }
    for mail in &failures {
        assert_eq!(mail.subject, "Sales failed");
        assert!(mail.text.contains("no such table: Ü") && mail.html.contains("no such table: Ü"));
    }
}

#[tokio::test]
async fn events_that_nobody_asked_for_are_not_sent() {
    let Some(python) = python("notifications", &["aiosmtpd"]) else { return };
    let server = MailServer::start(&python, 0, &[]);
    let fixture = plain_fixture(&server, email(&["a@example.com"], &["failure"])).await;
    let good = fixture.start(json!({})).await;
    fixture.ended(good).await;
    assert!(fixture.webhooks.manage().list_deliveries(good).await.unwrap().is_empty());
    fixture.executor.script_next([Step::FailFatal("no".to_owned())]);
    let bad = fixture.start(json!({})).await;
    fixture.settled(bad).await;
    fixture
        .webhooks
        .manage()
        .update_webhook(fixture.webhook.id, &json!({"notifications": {"email": null}}), None)
        .await
        .unwrap();
    fixture.executor.script_next([Step::FailFatal("no".to_owned())]);
    let silent = fixture.start(json!({})).await;
    fixture.ended(silent).await;
    assert!(fixture.webhooks.manage().list_deliveries(silent).await.unwrap().is_empty());
    assert_eq!(server.mails(1).await.len(), 1);
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn what_is_refused_for_good_is_given_up_and_holds_back_nobody() {
    let Some(python) = python("notifications", &["aiosmtpd"]) else { return };
    let server = MailServer::start(&python, 0, &[]);
    let recipients = ["reject@example.com", "busy@example.com", "slow@example.com", "a@example.com"];
    let fixture = plain_fixture(&server, email(&recipients, &["success"])).await;
    let mut runs = Vec::new();
    for _ in 0..10 {
        runs.push(fixture.start(json!({})).await);
    }
    assert!(server.mails(10).await.iter().all(|mail| mail.to == ["a@example.com"]));
    let of = |recipient: &'static str| {
        move |delivery: &webhook_core::notifier::Delivery| {
            delivery.recipient != recipient
                || delivery.attempts > 1
                || delivery.state != DeliveryState::Pending
        }
    };
    let deliveries = fixture.deliveries_when(runs[0], of("reject@example.com")).await;
    let rejected = deliveries.iter().find(|it| it.recipient == "reject@example.com").unwrap();
    assert_eq!((rejected.state, rejected.attempts), (DeliveryState::GivenUp, 1));
    assert!(rejected.last_error.as_ref().unwrap().contains("no such mailbox"), "{rejected:?}");
    let deliveries = fixture.deliveries_when(runs[0], of("busy@example.com")).await;
    let busy = deliveries.iter().find(|it| it.recipient == "busy@example.com").unwrap();
    assert_eq!(busy.state, DeliveryState::Pending);
    assert!(busy.last_error.as_ref().unwrap().contains("come again later"), "{busy:?}");
}

#[tokio::test]
async fn mail_goes_over_tls_with_a_password_and_an_unknown_certificate_gets_nothing() {
    let Some(python) = python("notifications", &["aiosmtpd"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (pem, files) = certificate(folder.path());
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    for (tls, scheme) in [("starttls", "smtp"), ("implicit", "smtps")] {
        let login = ["--tls", tls, "--user", "me@example.com", "--password", PASSWORD];
        let server = MailServer::start(&python, 0, &[&login[..], &files].concat());
        let url =
            |password: &str| format!("{scheme}://me%40example.com:{password}@localhost:{}", server.port);
        let options = |password: &str| {
            let options = SmtpOptions::from_url(&url(password)).unwrap();
            if tls == "starttls" { options.with_encryption(Encryption::StartTls) } else { options }
        };
        let trusting = |password: &str| options(password).with_root_certificates(pem.as_bytes()).unwrap();
        let settings = || email(&["a@example.com"], &["success"]);

        let fixture = NotifyingFixture::new(
            Webhooks::builder().notifier(notifier(trusting("p%40ss%20canary-77"))),
            settings(),
        )
        .await;
        let run = fixture.start(json!({})).await;
        assert_eq!(fixture.settled(run).await[0].state, DeliveryState::Delivered);
        let mail = server.mails(1).await.remove(0);
        assert!(mail.encrypted && mail.authenticated);

        let fixture = NotifyingFixture::new(
            Webhooks::builder().notifier(notifier(options("p%40ss%20canary-77"))),
            settings(),
        )
        .await;
        let run = fixture.start(json!({})).await;
        let delivery = fixture.deliveries_when(run, |delivery| delivery.attempts > 0).await.remove(0);
        let error = delivery.last_error.unwrap();
        assert!(error.contains("certificate"), "{error}");

        let fixture = NotifyingFixture::new(
            Webhooks::builder().notifier(notifier(trusting("wrong-canary"))),
            settings(),
        )
        .await;
        let run = fixture.start(json!({})).await;
        let delivery = fixture.deliveries_when(run, |delivery| delivery.attempts > 0).await.remove(0);
        assert_eq!(delivery.state, DeliveryState::Pending, "a password can be put right");
        let error = delivery.last_error.unwrap();
        assert!(error.contains("535") && !error.contains("canary"), "{error}");
        assert_eq!(server.count(), 1, "nobody else's mail went out");
    }
}

#[tokio::test]
async fn mails_wait_while_the_password_is_refused_and_go_out_once_it_is_accepted() {
    let Some(python) = python("notifications", &["aiosmtpd"]) else { return };
    let login = |password| ["--user", "me", "--password", password];
    let server = MailServer::start(&python, 0, &login("rotated"));
    let port = server.port;
    let options = SmtpOptions::from_url(&format!("smtp://me:{}@127.0.0.1:{port}", "first")).unwrap();
    let settings = email(&["a@example.com", "b@example.com"], &["success"]);
    let fixture = NotifyingFixture::new(Webhooks::builder().notifier(notifier(options)), settings).await;
    let mut runs = Vec::new();
    for _ in 0..20 {
        runs.push(fixture.start(json!({})).await);
    }
    for run in &runs {
        fixture.ended(*run).await;
    }
    fixture
        .deliveries_when(runs[0], |delivery| delivery.attempts > 0 || delivery.recipient.starts_with('b'))
        .await;
    let pending = fixture.webhooks.health().await.unwrap().pending_deliveries;
    assert_eq!((pending, server.count()), (40, 0), "none is given up");
    drop(server);
    let server = MailServer::start(&python, port, &login("first"));
    server.mails(40).await;
}

#[tokio::test]
async fn an_internationalised_domain_reaches_its_server_and_another_address_is_refused_by_name() {
    let Some(python) = python("notifications", &["aiosmtpd"]) else { return };
    let server = MailServer::start(&python, 0, &[]);
    let fixture = plain_fixture(&server, email(&["ops@müller.example"], &["success"])).await;
    let run = fixture.start(json!({})).await;
    assert_eq!(fixture.settled(run).await[0].state, DeliveryState::Delivered);
    assert_eq!(server.mails(1).await[0].recipients, ["ops@xn--mller-kva.example"]);
    let patch = email(&["a@example.com", "müller@example.com"], &["success"]);
    let refused = fixture.webhooks.manage().update_webhook(fixture.webhook.id, &patch, None).await;
    let Err(webhook_core::manage::ManagementError::Settings(problems)) = refused else {
        panic!("not refused: {refused:?}")
    };
    assert_eq!(problems[0].field, "notifications.email.recipients[1]");
    assert!(problems[0].message.contains("before the @"), "{}", problems[0].message);
}

#[tokio::test]
async fn a_server_without_starttls_gets_no_mail() {
    let Some(python) = python("notifications", &["aiosmtpd"]) else { return };
    let server = MailServer::start(&python, 0, &[]);
    let options = SmtpOptions::from_url(&format!("smtp://localhost:{}", server.port)).unwrap();
    let options = options.with_encryption(Encryption::StartTls);
    let builder = Webhooks::builder().notifier(notifier(options));
    let fixture = NotifyingFixture::new(builder, email(&["a@example.com"], &["success"])).await;
    let run = fixture.start(json!({})).await;
    let delivery = fixture.deliveries_when(run, |delivery| delivery.attempts > 0).await.remove(0);
    assert_eq!(delivery.state, DeliveryState::Pending);
    assert!(delivery.last_error.is_some());
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn settings_are_checked_by_name() {
    let options = SmtpOptions::from_url("smtp://localhost").unwrap();
    let fixture = NotifyingFixture::new(Webhooks::builder().notifier(notifier(options)), json!({})).await;
    let many: Vec<String> = (0..51).map(|number| format!("a{number}@example.com")).collect();
    for (notifications, field, code) in [
        (
            json!({"email": {"recipients": ["a@b..c"], "on": ["success"]}}),
            "email.recipients[0]",
            SettingCode::Invalid,
        ),
        (
            json!({"email": {"recipients": many, "on": ["success"]}}),
            "email.recipients",
            SettingCode::OutOfRange,
        ),
        (json!({"slack": {"channel": "#ops", "on": ["success"]}}), "slack", SettingCode::IntegrationMissing),
    ] {
        let patch = json!({"notifications": notifications});
        let refused = fixture.webhooks.manage().update_webhook(fixture.webhook.id, &patch, None).await;
        let Err(webhook_core::manage::ManagementError::Settings(problems)) = refused else {
            panic!("{patch} gave {refused:?}")
        };
        assert_eq!(
            (problems[0].field.as_str(), problems[0].code),
            (format!("notifications.{field}").as_str(), code)
        );
    }
}
