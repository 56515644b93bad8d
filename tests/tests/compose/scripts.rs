//! The scripts alone, without a stack: the decisions that they derive from their settings.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::document::printed;
use crate::stack::{SECRETS, said};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Writes a program that replaces another one. A child process writes it. If this process had the file open for
/// writing, children that other threads start would inherit it, and a file that is open for writing cannot be executed.
fn stand_in(program: &Path, script: &str) {
    let mut writer = Command::new("sh")
        .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
        .arg(program)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    writer.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success(), "{}", program.display());
}

/// Replaces kcadm.sh for a Keycloak that has a realm and, if `USERS` is set, its test users. It records its calls.
const KCADM: &str = r#"#!/bin/bash
echo "$*" >>"$NOTES"
case "$1 $2" in
"get realms/mlflow") printf '{\n  "enabled" : true\n}\n' ;;
"get users") [[ -z ${USERS:-} || ("$*" == *email=* && "$*" != *"email=$USERS "*) ]] || echo the-id ;;
"get users/the-id") case "$*" in *"--fields email "*) echo "\"$USERS\"" ;; *) echo true ;; esac ;;
create\ *) echo made-id ;;
*) ;;
esac
"#;

/// The output of configure-keycloak.sh, and its calls of kcadm.sh.
fn configure(options: &[&str], settings: &[(&str, &str)]) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let kcadm = folder.path().join("kcadm.sh");
    let notes = folder.path().join("notes");
    stand_in(&kcadm, KCADM);
    let output = Command::new("bash")
        .arg(repository().join("configure-keycloak.sh"))
        .args(options)
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap())
        .env("KCADM", &kcadm)
        .env("NOTES", &notes)
        .env("KC_BOOTSTRAP_ADMIN_PASSWORD", "unused")
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    assert!(output.status.success(), "{options:?} {settings:?}: {}", said(&output));
    (said(&output), fs::read_to_string(notes).unwrap())
}

#[test]
fn configure_keycloak_makes_test_users_only_where_nobody_else_comes_by_or_when_it_is_told_to() {
    let public = ("MLFLOW_PUBLIC_URL", "https://mlflow.example.org");
    for (options, settings, development) in [
        (&[][..], &[][..], true),
        (
            &[],
            &[("MLFLOW_PUBLIC_URL", "http://127.0.0.1:5001"), ("KC_HOSTNAME", "http://localhost:8081")],
            true,
        ),
        (&["--development"], &[public], true),
        (&[], &[public], false),
        (&["--production"], &[], false),
        (&[], &[("MLFLOW_PUBLIC_URL", "http://localhost.example.org")], false),
        (&[], &[("MLFLOW_PUBLIC_URL", "http://127.0.0.1.example.org:5000")], false),
        (&[], &[("MLFLOW_PUBLIC_URL", "http://localhost@example.org")], false),
        (&[], &[("KC_HOSTNAME", "https://login.example.org")], false),
        (&[], &[("KEYCLOAK_URL", "https://login.example.org")], false),
    ] {
        let (said, notes) = configure(options, settings);
        let made = said.contains("made: user mlflow_admin, password password123");
        assert_eq!(made, development, "{options:?} {settings:?}: {said}");
        assert_eq!(notes.contains("password123"), development, "{options:?} {settings:?}: {notes}");
        let grant = format!("directAccessGrantsEnabled={development}");
        assert!(notes.contains(&grant), "{options:?} {settings:?}: {notes}");
        assert_eq!(said.contains("taken as --production"), !development && options.is_empty(), "{said}");
    }
}

/// Replaces docker, without the Compose plugin.
const PLAIN_DOCKER: &str = r#"#!/bin/bash
echo "docker: unknown command: docker $1" >&2
echo "Run 'docker --help' for more information" >&2
exit 125
"#;

#[test]
fn f1307_configure_keycloak_says_what_is_missing_to_reach_the_container() {
    for (docker, kcadm, missing) in [
        (Some(PLAIN_DOCKER), None, "docker has no Compose plugin"),
        (None, None, "There is no docker here"),
        (Some(PLAIN_DOCKER), Some("/nowhere/kcadm.sh"), "KCADM is /nowhere/kcadm.sh"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        if let Some(docker) = docker {
            stand_in(&folder.path().join("docker"), docker);
        }
        let mut script = Command::new("/bin/bash");
        script.arg(repository().join("configure-keycloak.sh")).env_clear().env("PATH", folder.path());
        if let Some(kcadm) = kcadm {
            script.env("KCADM", kcadm);
        }
        let output = script.output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(missing) && said.contains("set KCADM to"), "{said}");
        assert!(!said.contains("unknown command"), "{said}");
    }
}

