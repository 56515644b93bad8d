//! The images that the printed commands build contain what they should, and nothing else.

use crate::stack::{Stack, UNUSED_SECRETS, said};

#[test]
#[ignore = "slow: an image is built"]
fn the_printed_command_builds_an_mlflow_that_mlflow_image_then_names() {
    let mut stack = Stack::up();
    stack.run("build-mlflow");
    let versions = stack.shell(
        "docker run --rm my-mlflow:3.17.2 python -c 'import sys, mlflow, psycopg2, boto3; \
         print(sys.version_info[:2], mlflow.__version__)'",
    );
    assert_eq!(versions.trim(), "(3, 12) 3.17.2");
    let _changed = stack.with_settings(&[("MLFLOW_IMAGE", "my-mlflow:3.17.2")]);
    let used = stack.shell("docker inspect -f '{{.Config.Image}}' $(docker compose ps -q mlflow)");
    assert_eq!(used.trim(), "my-mlflow:3.17.2");
    assert_eq!(stack.api(&stack.token("mlflow_user")).status, 200);
}

#[test]
fn the_filter_image_holds_the_filter_and_nothing_else() {
    let stack = Stack::copy();
    stack.shell("DOCKER_BUILDKIT=1 docker compose -f - build <<'FILE'\n\
        services: {filter: {image: 'localhost/oidc-gate-filter:test', build: {context: ., target: filter, args: {FILTER: prebuilt}}}}\n\
        FILE");
    let files = stack.shell(
        "id=$(docker create localhost/oidc-gate-filter:test x)\ndocker export $id | tar -t\ndocker cp -q $id:/plugin.wasm - 2>/dev/null | tar -xO >plugin.wasm || docker cp $id:/plugin.wasm plugin.wasm\ndocker rm $id >/dev/null",
    );
    // The engine adds its mount points to a container's files.
    let ours: Vec<_> = files.lines().filter(|name| name.ends_with(".wasm")).collect();
    assert_eq!(ours, ["plugin.wasm"]);
    stack.shell("cmp plugin.wasm dist/oidc_gate.wasm && rm plugin.wasm");
}

#[test]
#[ignore = "slow: an image is built"]
fn the_filter_that_the_dockerfile_compiles_is_the_one_that_a_developer_builds() {
    let stack = Stack::copy();
    let output = stack.output(&format!(
        "{UNUSED_SECRETS}; OIDC_GATE_FILTER=compiled ENVOY_GATE_IMAGE=localhost/oidc-gate-envoy:compiled \
         docker compose build envoy && id=$(docker create localhost/oidc-gate-envoy:compiled) && \
         docker cp $id:/etc/envoy/oidc_gate.wasm compiled.wasm && docker rm $id >/dev/null",
    ));
    assert!(output.status.success(), "{}", said(&output));
    let same = stack.output("cmp compiled.wasm dist/oidc_gate.wasm");
    assert!(same.status.success(), "two builds, other bytes: {}", said(&same));
}

#[test]
fn the_printed_command_builds_envoy_with_the_filter() {
    let stack = Stack::up();
    stack.run("build-envoy");
    let image = std::env::var("ENVOY_GATE_IMAGE").unwrap();
    let user = stack.shell(&format!("docker image inspect -f '{{{{.Config.User}}}}' {image}"));
    assert_eq!(user.trim(), "101:101");
}
