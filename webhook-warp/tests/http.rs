//! Tests of the whole contract over a real socket with a real HTTP client.

#![allow(clippy::unwrap_used)]

mod support;

mod http {
    mod bounded;
    mod broken;
    mod calls;
    mod cross_site;
    mod crowded;
    mod described;
    mod events;
    mod managed_runs;
    mod management;
    mod mounting;
    mod plain;
    mod refused;
    mod senders;
    mod server;
    mod status;
    mod trigger;
    mod verified;
}
