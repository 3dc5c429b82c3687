//! Tests of the names that people read and callers send.

use std::str::FromStr;

use serde_json::json;
use webhook_core::error::InvalidName;
use webhook_core::events::EventCursor;
use webhook_core::id::{
    CallId, DeliveryId, RunId, SecretId, WebhookId, WorkflowId, WorkflowKey, WorkflowKind,
};
use webhook_core::notifier::DeliveryState;
use webhook_core::run::{ErrorKind, RunState};
use webhook_core::token::Token;
use webhook_core::webhook::Channel;

#[test]
fn a_state_and_a_kind_of_error_have_one_name_in_filters_records_and_json() {
    for state in RunState::ALL {
        assert_eq!((state.as_str().parse(), json!(state)), (Ok(state), json!(state.as_str())));
    }
    for state in DeliveryState::ALL {
        assert_eq!((state.as_str().parse(), json!(state)), (Ok(state), json!(state.as_str())));
    }
    use ErrorKind::{Fatal, Interrupted, Panicked, Retryable, Superseded, TimedOut};
    for kind in [Retryable, Fatal, Panicked, TimedOut, Interrupted, Superseded] {
        assert_eq!(json!(kind), json!(kind.as_str()));
    }
}

#[test]
fn an_error_over_a_name_says_which_kind_of_name_it_was_meant_to_be() {
    fn error<T: FromStr<Err = InvalidName>>() -> String {
        let Err(error) = "not one!".parse::<T>() else { panic!("it is one") };
        error.to_string()
    }
    for (error, kind) in [
        (error::<WorkflowKind>(), "workflow kind"),
        (error::<WorkflowId>(), "workflow id"),
        (error::<WorkflowKey>(), "workflow"),
        (error::<WebhookId>(), "webhook id"),
        (error::<RunId>(), "run id"),
        (error::<DeliveryId>(), "delivery id"),
        (error::<SecretId>(), "secret id"),
        (error::<CallId>(), "call id"),
        (error::<EventCursor>(), "event id"),
        (error::<RunState>(), "run state"),
        (error::<DeliveryState>(), "delivery state"),
        (error::<Channel>(), "channel"),
        (Token::parse("not one!").unwrap_err().to_string(), "token"),
    ] {
        assert!(error.starts_with(&format!("{kind} must match ")), "{error}");
        assert!(!error.contains("not one!"), "a text of a caller may be a secret: {error}");
    }
}
