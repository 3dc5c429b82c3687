//! Flags, and the messages of those that do not fit.

use super::*;

const CANARY: &str = "canary-5f1c2a";

fn parse(arguments: &[&str]) -> Result<Options, CommandLineError> {
    Options::parse(["server"].iter().chain(arguments))
}

fn usage(arguments: &[&str]) -> String {
    match parse(arguments) {
        Err(CommandLineError::Usage(message)) => message,
        other => panic!("{arguments:?} gave {other:?}"),
    }
}

#[test]
fn the_defaults_are_those_of_the_readme() {
    let options = parse(&[]).unwrap();
    assert_eq!(options.listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(options.data, Path::new("data"));
    assert_eq!(options.token_key, Path::new("data/token.key"));
    assert!(options.uses_bundled_workflows());
    assert!(matches!(options.store, StoreChoice::Sled) && options.durability == DurabilityChoice::Power);
    assert_eq!(options.lease, Duration::from_secs(30));
    assert!(options.name.ends_with(&std::process::id().to_string()), "{}", options.name);
    assert_eq!((options.workers, options.admin_token.clone()), (None, None));
    assert_eq!(options.shutdown_timeout, Duration::from_secs(30));
    assert_eq!(options.base_url(options.listen).unwrap().as_str(), "http://127.0.0.1:8080/");
}

#[test]
fn trusted_proxies_are_networks_and_may_be_several() {
    assert!(parse(&[]).unwrap().trusted_proxies.is_empty());
    let given = ["--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "192.0.2.1,fd00::/8"];
    let proxies = parse(&given).unwrap().trusted_proxies;
    for address in ["10.1.2.3", "192.0.2.1", "fd00::7"] {
        assert!(proxies.contain(address.parse().unwrap()), "{address}");
    }
    assert!(!proxies.contain("192.0.2.2".parse().unwrap()));
    assert!(usage(&["--trusted-proxy", "10.0.0.0/33"]).contains("--trusted-proxy"));
}

#[test]
fn every_flag_has_its_environment_variable() {
    use clap::CommandFactory;
    for argument in Flags::command().get_arguments() {
        let name = argument.get_long().unwrap().to_uppercase().replace('-', "_");
        let variable = argument.get_env().map(|variable| variable.to_string_lossy().into_owned());
        assert_eq!(variable, Some(format!("WEBHOOK_{name}")));
    }
    Flags::command().debug_assert();
}

#[test]
fn urls_start_with_an_address_that_can_be_called() {
    let options = parse(&["--listen", "0.0.0.0:0"]).unwrap();
    let base = |bound: &str| options.base_url(bound.parse().unwrap()).unwrap().to_string();
    assert_eq!(base("0.0.0.0:4711"), "http://127.0.0.1:4711/");
    assert_eq!(base("[::]:4711"), "http://[::1]:4711/");
    assert_eq!(base("192.0.2.1:80"), "http://192.0.2.1/");
    let options = parse(&["--base-url", "https://hooks.example.com/in"]).unwrap();
    assert_eq!(options.base_url(options.listen).unwrap().as_str(), "https://hooks.example.com/in");
}

#[test]
fn a_bad_flag_is_one_line_that_names_it() {
    for (arguments, expected) in [
        (vec!["--listen", "somewhere"], "--listen"),
        (vec!["--base-url", "ftp://example.com"], "http:// or https://"),
        (vec!["--base-url", "https://example.com/?a"], "no query"),
        (vec!["--store", "redis"], "--store"),
        (vec!["--store", "sled", "--store-file", "b"], "--store-file"),
        (vec!["--store-file", "/no/such/file"], "/no/such/file"),
        (vec!["--store", "postgres://localhost/a"], "--token-key: it is needed with PostgreSQL"),
        (vec!["--lease-s", "0"], "--lease-s"),
        (vec!["--durability", "none"], "--durability"),
        (vec!["--workers", "-1"], "--workers"),
        (vec!["--workers", "401"], "--workers"),
        (vec!["--shutdown-timeout", "soon"], "--shutdown-timeout"),
        (vec!["--log", "info=loud"], "--log"),
        (vec!["--log", "no such filter!!"], "--log"),
        (vec!["--log", ",,="], "info,webhook_core=debug"),
        (vec!["--log", ""], "--log"),
        (vec!["--log", "info,"], "--log"),
        (vec!["--log", "=debug"], "--log"),
        (vec!["--log", "zzz="], "--log"),
        (vec!["--log", "info,webhook_core="], "--log"),
        (vec!["--no-such-flag"], "--no-such-flag"),
        (vec!["--data"], "--data"),
        (vec!["stray"], "stray"),
        (vec!["--smtp", "mail.example.com"], "--smtp"),
        (vec!["--smtp", "smtp://me@mail.example.com"], "user without a password"),
        (vec!["--smtp", "smtp://localhost", "--smtp-from", "nobody"], "--smtp-from"),
        (vec!["--smtp-from", "nobody@example.com"], "--smtp-from: it needs --smtp or --smtp-file"),
        (vec!["--smtp-ca-file", "/no/such/file"], "--smtp-ca-file: it needs --smtp or --smtp-file"),
        (vec!["--slack-api", "https://example.com"], "--slack-api: it needs --slack-token or"),
        (vec!["--smtp", "smtp://mail.example.com"], "--smtp-from: a mail server on another machine refuses"),
        (vec!["--smtp", "smtps://localhost", "--smtp-ca-file", "/no/such/file"], "/no/such/file"),
        (vec!["--smtp-file", "/no/such/file"], "/no/such/file"),
        (vec!["--smtp", "smtp://localhost", "--smtp-file", "b"], "--smtp-file"),
        (vec!["--slack-token", ""], "--slack-token"),
        (vec!["--slack-token-file", "/no/such/file"], "/no/such/file"),
        (vec!["--slack-token", "xoxb-1", "--slack-api", "http://example.com"], "--slack-api"),
        (vec!["--admin-token", ""], "--admin-token"),
        (vec!["--admin-token", "a-token-of-less-than-32-letters"], "at least 32 characters"),
        (vec!["--admin-token-file", "/no/such/file"], "/no/such/file"),
        (vec!["--admin-token", "a", "--admin-token-file", "b"], "--admin-token-file"),
    ] {
        let message = usage(&arguments);
        assert!(message.contains(expected), "{arguments:?}: {message}");
        assert!(!message.contains('\n') && !message.starts_with("error"), "{message}");
    }
}

#[test]
fn a_log_filter_is_levels_and_targets() {
    for filter in ["info", "off", "TRACE", "info,webhook_core::work=debug", "warn,my-host=info"] {
        assert!(parse(&["--log", filter]).is_ok(), "{filter}");
    }
}

#[test]
fn secrets_are_in_no_message_and_no_debug_text() {
    let database = format!("postgres://user:{CANARY}@localhost/db");
    let options = parse(&["--store", &database, "--token-key", "shared.key"]).unwrap();
    assert!(matches!(options.store, StoreChoice::Postgres(_)));
    assert!(!format!("{options:?}").contains(CANARY));
    let message = usage(&["--store", &format!("{database}?sslmode=maybe")]);
    assert!(message.starts_with("--store: ") && !message.contains(CANARY), "{message}");
    assert!(!usage(&["--admin-token", &format!("{CANARY} x")]).contains(CANARY));
    for url in ["http://u:{}@a.b", "smtp://u:{}@", "smtp://:{}@a.b", "smtp://u:{}@a.b/c", "{}"] {
        assert!(!usage(&["--smtp", &url.replace("{}", CANARY)]).contains(CANARY), "{url}");
    }
    assert!(!usage(&["--slack-token", &format!("{CANARY} x")]).contains(CANARY));
    let api = format!("https://u:{CANARY}@example.com");
    assert!(!usage(&["--slack-token", "xoxb-1", "--slack-api", &api]).contains(CANARY));
    let smtp = format!("smtps://user:{CANARY}@localhost");
    let options = parse(&["--smtp", &smtp, "--slack-token", CANARY]).unwrap();
    assert!(options.smtp.is_some() && options.slack.is_some());
    assert!(!format!("{options:?}").contains(CANARY));
    for url in ["https://u:{}@example.com", "https://example.com/webhook?token={}", "{}", "ftp://{}"] {
        let message = usage(&["--base-url", &url.replace("{}", CANARY)]);
        assert!(message.starts_with("--base-url: ") && !message.contains(CANARY), "{message}");
    }
    assert!(!usage(&["--admin-token", CANARY]).contains(CANARY));
    let options = parse(&["--admin-token", &CANARY.repeat(3)]).unwrap();
    assert!(!format!("{options:?}").contains(CANARY));
    assert_eq!(options.admin_token.unwrap().expose(), CANARY.repeat(3));
}

#[test]
fn the_url_of_a_database_can_stand_in_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("postgres://user:{CANARY}@db.example.com/db\n")).unwrap();
    let file = file.path().to_str().unwrap();
    let options = parse(&["--store-file", file, "--token-key", "shared.key", "--name", "one"]).unwrap();
    assert!(matches!(options.store, StoreChoice::Postgres(_)));
    assert!(!format!("{options:?}").contains(CANARY));
    assert_eq!(options.name, "one");
}

#[test]
fn a_token_file_may_end_with_a_line_end() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let token = CANARY.repeat(3);
    std::fs::write(file.path(), format!("{token}\r\n")).unwrap();
    let options = parse(&["--admin-token-file", file.path().to_str().unwrap()]).unwrap();
    assert_eq!(options.admin_token.unwrap().expose(), token);
}

#[test]
fn help_is_information_and_names_every_flag() {
    let Err(CommandLineError::Information(help)) = parse(&["--help"]) else { panic!("no help") };
    for flag in ["--listen", "--store", "--admin-token-file", "WEBHOOK_BASE_URL", "2 if it cannot be opened"]
    {
        assert!(help.contains(flag), "{help}");
    }
}
