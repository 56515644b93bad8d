//! Jobs that last longer than their tokens: MLflow's Python client with the package, and without it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use oidc_gate_testkit::process::wait_until;
use oidc_gate_testkit::provider::random_text;
use serde_json::{Value, json};

use crate::home::{Home, issuer};
use crate::keycloak::{expiry_of, user_of};
use crate::python::{self, Script};
use crate::stack::{Part, Stack, variable};

const JOB: &str = include_str!("scripts/job.py");
const EXPIRY: &str = include_str!("scripts/expiry.py");
const WRONG_CLOCK: &str = include_str!("scripts/sitecustomize.py");
/// The user of the gate's client.
const SERVICE: &str = "service-account-mlflow";
/// What a job may need beyond its own time: several start at once on a small machine, and all read back at the end.
const BOUND: Duration = Duration::from_secs(240);
/// The client renews a token this long before its end, or after half of its life.
const MARGIN: u64 = 15;

#[test]
fn a_job_outlives_its_tokens_until_an_administrator_signs_the_person_out() {
    let stack = Stack::running();
    let _short = stack.with_short_access_tokens(8);
    let _events = stack.with_events();
    let _member = stack.service_account_joins("mlflow_users");
    let home = Home::signed_in(&stack, "mlflow_user");
    let started = Instant::now();
    let mut endless = job(&stack, &home.variables(&[]), "endless", 600);
    let jobs = [
        (job(&stack, &home.variables(&[]), "of-a-person", 20), "mlflow_user"),
        (job(&stack, &of_the_service(&stack, &Home::empty()), "of-a-service", 20), SERVICE),
    ];
    for (job, user) in jobs {
        assert_well(&job.answer(BOUND), user);
    }
    let renewals = stack.events("REFRESH_TOKEN", "mlflow_user");
    eprintln!("{renewals} renewals in {:?}", started.elapsed());
    assert!(renewals >= 3, "{renewals}");
    assert_renewed_rarely(&stack, "REFRESH_TOKEN", "mlflow_user", started, 8);
    assert_renewed_rarely(&stack, "CLIENT_LOGIN", SERVICE, started, 8);

    endless.wait_for("STARTED");
    assert!(endless.is_running(), "{}", endless.said());
    let signed_out = Instant::now();
    // A renewal at the same moment can write the session anew at Keycloak. The job must not outlive its session.
    let ended = wait_until(BOUND, || {
        if endless.is_running() && !stack.keycloak_sessions("mlflow_user").is_empty() {
            stack.end_keycloak_sessions("mlflow_user");
        }
        !endless.is_running()
    });
    let went_on = stack.events("REFRESH_TOKEN", "mlflow_user") - renewals;
    let sessions = stack.keycloak_sessions("mlflow_user");
    assert!(ended, "the job goes on, with {went_on} renewals and these sessions: {sessions:?}");
    let said = endless.said();
    eprintln!("ended {:?} after the sign-out", signed_out.elapsed());
    assert!(said.contains("has ended: it has expired, or somebody signed you out"), "{said}");
    assert!(said.contains(&format!("python -m oidc_gate_mlflow login --server {}", stack.url(""))), "{said}");
}