#[test]
fn configure_keycloak_disables_test_users_by_their_name_and_says_when_one_may_be_somebody_else() {
    for (email, warned) in [("mlflow_user@example.com", false), ("someone@example.org", true)] {
        let (said, notes) = configure(&["--production"], &[("USERS", email)]);
        for name in ["mlflow_user", "mlflow_admin", "outsider"] {
            assert!(said.contains(&format!("changed: user {name} is disabled")), "{email}: {said}");
        }
        assert!(notes.contains("update users/the-id -r mlflow -s enabled=false"), "{notes}");
        let warning = format!("warning: user mlflow_user has the e-mail address \"{email}\"");
        assert_eq!(said.contains(&warning), warned, "{email}: {said}");
    }
}

/// The output of compose/check-env.sh with these settings, which are otherwise valid, and whether it accepts them.
fn check_env(settings: &[(&str, &str)]) -> (bool, String) {
    let mut check = Command::new("sh");
    check
        .arg(repository().join("compose/check-env.sh"))
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap());
    for (number, name) in SECRETS.iter().enumerate() {
        check.env(name, format!("{number}0f1e2d3c4b5a69788796a5b4c3d2e1f0"));
    }
    check
        .env("OIDC_SCOPE", "openid profile email")
        .env("MLFLOW_PUBLIC_URL", "https://mlflow.example.org")
        .env("MLFLOW_ALLOWED_HOSTS", "mlflow.example.org")
        .env("KEYCLOAK_PUBLIC_URL", "https://login.example.org")
        .env("BIND_ADDRESS", "127.0.0.1")
        .env("KEYCLOAK_BIND_ADDRESS", "127.0.0.1")
        .envs(settings.iter().copied());
    let output = check.output().unwrap();
    (output.status.success(), said(&output))
}

#[test]
fn check_env_asks_for_ten_different_characters_in_keys_and_for_six_in_passwords() {
    let (nine, ten) = ("abcdefghi".repeat(4), "abcdefghij".repeat(4));
    for name in ["SECRET_KEY", "ASSERTION_KEYS"] {
        for weak in [nine.clone(), format!("{ten},{nine}")] {
            let (accepted, said) = check_env(&[(name, weak.as_str())]);
            let problem = format!("{name} has only 9 different characters of at least 10");
            assert!(!accepted && said.contains(&problem) && !said.contains(weak.as_str()), "{name}: {said}");
        }
        let (accepted, said) = check_env(&[(name, ten.as_str())]);
        assert!(accepted, "{name}: {said}");
    }
    let (accepted, said) = check_env(&[("REDIS_PASSWORD", "abcdefabcdef")]);
    assert!(accepted, "{said}");
    let (accepted, said) = check_env(&[("REDIS_PASSWORD", "abcdeabcdeabcde")]);
    assert!(
        !accepted && said.contains("REDIS_PASSWORD has only 5 different characters of at least 6"),
        "{said}"
    );
}

#[test]
fn check_env_refuses_assertion_keys_that_are_another_secret_too() {
    let (shared, other) = ("f0e1d2c3b4a5968778695a4b3c2d1e0f", "a1b2c3d4e5f60718293a4b5c6d7e8f90");
    for name in SECRETS.into_iter().filter(|name| *name != "ASSERTION_KEYS") {
        for keys in [shared.to_owned(), format!("{other},{shared}"), format!("{other}.{shared}")] {
            let (accepted, said) = check_env(&[(name, shared), ("ASSERTION_KEYS", keys.as_str())]);
            let problem = format!("ASSERTION_KEYS contains the value of {name}.");
            assert!(!accepted && said.contains(&problem) && !said.contains(shared), "{name}: {said}");
            assert_eq!(said.matches("contains the value of").count(), 1, "{name}: {said}");
        }
    }
    let both = format!("{other},{shared}");
    let (accepted, said) = check_env(&[("SECRET_KEY", both.as_str()), ("ASSERTION_KEYS", shared)]);
    assert!(!accepted && said.contains("ASSERTION_KEYS contains the value of SECRET_KEY."), "{said}");
    let (accepted, said) = check_env(&[("SECRET_KEY", other), ("ASSERTION_KEYS", shared)]);
    assert!(accepted, "{said}");
}

