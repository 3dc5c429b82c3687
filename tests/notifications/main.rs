//! Tests of notifications through a real mail server, and through a server that behaves like Slack.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod email;
mod house;
mod mail_server;
mod outage;
#[path = "../support/process.rs"]
mod process;
mod program;
#[path = "../support/python.rs"]
mod python;
#[path = "../server/server.rs"]
mod server;
mod slack;
mod slack_server;
