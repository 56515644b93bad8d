//! MLflow's Python client through the gate.

use serde_json::json;

use crate::python;
use crate::stack::Stack;

#[test]
fn a_training_script_logs_a_run_and_reads_its_artifact_back() {
    let stack = Stack::running();
    let answer = python::run(
        &stack,
        Some(&stack.token("mlflow_user")),
        r#"
mlflow.set_experiment("from-a-script")
pathlib.Path("note.txt").write_text("written through the gate\n")
pathlib.Path("model.bin").write_bytes(bytes(range(256)) * 8192)
with mlflow.start_run() as run:
    mlflow.log_param("depth", 7)
    mlflow.log_metric("accuracy", 0.95)
    mlflow.log_artifact("note.txt")
    mlflow.log_artifact("model.bin", "model")
run = mlflow.get_run(run.info.run_id)
model = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="model/model.bin")
answer({
    "status": run.info.status,
    "depth": run.data.params["depth"],
    "accuracy": run.data.metrics["accuracy"],
    "note": mlflow.artifacts.load_text(run.info.artifact_uri + "/note.txt"),
    "model": pathlib.Path(model).read_bytes() == pathlib.Path("model.bin").read_bytes(),
    "found": [found.info.run_id for found in mlflow.MlflowClient().search_runs([run.info.experiment_id])]
        == [run.info.run_id],
})
"#,
    );
    let expected = json!({
        "status": "FINISHED",
        "depth": "7",
        "accuracy": 0.95,
        "note": "written through the gate\n",
        "model": true,
        "found": true,
    });
    assert_eq!(answer, expected);
}

#[test]
fn the_client_shows_no_token_a_bad_token_and_a_missing_group_as_clean_exceptions() {
    let stack = Stack::running();
    let script = r#"
answer({
    "search": trouble(mlflow.search_experiments),
    "start": trouble(mlflow.start_run),
    "create": trouble(lambda: mlflow.create_experiment("never")),
})
"#;
    let outsider = stack.token("outsider");
    for (token, code, status) in [
        (None, "UNAUTHENTICATED", 401),
        (Some("not.a.token"), "UNAUTHENTICATED", 401),
        (Some(outsider.as_str()), "PERMISSION_DENIED", 403),
    ] {
        let answer = python::run(&stack, token, script);
        for call in ["search", "start", "create"] {
            let trouble = &answer[call];
            assert_eq!(trouble["kind"], "RestException", "{token:?} {call}: {answer}");
            assert_eq!(trouble["code"], code, "{token:?} {call}: {answer}");
            assert_eq!(trouble["status"], status, "{token:?} {call}: {answer}");
            let text = trouble["text"].as_str().unwrap_or_default();
            assert!(
                text.starts_with(code) && !text.to_lowercase().contains("<html"),
                "{token:?} {call}: {answer}"
            );
        }
    }
}

#[test]
fn an_upload_with_a_token_that_went_bad_fails_loudly_and_stores_nothing() {
    let stack = Stack::running();
    let token = stack.token("mlflow_user");
    let answer = python::run(
        &stack,
        Some(&token),
        r#"
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
good = os.environ["MLFLOW_TRACKING_TOKEN"]
client = mlflow.MlflowClient()
run = client.create_run(client.create_experiment("from-a-script-with-two-tokens"))
pathlib.Path("note.txt").write_text("lost?")
repository = get_artifact_repository(run.info.artifact_uri)
# The client reads the variable anew for each request.
os.environ["MLFLOW_TRACKING_TOKEN"] = "not.a.token"
upload = trouble(lambda: repository.log_artifact("note.txt"))
metric = trouble(lambda: client.log_metric(run.info.run_id, "accuracy", 1))
os.environ["MLFLOW_TRACKING_TOKEN"] = good
stored = [file.path for file in client.list_artifacts(run.info.run_id)]
repository.log_artifact("note.txt")
answer({
    "upload": upload,
    "metric": metric,
    "stored": stored,
    "stored_with_a_good_token": [file.path for file in client.list_artifacts(run.info.run_id)],
})
"#,
    );
    // The client has a separate exception for uploads, which quotes the response.
    let upload = answer["upload"]["text"].as_str().unwrap_or_default();
    assert!(upload.contains("401") && upload.contains("UNAUTHENTICATED"), "{answer}");
    assert_eq!(answer["metric"]["code"], "UNAUTHENTICATED", "{answer}");
    assert_eq!(answer["stored"], json!([]), "{answer}");
    assert_eq!(answer["stored_with_a_good_token"], json!(["note.txt"]), "{answer}");
}