#[test]
fn check_env_refuses_an_open_port_of_an_https_address_that_nothing_gives_tls() {
    for (open, named) in
        [("BIND_ADDRESS", "MLFLOW_PUBLIC_URL"), ("KEYCLOAK_BIND_ADDRESS", "KEYCLOAK_PUBLIC_URL")]
    {
        for address in ["0.0.0.0", "192.0.2.1", "::", ""] {
            let (accepted, said) = check_env(&[(open, address)]);
            let problem = format!("{named} is https, but its port is open to others and speaks no TLS");
            assert!(!accepted && said.contains(&problem), "{open}={address}: {said}");
            assert_eq!(said.matches("speaks no TLS").count(), 1, "{open}={address}: {said}");
        }
        for more in [("TLS_FILE", "docker-compose.tls.yml"), ("TLS_IN_FRONT", "yes")] {
            let (accepted, said) = check_env(&[(open, "0.0.0.0"), more]);
            assert!(accepted, "{open} {more:?}: {said}");
        }
        assert!(!check_env(&[(open, "0.0.0.0"), ("TLS_IN_FRONT", "no")]).0);
    }
    let (accepted, said) = check_env(&[]);
    assert!(accepted, "{said}");
}

#[test]
fn check_env_refuses_a_public_address_that_browsers_spell_otherwise() {
    let mlflow = "MLFLOW_PUBLIC_URL";
    let keycloak = "KEYCLOAK_PUBLIC_URL";
    for (name, written, spelled) in [
        (mlflow, "https://mlflow.example.org/", "https://mlflow.example.org"),
        (mlflow, "https://mlflow.example.org:443", "https://mlflow.example.org"),
        (mlflow, "http://mlflow.example.org:80//", "http://mlflow.example.org"),
        (mlflow, "HTTPS://MLflow.example.org", "https://mlflow.example.org"),
        (keycloak, "https://login.example.org/", "https://login.example.org"),
        (keycloak, "https://Login.example.org:443/Auth/", "https://login.example.org/Auth"),
        ("MLFLOW_BACKCHANNEL_URL", "http://envoy:5000/", "http://envoy:5000"),
    ] {
        let (accepted, said) = check_env(&[(name, written)]);
        assert!(!accepted && said.contains(&format!("set {name}={spelled}\n")), "{written}: {said}");
        assert_eq!(said.matches("check-env:").count(), 2, "the host is one that MLflow answers to: {said}");
    }
    for (written, what) in
        [("mlflow.example.org", "begins with https"), ("https://mlflow.example.org/ui", "no path")]
    {
        let (accepted, said) = check_env(&[("MLFLOW_PUBLIC_URL", written)]);
        assert!(!accepted && said.contains(what), "{written}: {said}");
    }
    for right in
        ["https://mlflow.example.org:8443", "http://mlflow.example.org:443", "https://mlflow.example.org:80"]
    {
        let host = right.split("//").nth(1).unwrap();
        let (accepted, said) = check_env(&[("MLFLOW_PUBLIC_URL", right), ("MLFLOW_ALLOWED_HOSTS", host)]);
        assert!(accepted, "{right}: {said}");
    }
    let (accepted, said) = check_env(&[("KEYCLOAK_PUBLIC_URL", "https://login.example.org/Auth")]);
    assert!(accepted, "{said}");
}

#[test]
fn configure_keycloak_reads_groups_and_the_address_as_the_gate_does() {
    let settings = [
        ("OIDC_ADMIN_GROUP_NAME", " mlflow_admins ,Data Science,/Ops"),
        ("OIDC_GROUP_NAME", "mlflow_users,, Data Science"),
        ("MLFLOW_PUBLIC_URL", "https://MLflow.example.org:443//"),
        ("MLFLOW_BACKCHANNEL_URL", "http://envoy:5000/"),
    ];
    let (said, notes) = configure(&[], &settings);
    let made: Vec<_> = said.lines().filter_map(|line| line.trim().strip_prefix("made: group ")).collect();
    assert_eq!(made, ["mlflow_admins", "Data Science", "Ops", "mlflow_users", "mlflow_viewers"], "{said}");
    assert!(notes.contains("redirectUris=[\"https://mlflow.example.org/oauth2/callback\"]"), "{notes}");
    assert!(
        notes.contains("backchannel.logout.url\"=http://envoy:5000/oauth2/backchannel-logout"),
        "{notes}"
    );
}

