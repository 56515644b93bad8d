//! Files of a gigabyte through the gate and MLflow.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::stack::Stack;

const GIGABYTE: u64 = 1 << 30;
/// How much the peak of Envoy and MLflow may grow. A server that holds the file needs more.
const FLAT: u64 = 200 << 20;

#[test]
#[ignore = "slow: a gigabyte in each direction"]
fn a_gigabyte_goes_up_and_down_and_no_server_holds_it() {
    let stack = Stack::running();
    let token = stack.token("mlflow_user");
    let experiment = stack.make_experiment(&token, "large");
    let run = stack.post("/api/2.0/mlflow/runs/create", Some(&token), &json!({"experiment_id": experiment}));
    let run = run.json()["run"]["info"]["run_id"].as_str().expect("a run").to_owned();
    let path = format!("/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts/large.bin");
    let servers = [stack.envoy_pid(), stack.mlflow_pid()];
    let before = servers.map(peak);

    let url = stack.url(&path);
    let sent = curl(&token, &["--upload-file", "-", "--write-out", " %{http_code}", &url], GIGABYTE);
    assert!(sent.ends_with(" 200"), "{sent}");
    let received =
        curl(&token, &["--output", "/dev/null", "--write-out", "%{http_code} %{size_download}", &url], 0);
    assert_eq!(received, format!("200 {GIGABYTE}"));

    for ((pid, before), name) in servers.into_iter().zip(before).zip(["Envoy", "MLflow"]) {
        let grown = peak(pid).saturating_sub(before);
        println!("{name}: the peak of its memory grew by {} MiB", grown >> 20);
        assert!(grown < FLAT, "{name} grew by {grown} bytes");
    }
}

/// What curl prints. Its standard input has this many bytes.
fn curl(token: &str, arguments: &[&str], bytes: u64) -> String {
    let zeros =
        Command::new("head").args(["-c", &bytes.to_string(), "/dev/zero"]).stdout(Stdio::piped()).spawn();
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--header", &format!("Authorization: Bearer {token}")])
        .args(arguments)
        .stdin(zeros.unwrap().stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The largest resident memory that a process and its children have had, in bytes (proc_pid_status(5): `VmHWM`).
fn peak(pid: u64) -> u64 {
    let own = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = own.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    kib * 1024 + children.split_whitespace().filter_map(|child| child.parse().ok()).map(peak).sum::<u64>()
}
