# A training job: metrics, artifacts and traces for JOB_SECONDS. Then it reads back what it wrote.
began = time.monotonic()
pace = threading.Event()
client = mlflow.MlflowClient()
experiment = mlflow.set_experiment(os.environ["JOB_NAME"])
steps, notes, longest = 0, 0, 0.0
with mlflow.start_run() as run:
    print("STARTED", flush=True)
    while time.monotonic() - began < float(os.environ["JOB_SECONDS"]):
        step = time.monotonic()
        mlflow.log_metric("loss", 1 / (steps + 1), step=steps)
        if steps % 5 == 0:
            mlflow.log_text(f"step {steps}", f"notes/{steps}.txt")
            with mlflow.start_span("step") as span:
                span.set_inputs({"step": steps})
            notes += 1
        steps += 1
        longest = max(longest, time.monotonic() - step)
        # A step takes a second.
        pace.wait(1)
mlflow.flush_trace_async_logging()
run = client.get_run(run.info.run_id)
answer({
    "user": run.data.tags["mlflow.user"],
    "status": run.info.status,
    "metrics": len(client.get_metric_history(run.info.run_id, "loss")) == steps,
    "notes": len(client.list_artifacts(run.info.run_id, "notes")) == notes,
    "last": mlflow.artifacts.load_text(f"{run.info.artifact_uri}/notes/{(notes - 1) * 5}.txt"),
    "last_step": (notes - 1) * 5,
    "traces": len(mlflow.search_traces(
        locations=[experiment.experiment_id], return_type="list", max_results=500)) == notes,
    "steps": steps,
    "longest": longest,
    "seconds": time.monotonic() - began,
})