#[test]
#[ignore = "slow: jobs of three minutes"]
fn jobs_of_three_minutes_outlive_their_tokens_of_a_minute() {
    let stack = Stack::running();
    let _short = stack.with_short_access_tokens(60);
    let _events = stack.with_events();
    let _member = stack.service_account_joins("mlflow_users");
    let person = Home::signed_in(&stack, "mlflow_user");
    let _other = stack.joins_group("outsider", "mlflow_users");
    let two_machines = Home::signed_in(&stack, "outsider");
    let service = Home::empty();
    let clock = tempfile::tempdir().unwrap();
    std::fs::write(clock.path().join("sitecustomize.py"), WRONG_CLOCK).unwrap();
    let clock = clock.path().to_str().unwrap();
    let file = tempfile::tempdir().unwrap();
    let file = file.path().join("token");
    write_token(&stack, &file);

    let started = Instant::now();
    let of_the_file = [
        ("HOME", service.path()),
        ("MLFLOW_TRACKING_AUTH", "oidc-gate".to_owned()),
        ("OIDC_GATE_TOKEN_FILE", file.to_str().unwrap().to_owned()),
    ];
    let wrong = |seconds| two_machines.variables(&[("PYTHONPATH", clock), ("JOB_CLOCK", seconds)]);
    let expiring = expiring(&stack, &person);
    let mut jobs = vec![
        (job(&stack, &of_the_file, "of-a-file", 180), "mlflow_user"),
        (job(&stack, &of_the_service(&stack, &service), "of-a-service", 180), SERVICE),
        // Two machines with one home, whose clocks are two minutes apart.
        (job(&stack, &wrong("60"), "a-minute-ahead", 180), "outsider"),
        (job(&stack, &wrong("-60"), "a-minute-behind", 180), "outsider"),
    ];
    for number in 1..=3 {
        let name = format!("of-a-person-{number}");
        jobs.push((job(&stack, &person.variables(&[]), &name, 180), "mlflow_user"));
    }
    let mut written = Instant::now();
    stack.within(BOUND + Duration::from_secs(180), "the jobs have ended", || {
        if written.elapsed() > Duration::from_secs(40) {
            write_token(&stack, &file);
            written = Instant::now();
        }
        jobs.iter_mut().all(|(job, _)| job.said().contains(python::MARK) || !job.is_running())
    });
    for (job, user) in jobs {
        let answer = job.answer(BOUND);
        eprintln!("{user}: {answer}");
        assert_well(&answer, user);
    }
    for (kind, user) in [("REFRESH_TOKEN", "mlflow_user"), ("CLIENT_LOGIN", SERVICE)] {
        // Three processes, and the one of the expiring token, renew as one.
        assert_renewed_rarely(&stack, kind, user, started, 60);
    }
    // Each of the two sees what the other has got as too old or as too new.
    let renewals = stack.events("REFRESH_TOKEN", "outsider");
    eprintln!("{renewals} renewals by two wrong clocks in {:?}", started.elapsed());
    assert!(renewals <= 12, "{renewals}");
    for user in ["mlflow_user", "outsider"] {
        assert_eq!(stack.events("REFRESH_TOKEN_ERROR", user), 0, "{user}");
    }
    assert_expired(&expiring.answer(BOUND));
}

#[test]
#[ignore = "slow: jobs of three minutes, half of them without the provider"]
fn jobs_outlive_a_provider_that_is_away_longer_than_a_token_lives() {
    let stack = Stack::running();
    let _short = stack.with_short_access_tokens(60);
    let _member = stack.service_account_joins("mlflow_users");
    let home = Home::signed_in(&stack, "mlflow_user");
    let mut jobs = [
        (job(&stack, &home.variables(&[]), "of-a-person-alone", 180), "mlflow_user"),
        (job(&stack, &home.variables(&[]), "of-a-person-again", 180), "mlflow_user"),
        (job(&stack, &of_the_service(&stack, &Home::empty()), "of-a-service-alone", 180), SERVICE),
    ];
    for (job, _) in &mut jobs {
        job.wait_for("STARTED");
    }
    let away = Instant::now();
    let outage = stack.without(Part::Keycloak);
    // The client uses a token up to its end and then waits.
    let waits = |job: &Script| job.said().contains("trying again");
    stack.within(Duration::from_secs(120), "each job waits for the provider", || {
        away.elapsed() > Duration::from_secs(90) && jobs.iter().any(|(job, _)| waits(job))
    });
    for (job, _) in &mut jobs {
        assert!(job.is_running(), "{}", job.said());
    }
    outage.end();
    eprintln!("the provider was away for {:?}", away.elapsed());
    for (job, user) in jobs {
        let answer = job.answer(BOUND + Duration::from_secs(180));
        eprintln!("{user}: {answer}");
        assert_well(&answer, user);
    }
}

