# What people do with MLflow's Python client, a step for each part of it. The answer has what went wrong.
import warnings
import numpy
import pandas
from sklearn.linear_model import LinearRegression

warnings.simplefilter("ignore")
SERVER, NAME, USER = os.environ["MLFLOW_TRACKING_URI"], os.environ["SURFACE_NAME"], os.environ["SURFACE_USER"]
client = mlflow.MlflowClient()
experiment = mlflow.set_experiment(NAME)
frame = pandas.DataFrame({"a": [0.0, 1.0, 2.0], "b": [0.0, 2.0, 4.0]})
wrong = {}


def step(part):
    try:
        part()
    except Exception as error:
        wrong[part.__name__] = f"{type(error).__name__}: {error}"


def same(found, wanted):
    if found != wanted:
        raise ValueError(f"{found!r} instead of {wanted!r}")


@step
def runs():
    with mlflow.start_run(run_name="outer", tags={"colour": "red"}) as outer:
        mlflow.log_params({"depth": 7, "rate": 0.1})
        for value in range(3):
            mlflow.log_metric("loss", 1 / (value + 1), step=value)
        with mlflow.start_run(nested=True) as inner:
            mlflow.log_metrics({"a": 1.0, "b": 2.0})
    run = mlflow.get_run(outer.info.run_id)
    same((run.info.status, run.data.params["depth"], run.data.tags["colour"]), ("FINISHED", "7", "red"))
    same((run.data.tags["mlflow.user"], run.info.user_id), (USER, USER))
    same(len(client.get_metric_history(outer.info.run_id, "loss")), 3)
    same(mlflow.get_parent_run(inner.info.run_id).info.run_id, outer.info.run_id)
    client.delete_run(inner.info.run_id)
    client.restore_run(inner.info.run_id)


@step
def autolog():
    mlflow.sklearn.autolog(log_models=False, silent=True)
    with mlflow.start_run() as run:
        LinearRegression().fit(frame[["a"]], frame["b"])
    mlflow.sklearn.autolog(disable=True, silent=True)
    same(mlflow.get_run(run.info.run_id).data.params["fit_intercept"], "True")


@step
def log_model_and_register_model():
    model = LinearRegression().fit(frame[["a"]], frame["b"])
    with mlflow.start_run():
        # Without this list, MLflow starts another Python that finds it out.
        logged = mlflow.sklearn.log_model(
            model, name="model", pip_requirements=["scikit-learn"], serialization_format="pickle"
        )
    version = mlflow.register_model(logged.model_uri, NAME)
    same(version.version in (1, "1"), True)
    client.update_model_version(NAME, "1", description="a line")
    client.set_model_version_tag(NAME, "1", "checked", "yes")


@step
def aliases():
    client.set_registered_model_alias(NAME, "best", "1")
    same(str(client.get_model_version_by_alias(NAME, "best").version), "1")
    predicted = mlflow.pyfunc.load_model(f"models:/{NAME}@best").predict(pandas.DataFrame({"a": [5.0]}))
    same(bool(numpy.isclose(predicted[0], 10.0)), True)
    client.delete_registered_model_alias(NAME, "best")


@step
def search():
    same([found.name for found in mlflow.search_experiments(filter_string=f"name = '{NAME}'")], [NAME])
    same(len(mlflow.search_runs([experiment.experiment_id], "tags.colour = 'red'")), 1)
    same([found.name for found in client.search_registered_models(f"name = '{NAME}'")], [NAME])
    same(len(client.search_model_versions(f"name = '{NAME}'")), 1)
    same(len(mlflow.search_logged_models(experiment_ids=[experiment.experiment_id], output_format="list")), 1)


@step
def traces_and_feedback():
    @mlflow.trace
    def answered(question):
        with mlflow.start_span("inner") as span:
            span.set_inputs({"question": question})
        return "42"

    answered("why")
    mlflow.flush_trace_async_logging()
    [trace] = mlflow.search_traces(locations=[experiment.experiment_id], return_type="list")
    same(sorted(span.name for span in trace.data.spans), ["answered", "inner"])
    feedback = mlflow.log_feedback(trace_id=trace.info.trace_id, name="good", value=True)
    mlflow.log_expectation(trace_id=trace.info.trace_id, name="wanted", value="42")
    client.set_trace_tag(trace.info.trace_id, "kind", "of a test")
    same(feedback.source.source_type, "CODE")
    same(sorted(one.name for one in mlflow.get_trace(trace.info.trace_id).info.assessments), ["good", "wanted"])


@step
def prompts():
    mlflow.genai.register_prompt(name=f"{NAME}-prompt", template="Hello {{ name }}")
    mlflow.genai.set_prompt_alias(f"{NAME}-prompt", "live", version=1)
    same(mlflow.genai.load_prompt(f"prompts:/{NAME}-prompt@live").format(name="Ada"), "Hello Ada")


@step
def datasets():
    with mlflow.start_run() as run:
        mlflow.log_input(mlflow.data.from_pandas(frame, name="frame"), context="training")
    same(mlflow.get_run(run.info.run_id).inputs.dataset_inputs[0].dataset.name, "frame")
    made = mlflow.genai.datasets.create_dataset(name=f"{NAME}-set", experiment_id=[experiment.experiment_id])
    made.merge_records([{"inputs": {"question": "why"}, "expectations": {"answer": "42"}}])
    same(len(mlflow.genai.datasets.get_dataset(dataset_id=made.dataset_id).to_df()), 1)


@step
def asynchronous_batches():
    with mlflow.start_run() as run:
        for value in range(200):
            mlflow.log_metrics({"a": value, "b": -value}, step=value, synchronous=False)
        mlflow.log_params({f"p{number}": number for number in range(50)}, synchronous=False)
        mlflow.flush_async_logging()
    same(len(client.get_metric_history(run.info.run_id, "a")), 200)
    same(len(mlflow.get_run(run.info.run_id).data.params), 50)


@step
def artifacts():
    content = os.urandom(3_000_000)
    pathlib.Path("up/deep").mkdir(parents=True)
    pathlib.Path("up/deep/model.bin").write_bytes(content)
    with mlflow.start_run() as run:
        mlflow.log_artifacts("up", "files")
        mlflow.log_dict({"a": 1}, "some.json")
        mlflow.log_table({"a": [1, 2]}, "table.json")
    back = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="files", dst_path="back")
    same((pathlib.Path(back) / "deep/model.bin").read_bytes() == content, True)
    same(mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/some.json"), {"a": 1})
    same(sorted(file.path for file in client.list_artifacts(run.info.run_id)), ["files", "some.json", "table.json"])


@step
def permissions():
    from mlflow.server.auth.client import AuthServiceClient

    permissions = AuthServiceClient(SERVER)
    same(permissions.get_user(USER).username, USER)
    same(permissions.get_user_permission(USER, "experiment", experiment.experiment_id).permission, "MANAGE")
    permissions.grant_user_permission("mlflow_admin", "experiment", experiment.experiment_id, "EDIT")
    permissions.revoke_user_permission("mlflow_admin", "experiment", experiment.experiment_id)
    refused = trouble(lambda: permissions.create_user("somebody", "a long password"))
    same((refused or {}).get("status"), 403)


@step
def deployments():
    from mlflow.deployments import get_deploy_client

    # This is a client of another server of MLflow's. The gate closes its routes to all but administrators.
    refused = trouble(lambda: get_deploy_client(SERVER).list_endpoints())
    same("403" in refused["text"] and "PERMISSION_DENIED" in refused["text"], True)


answer(wrong)