/// The output of compose/start-envoy.sh with this envoy.yaml, and with other files beside it. The program `envoy` is a
/// script.
fn run_start_envoy(envoy: &str, configuration: &str, files: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    stand_in(&folder.path().join("envoy"), envoy);
    fs::write(folder.path().join("envoy.yaml"), configuration).unwrap();
    fs::create_dir(folder.path().join("tls")).unwrap();
    for file in files {
        let from = repository().join("envoy").join(file);
        fs::write(folder.path().join(file), fs::read_to_string(from).unwrap_or_default()).unwrap();
    }
    Command::new("sh")
        .arg(repository().join("compose/start-envoy.sh"))
        .arg(folder.path())
        .env_clear()
        .env("TMPDIR", folder.path())
        .env("PATH", format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap()))
        .output()
        .unwrap()
}

fn start_envoy(envoy: &str, configuration: &str, files: &[&str]) -> String {
    let output = run_start_envoy(envoy, configuration, files);
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

fn shipped_envoy() -> String {
    fs::read_to_string(repository().join("envoy/envoy.yaml")).unwrap()
}

#[test]
fn an_envoy_yaml_without_the_anchors_is_named_and_what_to_do() {
    let older = shipped_envoy().replace(" &edge_filters", "");
    let files = ["tls-socket.yaml", "tls/tls.crt", "tls/tls.key"];
    let output = run_start_envoy("#!/bin/sh\necho started\n", &older, &files);
    let said = said(&output);
    assert!(!output.status.success() && !said.contains("started"), "{said}");
    assert!(
        said.contains("older than compose/start-envoy.sh") && said.contains("docker compose build envoy"),
        "{said}"
    );
    assert!(
        start_envoy("#!/bin/sh\necho started\n", &older, &[]).contains("started"),
        "without TLS any will do"
    );
}

#[test]
fn the_listener_with_tls_is_the_plain_one_except_for_its_port_and_tls() {
    let files = ["tls-socket.yaml", "tls/tls.crt", "tls/tls.key"];
    let made = start_envoy("#!/bin/sh\ncat \"$2\"\n", &shipped_envoy(), &files);
    let made: Value = serde_saphyr::from_str(&made).unwrap_or_else(|error| panic!("{error}: {made}"));
    let [plain, tls] = made["static_resources"]["listeners"].as_array().unwrap().as_slice() else {
        panic!("two listeners: {made}")
    };
    assert_eq!((&tls["name"], &plain["name"]), (&json!("edge-tls"), &json!("edge")));
    assert_eq!(tls["address"]["socket_address"], json!({"address": "0.0.0.0", "port_value": 5443}));
    let mut expected = plain.clone();
    expected["name"] = tls["name"].clone();
    expected["address"] = tls["address"].clone();
    let socket = fs::read_to_string(repository().join("envoy/tls-socket.yaml")).unwrap();
    let socket: Value = serde_saphyr::from_str(&socket).unwrap();
    expected["filter_chains"][0].as_object_mut().unwrap().extend(socket.as_object().unwrap().clone());
    assert_eq!(*tls, expected);
}

#[test]
fn f705_the_start_warns_of_tls_that_accepts_any_certificate() {
    let page = include_str!("../../../docs/production.md");
    let (_, section) = page.split_once("## TLS to the provider and to Redis").unwrap();
    let (_, block) = section.split_once("```yaml\n").unwrap();
    let printed: Vec<String> =
        block.split_once("```").unwrap().0.lines().map(|line| format!("    {line}\n")).collect();
    let without = |words: &[&str]| -> String {
        printed
            .iter()
            .filter(|line| !words.iter().any(|word| line.contains(word)))
            .map(String::as_str)
            .collect()
    };
    let names = ["match_typed_subject_alt_names", "san_type"];
    let authorities = ["validation_context", "trusted_ca", names[0], names[1]];
    for (socket, warning) in [
        (String::new(), None),
        (without(&[]), None),
        (without(&names), Some("speaks TLS without match_typed_subject_alt_names")),
        (without(&authorities), Some("speaks TLS without trusted_ca")),
    ] {
        let at = "  - name: keycloak\n";
        let configuration = shipped_envoy();
        assert!(configuration.contains(at));
        let configuration = configuration.replace(at, &format!("{at}{socket}"));
        let said = start_envoy("#!/bin/sh\necho \"started: $*\"\n", &configuration, &[]);
        assert!(said.contains("started: -c envoy.yaml") && said.contains("--drain-time-s 60"), "{said}");
        match warning {
            Some(warning) => assert!(said.contains(warning), "{socket}: {said}"),
            None => assert!(!said.contains("start-envoy: warning"), "{socket}: {said}"),
        }
    }
}

/// The output of generate-env.sh for an `.env`, and the resulting file.
fn generate_env(env: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["generate-env.sh", ".env.example"] {
        fs::copy(repository().join(name), folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join(".env"), env).unwrap();
    let output = Command::new("sh").arg(folder.path().join("generate-env.sh")).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    (said(&output), fs::read_to_string(folder.path().join(".env")).unwrap())
}

#[test]
fn generate_env_makes_no_password_for_the_roles_of_a_database_that_was_made_with_another() {
    for env in [
        "POSTGRES_PASSWORD=of-a-database\n",
        "export POSTGRES_PASSWORD='of-a-database'\nMLFLOW_DB_PASSWORD=\nKEYCLOAK_DB_PASSWORD=\"\"\n",
    ] {
        let (said, made) = generate_env(env);
        assert!(made.contains("of-a-database") && made.contains("\nSECRET_KEY="), "{made}");
        for name in ["MLFLOW_DB_PASSWORD", "KEYCLOAK_DB_PASSWORD"] {
            assert!(said.contains(&format!("left out: {name}")), "{said}");
            let value = made.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
            assert!(value.is_none_or(|value| value.len() < 3), "{name}: {made}");
        }
    }
    // If only one of the two is set, it is left unchanged too.
    let (said, made) = generate_env("POSTGRES_PASSWORD=of-a-database\nMLFLOW_DB_PASSWORD=of-mlflow\n");
    assert!(made.contains("\nMLFLOW_DB_PASSWORD=of-mlflow\n") && !made.contains("KEYCLOAK_DB"), "{made}");
    assert!(said.contains("left out: KEYCLOAK_DB_PASSWORD") && !said.contains("left out: MLFLOW"), "{said}");
    // Without a database, each role gets its own password.
    let (said, made) = generate_env("POSTGRES_PASSWORD=\n");
    assert!(!said.contains("left out") && made.contains("\nMLFLOW_DB_PASSWORD="), "{said}{made}");
}

/// Replaces docker. The command in `FAILING` fails after some output. The container's files are those of this machine.
const DOCKER: &str = r#"#!/bin/bash
asked="$1 $2"
echo "$asked" >>docker-was-asked
echo "answer to $1"
if [[ $asked == "run --rm" ]]; then
    while [[ $# -gt 0 && $1 != redis:8 ]]; do shift; done
    "${@:2}" || exit
fi
[[ $asked != "$FAILING" ]]
"#;

/// Replaces the container's tar. It exits with the status in `TAR`.
const TAR: &str = r#"#!/bin/sh
echo "tar $*"
exit "$TAR"
"#;

#[test]
fn the_printed_backup_is_for_its_owner_and_takes_the_place_of_the_one_before_only_when_it_is_complete() {
    for (failing, tar, complete) in [
        ("", "0", true),
        // MinIO changed a file while tar was reading.
        ("", "1", true),
        ("", "2", false),
        ("compose exec", "0", false),
        ("volume inspect", "0", false),
        // docker exits with 1 too, and then the error is docker's.
        ("run --rm", "0", false),
        ("run --rm", "1", false),
    ] {
        let what = format!("{failing} fails, tar ends with {tar}");
        let folder = tempfile::tempdir().unwrap();
        stand_in(&folder.path().join("docker"), DOCKER);
        stand_in(&folder.path().join("tar"), TAR);
        let files =
            ["backup-postgres.sql.gz", "backup-artifacts.tar.gz"].map(|name| folder.path().join(name));
        for file in &files {
            fs::write(file, "the one before").unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
        }
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let output = Command::new("bash")
            .args(["-c", &printed("backup")])
            .current_dir(folder.path())
            .env("PATH", path)
            .env("FAILING", failing)
            .env("TAR", tar)
            .output()
            .unwrap();
        assert_eq!(output.status.success(), complete, "{what}: {}", said(&output));
        assert_eq!(said(&output).contains("complete"), complete, "{what}: {}", said(&output));
        for file in &files {
            let kept = fs::read(file).unwrap() == b"the one before";
            assert_eq!(kept, !complete, "{what}: {}", file.display());
            let mode = fs::metadata(file).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, if kept { 0o644 } else { 0o600 }, "{what}: {}", file.display());
        }
        let artifacts = fs::read_to_string(&files[1]).unwrap();
        assert_eq!(artifacts.contains("tar -C /data -cz ."), complete, "{what}: {artifacts}");
        let asked = fs::read_to_string(folder.path().join("docker-was-asked")).unwrap();
        let made_a_volume = asked.contains("run --rm");
        assert_eq!(made_a_volume, ["", "run --rm"].contains(&failing), "{what}: {asked}");
    }
}
