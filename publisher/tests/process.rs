//! The publisher as a process that cannot do its work: what it says, and how it ends. The suite of
//! the service runs it against a real server.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

/// Runs it to its end: exit code, stderr.
fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_oncelog-publisher"))
        .args(arguments)
        .env_clear()
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), stderr)
}

#[test]
fn a_wrong_command_line_is_exit_2() {
    for (arguments, named) in [
        (&["--events", "0"][..], "--events"),
        (&["--duplicates", "1.5"], "--duplicates"),
        (&["--url", "localhost:8080"], "--url"),
        (&["--transport", "redis"], "--redis-url"),
    ] {
        let (code, stderr) = run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(named), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_server_that_does_not_answer_is_one_line_and_exit_1() {
    // Nobody listens on port 1.
    let (code, stderr) = run(&["--url", "http://127.0.0.1:1", "--wait-s", "0"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("http://127.0.0.1:1"), "{stderr}");
}
