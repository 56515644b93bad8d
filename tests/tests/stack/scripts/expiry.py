# What does not ask the plugin has a token of its settings: before and after the end of this token.
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from mlflow.genai.judges import make_judge

SERVER = os.environ["MLFLOW_TRACKING_URI"]
TOKEN = os.environ.pop("FIXED_TOKEN")
EXPIRES = int(os.environ.pop("FIXED_TOKEN_EXPIRES"))
client = mlflow.MlflowClient()
session = requests.Session()


def credentials(**chosen):
    for name in ("TOKEN", "USERNAME", "PASSWORD", "AUTH"):
        os.environ.pop(f"MLFLOW_TRACKING_{name}", None)
    os.environ.update({f"MLFLOW_TRACKING_{name}": value for name, value in chosen.items()})


def metric():
    client.log_metric(run.info.run_id, "loss", 1.0)


def export(session, headers):
    # Like the exporter of OpenTelemetry: it takes a session, and headers that are fixed when it is made.
    message = ExportTraceServiceRequest()
    span = message.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.name = os.urandom(16), os.urandom(8), "exported"
    span.start_time_unix_nano = span.end_time_unix_nano = time.time_ns()
    return session.post(
        f"{SERVER}/v1/traces",
        data=message.SerializeToString(),
        headers={
            "content-type": "application/x-protobuf",
            "x-mlflow-experiment-id": run.info.experiment_id,
            **headers,
        },
        timeout=30,
    ).status_code


def judge():
    try:
        # No endpoint has this name. So a judge that gets in is told so.
        judge = make_judge(name="good", instructions="Is {{ outputs }} good?", model="gateway:/no-such-endpoint")
        return repr(judge(outputs="x"))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def everything():
    credentials(TOKEN=TOKEN)
    said = {"token": trouble(metric)}
    said["exporter"] = export(session, {"authorization": f"Bearer {TOKEN}"})
    credentials(USERNAME="anybody", PASSWORD=TOKEN)
    said["basic"] = trouble(metric)
    said["judge"] = judge()
    return said


credentials(TOKEN=TOKEN)
run = client.create_run(client.create_experiment(os.environ["JOB_NAME"]))
before = everything()
# The gate allows a minute for clocks that differ.
over = threading.Event()
while time.time() < EXPIRES:
    over.wait(1)
credentials(TOKEN=TOKEN)
while trouble(metric) is None and time.time() < EXPIRES + 90:
    over.wait(1)
dead = time.time() - EXPIRES
after = everything()

from importlib.metadata import entry_points
from oidc_gate_mlflow.client.auth import tokens_for
# As the exporter finds it by OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER=oidc-gate.
[found] = entry_points(group="opentelemetry_otlp_credential_provider", name="oidc-gate")
renewed = found.load()()
credentials(AUTH="oidc-gate", USERNAME="anybody", PASSWORD=tokens_for(SERVER).get())
answer({
    "before": before,
    "after": after,
    "dead": dead,
    "plugin": {
        "status": client.get_run(run.info.run_id).info.status,
        "metric": trouble(metric),
        "exporter": export(renewed, {}),
        "judge": judge(),
    },
})
