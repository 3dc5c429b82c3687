//! A real mail server in its own process: aiosmtpd, driven by a small script.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mail_parser::MessageParser;
use parking_lot::Mutex;
use serde_json::Value;

/// A mail server, killed on drop.
pub(crate) struct MailServer {
    child: Child,
    pub(crate) port: u16,
    taken: Arc<Mutex<Vec<Value>>>,
}

/// A mail as a MIME library parses it.
#[derive(Debug, Clone)]
pub(crate) struct Mail {
    pub(crate) recipients: Vec<String>,
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) subject: String,
    pub(crate) message_id: String,
    pub(crate) auto_submitted: String,
    pub(crate) headers: Vec<String>,
    pub(crate) text: String,
    pub(crate) html: String,
    pub(crate) raw: String,
    pub(crate) encrypted: bool,
    pub(crate) authenticated: bool,
}

impl MailServer {
    /// Starts a server on this port, or on a free one for 0.
    pub(crate) fn start(python: &Path, port: u16, arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server/notifications/smtp_server.py");
        let mut child = Command::new(python)
            .arg(script)
            .args(["--port", &port.to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        output.read_line(&mut first).unwrap();
        let greeting: Value = serde_json::from_str(&first).expect("the mail server says where it listens");
        let port = u16::try_from(greeting["port"].as_u64().unwrap()).unwrap();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let sink = taken.clone();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                sink.lock().push(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, port, taken }
    }

    /// Waits for the first `count` mails.
    pub(crate) async fn mails(&self, count: usize) -> Vec<Mail> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let taken = self.taken.lock().clone();
            if taken.len() >= count {
                return taken.iter().map(Mail::read).collect();
            }
            assert!(Instant::now() < deadline, "{} of {count} mails have come", taken.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns the number of mails so far.
    pub(crate) fn count(&self) -> usize {
        self.taken.lock().len()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Mail {
    fn read(taken: &Value) -> Self {
        let raw = taken["content"].as_str().unwrap();
        let mail = MessageParser::default().parse(raw.as_bytes()).expect("it is MIME");
        let addresses = |addresses: Option<&mail_parser::Address<'_>>| -> Vec<String> {
            let all = addresses.into_iter().flat_map(|addresses| addresses.clone().into_list());
            all.filter_map(|address| address.address.map(Into::into)).collect()
        };
        assert_eq!((mail.text_body_count(), mail.html_body_count()), (1, 1));
        Self {
            recipients: taken["recipients"]
                .as_array()
                .unwrap()
                .iter()
                .map(|it| it.as_str().unwrap().to_owned())
                .collect(),
            from: addresses(mail.from()).remove(0),
            to: addresses(mail.to()),
            subject: mail.subject().unwrap().to_owned(),
            message_id: mail.message_id().unwrap().to_owned(),
            auto_submitted: mail.header_raw("Auto-Submitted").unwrap_or_default().trim().to_owned(),
            headers: mail.headers().iter().map(|header| header.name().to_owned()).collect(),
            text: mail.body_text(0).unwrap().into_owned(),
            html: mail.body_html(0).unwrap().into_owned(),
            raw: raw.to_owned(),
            encrypted: taken["encrypted"].as_bool().unwrap(),
            authenticated: taken["authenticated"].as_bool().unwrap(),
        }
    }
}