#[test]
fn a_refused_token_is_renewed_and_five_megabytes_are_sent_again() {
    let stack = Stack::running();
    let _events = stack.with_events();
    let home = Home::signed_in(&stack, "mlflow_user");
    let script = r#"
from oidc_gate_mlflow.client.auth import tokens_for
content = os.urandom(5_000_000)
pathlib.Path("model.bin").write_bytes(content)
# A run that exists, so that the upload is the first request with the bad token.
run = mlflow.MlflowClient().get_run(os.environ["RUN"])
if os.environ["SPOILED"] == "upload":
    tokens = tokens_for(os.environ["MLFLOW_TRACKING_URI"])
    import dataclasses
    spoiled = dataclasses.replace(tokens.cache.read(), access_token="not.a.token")
    tokens.cache.write(spoiled)
    tokens._known = spoiled
mlflow.MlflowClient().log_artifact(run.info.run_id, "model.bin")
back = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="model.bin", dst_path="back")
answer(pathlib.Path(back).read_bytes() == content)
"#;
    let token = stack.token("mlflow_user");
    let experiment = stack.make_experiment(&token, "refused");
    let run = stack.post("/api/2.0/mlflow/runs/create", Some(&token), &json!({"experiment_id": experiment}));
    let run = run.json()["run"]["info"]["run_id"].as_str().expect("a run").to_owned();
    for (spoiled, renewals) in [("upload", 1), ("file", 2)] {
        if spoiled == "file" {
            home.edit_tokens(|tokens| tokens["access_token"] = json!("not.a.token"));
        }
        let variables = home.variables(&[("RUN", &run), ("SPOILED", spoiled)]);
        assert_eq!(python::run_with(&stack, &variables, script), true, "{spoiled}");
        assert_eq!(stack.events("REFRESH_TOKEN", "mlflow_user"), renewals, "{spoiled}");
    }
}

#[test]
fn people_on_one_machine_and_one_persons_servers_have_their_own_tokens() {
    let stack = Stack::running();
    let user = Home::empty();
    user.sign_in(&stack, &stack.url(""), "mlflow_user", "--device");
    let administrator = Home::signed_in(&stack, "mlflow_admin");
    for home in [&user, &administrator] {
        for file in home.token_files() {
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700), "{}", file.display());
        }
    }
    assert_eq!(current(&stack, &user.variables(&[])), "mlflow_user");
    assert_eq!(current(&stack, &administrator.variables(&[])), "mlflow_admin");
    // The same gate by another name is another server.
    let other = stack.url("").replace("localhost", "127.0.0.1");
    let at_other = user.variables(&[("MLFLOW_TRACKING_URI", &other)]);
    let nobody = python::run_with(&stack, &at_other, "answer(trouble(mlflow.search_experiments))");
    let command = format!("python -m oidc_gate_mlflow login --server {other}");
    assert!(nobody["text"].as_str().unwrap_or_default().contains(&command), "{nobody}");
    user.sign_in(&stack, &other, "mlflow_admin", "--browser");
    assert_eq!(user.token_files().len(), 2);
    for (server, name) in [(stack.url(""), "mlflow_user"), (other, "mlflow_admin")] {
        let status = user.command(&stack, &["status", "--server", &server]);
        assert!(status.contains(&format!("{name}, signed in at {}", issuer(&stack))), "{status}");
        let token = user.command(&stack, &["token", "--server", &server]);
        assert_eq!(user_of(token.trim()), name);
    }
    let said = user.command(&stack, &["logout"]);
    assert!(said.contains("signed out of"), "{said}");
    assert_eq!(user.token_files().len(), 1);
}

#[test]
fn without_the_package_or_a_sign_in_the_message_says_what_is_missing() {
    let stack = Stack::running();
    let script = "answer(trouble(mlflow.search_experiments))\nprint('END', flush=True)";
    let plugin = [("MLFLOW_TRACKING_AUTH", "oidc-gate")];
    let said = Script::start_without_package(&stack, &plugin, script).output(BOUND);
    assert!(said.contains("Could not find any registered plugin for oidc-gate"), "{said}");
    assert!(said.contains("\"code\": \"UNAUTHENTICATED\"") && said.contains("\"status\": 401"), "{said}");
    let nobody = python::run_with(&stack, &plugin, script);
    let text = nobody["text"].as_str().unwrap_or_default();
    let command = format!("python -m oidc_gate_mlflow login --server {}", stack.url(""));
    assert!(text.contains("nobody is signed in") && text.contains(&command), "{nobody}");
}

/// Starts a job that logs under this name.
#[track_caller]
fn job(stack: &Stack, variables: &[(&str, String)], name: &str, seconds: u64) -> Script {
    let name = format!("{name}-{}", random_text(6));
    let more = [("JOB_NAME", name), ("JOB_SECONDS", seconds.to_string())];
    Script::start(stack, &[variables, &more].concat(), JOB)
}

