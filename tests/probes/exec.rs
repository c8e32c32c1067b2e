//! Programs as probes: their exit status, what they are told, and that none outlives its time.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use plimsoll::control::health::probe::exec::Exec;
use plimsoll::control::health::probe::{Check, run};
use plimsoll::policy::health::Verdict;

use crate::{ask, probe};

fn exec(command: &[&str]) -> Check {
    let command = command.iter().map(ToString::to_string).collect();
    Check::Exec(Exec { command, pool: "api".to_owned(), endpoint: "a".to_owned() })
}

fn address() -> std::net::SocketAddr {
    "10.0.0.1:8080".parse().expect("an address")
}

#[tokio::test]
async fn the_exit_status_is_the_verdict_and_the_output_the_evidence() {
    let outcome = ask(exec(&["sh", "-c", "echo fine; exit 0"]), address()).await;
    assert_eq!((outcome.verdict, &*outcome.evidence.bytes), (Verdict::Good, &b"fine\n"[..]));
    let outcome = ask(exec(&["sh", "-c", "echo disk full >&2; exit 3"]), address()).await;
    assert_eq!((outcome.verdict, &*outcome.evidence.what), (Verdict::SaysNo, "exit status 3"));
    assert_eq!(outcome.evidence.bytes, b"disk full\n");
    let outcome = ask(exec(&["sh", "-c", "kill -9 $$"]), address()).await;
    assert_eq!(outcome.verdict, Verdict::CannotBeAsked);
    assert_eq!(outcome.evidence.what, "the program was killed by signal 9");
}

#[tokio::test]
async fn a_program_that_cannot_be_run_says_nothing_about_the_endpoint() {
    let outcome = ask(exec(&["/nowhere/at/all"]), address()).await;
    assert_eq!(outcome.verdict, Verdict::Void);
    assert!(outcome.evidence.what.starts_with("the program cannot be run"), "{}", outcome.evidence);
    assert_eq!(ask(exec(&[]), address()).await.verdict, Verdict::Void);
}

#[tokio::test]
async fn it_is_told_whom_to_ask_about_without_a_shell_and_without_our_secrets() {
    let script = r#"test "$#" = 2 && test "$1" = '$HOME *' && test -z "$CARGO$HOME" &&
        test "$PLIMSOLL_POOL $PLIMSOLL_ENDPOINT $PLIMSOLL_ADDRESS $PLIMSOLL_PORT" = "api a 10.0.0.1 8080""#;
    let outcome = ask(exec(&["sh", "-c", script, "sh", "$HOME *", "b"]), address()).await;
    assert_eq!(outcome.verdict, Verdict::Good, "{}", outcome.evidence);
}

#[tokio::test]
async fn endless_output_is_neither_kept_nor_in_the_way() {
    let outcome = ask(exec(&["sh", "-c", "head -c 1000000 /dev/zero; exit 1"]), address()).await;
    assert_eq!((outcome.verdict, outcome.evidence.bytes.len()), (Verdict::SaysNo, 256));
}

#[tokio::test]
async fn a_child_left_behind_holds_nothing_up() {
    let outcome = ask(exec(&["sh", "-c", "sleep 30 & echo $!; exit 0"]), address()).await;
    assert_eq!(outcome.verdict, Verdict::Good);
    assert!(outcome.evidence.phases.total < Duration::from_secs(10), "{}", outcome.evidence);
    let pid = String::from_utf8(outcome.evidence.bytes).expect("text");
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().expect("a number")).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it still runs");
}

#[tokio::test(start_paused = true)]
async fn a_program_has_the_limit_of_every_probe() {
    let outcome = run(&probe(exec(&["sleep", "1000"]), address())).await;
    assert_eq!(outcome.verdict, Verdict::CannotBeAsked);
    assert_eq!(outcome.evidence.what, "timeout, and the program was killed");
}

#[tokio::test]
async fn a_program_goes_with_its_probe_and_takes_its_children_along() {
    let folder = tempfile::tempdir().expect("a folder");
    let fifo = folder.path().join("alive");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
    assert!(made.success());
    // A child of the program holds the only writing end of the pipe, whose end is read once it is gone.
    let script = format!("sh -c 'echo up; exec sleep 1000' > '{}' & wait", fifo.display());
    let program = probe(exec(&["sh", "-c", &script]), address());
    let running = tokio::spawn(async move { run(&program).await });
    let (up, is_up) = tokio::sync::oneshot::channel();
    let reader = tokio::task::spawn_blocking(move || {
        let mut pipe = File::open(fifo).expect("a pipe");
        pipe.read_exact(&mut [0; 3]).expect("up");
        up.send(()).expect("told");
        pipe.read_to_end(&mut Vec::new()).expect("its end")
    });
    is_up.await.expect("it runs");
    running.abort();
    assert_eq!(tokio::time::timeout(crate::AMPLE, reader).await.expect("it was killed").expect("read"), 0);
}
