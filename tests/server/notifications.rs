//! Tests of notifications through a real mail server, and through a server that behaves like Slack.

mod email;
mod fixture;
mod mail_server;
mod outage;
mod program;
mod slack;
mod slack_server;