/// Starts the script whose token is not renewed.
#[track_caller]
fn expiring(stack: &Stack, person: &Home) -> Script {
    let token = person.command(stack, &["token", "--server", &stack.url("")]);
    let expires = expiry_of(token.trim()).to_string();
    let variables = [
        ("HOME", person.path()),
        ("JOB_NAME", "expiring".to_owned()),
        ("FIXED_TOKEN", token.trim().to_owned()),
        ("FIXED_TOKEN_EXPIRES", expires),
    ];
    Script::start(stack, &variables, EXPIRY)
}

fn of_the_service(stack: &Stack, home: &Home) -> Vec<(&'static str, String)> {
    vec![
        ("HOME", home.path()),
        ("MLFLOW_TRACKING_AUTH", "oidc-gate".to_owned()),
        ("OIDC_GATE_ISSUER", issuer(stack)),
        ("OIDC_GATE_CLIENT_ID", "mlflow".to_owned()),
        ("OIDC_GATE_CLIENT_SECRET", variable("OIDC_GATE_CLIENT_SECRET")),
    ]
}

/// What keeps a token file fresh: the new file takes the place of the old one.
fn write_token(stack: &Stack, file: &Path) {
    let new = file.with_extension("new");
    std::fs::write(&new, stack.token("mlflow_user")).unwrap();
    std::fs::rename(&new, file).unwrap();
}

/// The user that MLflow sees.
#[track_caller]
fn current(stack: &Stack, variables: &[(&str, String)]) -> Value {
    let script = r#"
from mlflow.tracking._tracking_service.utils import get_default_host_creds
from mlflow.utils.rest_utils import http_request
said = http_request(get_default_host_creds(mlflow.get_tracking_uri()), "/ajax-api/2.0/mlflow/users/current", "GET")
answer(said.json()["user"]["username"])
"#;
    python::run_with(stack, variables, script)
}

#[track_caller]
fn assert_well(answer: &Value, user: &str) {
    assert_eq!(answer["user"], user, "{answer}");
    assert_eq!(answer["status"], "FINISHED", "{answer}");
    for what in ["metrics", "notes", "traces"] {
        assert_eq!(answer[what], true, "{what}: {answer}");
    }
    assert_eq!(answer["last"], format!("step {}", answer["last_step"]), "{answer}");
}

/// One renewal for each life of a token, whatever the number of processes, and one at each end.
#[track_caller]
fn assert_renewed_rarely(stack: &Stack, kind: &str, user: &str, started: Instant, life: u64) {
    let renewals = stack.events(kind, user);
    let most = started.elapsed().as_secs() / (life - MARGIN.min(life / 2)) + 2;
    eprintln!("{user}: {renewals} of {kind} in {:?}, {most} allowed", started.elapsed());
    assert!(renewals > 0 && renewals as u64 <= most, "{user}: {renewals} of {kind}, {most} allowed");
}

/// What has a token of its settings works as long as the token, and no longer; then it says 401.
#[track_caller]
fn assert_expired(answer: &Value) {
    eprintln!("expiry: {answer}");
    let (before, after, plugin) = (&answer["before"], &answer["after"], &answer["plugin"]);
    let judge = |said: &Value| said["judge"].as_str().unwrap_or_default().to_owned();
    for what in ["token", "basic"] {
        assert_eq!(before[what], Value::Null, "{what}: {answer}");
        assert_eq!(after[what]["code"], "UNAUTHENTICATED", "{what}: {answer}");
        assert_eq!(after[what]["status"], 401, "{what}: {answer}");
    }
    assert_eq!((&before["exporter"], &after["exporter"]), (&json!(200), &json!(401)), "{answer}");
    let refused = "UNAUTHENTICATED";
    assert!(judge(after).contains(refused) && !judge(before).contains(refused), "{answer}");
    // The run that could not be ended.
    assert_eq!(plugin["status"], "RUNNING", "{answer}");
    assert_eq!((&plugin["metric"], &plugin["exporter"]), (&Value::Null, &json!(200)), "{answer}");
    assert_eq!(judge(plugin), judge(before), "{answer}");
}
