//! Checks the manifests for Istio and Envoy Gateway with the projects' own validators, built from their Go modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oidc_gate_testkit::redis::Authority;
use serde_json::{Value, json};

use super::Runs;
use crate::command::{find, output, run as run_to_end};
use crate::install::go_tool;
use crate::progress::Progress;
use crate::workspace::Workspace;

/// Istio has no tagged module. This is the commit of its development branch that belongs to its API 1.31.
const ISTIO: (&str, &str) = ("istio.io/istio", "v0.0.0-20260827124520-eed52ebb66ad");
const ENVOY_GATEWAY: (&str, &str) = ("github.com/envoyproxy/gateway", "v1.9.1");

/// The files in these modules that define their kinds and those of the Gateway API.
const ISTIO_CRDS: &[&str] = &["manifests/charts/base/files/crd-all.gen.yaml"];
const ENVOY_GATEWAY_CRDS: &[&str] = &[
    "charts/gateway-helm/charts/crds/crds/generated",
    "charts/gateway-helm/charts/crds/crds/gatewayapi-crds.yaml",
];

/// Istio's warning about every EnvoyFilter.
const ANY_ENVOY_FILTER: &str = "EnvoyFilter exposes internal implementation details";

/// The file that the test of the translation reads.
const TRANSLATION: &str = "tests/tests/mesh/envoy-gateway.json";

pub fn run(workspace: &Workspace, progress: &Progress, runs: &mut Runs) -> Result<()> {
    if find("go").is_none() {
        bail!("Go is not installed; it is needed to build the validators of Istio and Envoy Gateway");
    }
    let tools = workspace.tools().join("mesh");
    fs::create_dir_all(&tools)?;
    let istio = istio_validate(workspace, &tools, progress)?;
    let egctl = egctl(workspace, &tools, progress)?;
    let kustomize = go_tool::KUSTOMIZE.ensure(workspace, progress)?;
    let built = |base: &str| go_tool::kustomize_build(&kustomize, &workspace.root().join("envoy").join(base));
    let reader = go_tool::KUBECTL_VALIDATE.ensure(workspace, progress)?;
    for (base, module, crds) in
        [("istio", ISTIO, ISTIO_CRDS), ("envoy-gateway", ENVOY_GATEWAY, ENVOY_GATEWAY_CRDS)]
    {
        runs.check(&format!("the manifests of {base} are valid for an API server"), || {
            validate_schemas(&reader, module, crds, &tools.join("schemas").join(base), &built(base)?)
        });
    }
    runs.check("Istio accepts its manifests", || validate_istio(&istio, &tools, &built("istio")?));
    let translated = built("envoy-gateway").and_then(|manifests| translate(&egctl, &tools, &manifests));
    runs.check("Envoy Gateway accepts and translates its manifests", || {
        translated.as_ref().map(drop).map_err(copy)
    });
    runs.check("Envoy Gateway refuses a route to nowhere", || {
        let refused = translate(&egctl, &tools, &(built("envoy-gateway")? + TO_NOWHERE)).err();
        let said = refused.map(|error| error.to_string()).unwrap_or_default();
        anyhow::ensure!(said.contains("does not accept"), "it does not refuse it: {said}");
        Ok(())
    });
    runs.check("the translation that the tests load is up to date", || {
        let file = workspace.root().join(TRANSLATION);
        let today = translated.as_ref().map_err(copy)?;
        let today = serde_json::to_string_pretty(today)? + "\n";
        if fs::read_to_string(&file).is_ok_and(|kept| kept == today) {
            return Ok(());
        }
        fs::write(&file, today)?;
        bail!("{TRANSLATION} was out of date and was rewritten: check the difference, and run `cargo xtask test e2e`")
    });
    Ok(())
}

fn copy(error: &anyhow::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}

/// Validates every manifest against the schema of its kind, and again with an unknown member in each.
fn validate_schemas(
    reader: &Path,
    (module, version): (&str, &str),
    crds: &[&str],
    folder: &Path,
    manifests: &str,
) -> Result<()> {
    fs::create_dir_all(folder)?;
    let source = module_folder(folder, module, version)?;
    let mut folders = Vec::new();
    for crd in crds {
        let crd = source.join(crd);
        if crd.is_dir() {
            folders.push(crd);
            continue;
        }
        // The tool reads only folders, and this folder has other files.
        let copies = folder.join("crds");
        fs::create_dir_all(&copies)?;
        let name = crd.file_name().context("it names a file")?;
        fs::write(copies.join(name), fs::read(&crd).with_context(|| crd.display().to_string())?)?;
        folders.push(copies);
    }
    let file = folder.join("manifests.yaml");
    fs::write(&file, manifests)?;
    go_tool::validate(reader, &folders, &file)?;
    for document in manifests.split("\n---\n").map(str::trim_start) {
        // A member that no kind has.
        fs::write(&file, format!("{document}\nplanted: true\n"))?;
        anyhow::ensure!(
            go_tool::validate(reader, &folders, &file).is_err(),
            "a manifest with an unknown member is accepted, too:\n{document}"
        );
    }
    Ok(())
}

fn validate_istio(validate: &Path, tools: &Path, manifests: &str) -> Result<()> {
    let file = tools.join("istio.yaml");
    fs::write(&file, manifests)?;
    let said = istio_says(validate, &file)?;
    // Istio only warns about an EnvoyFilter that Envoy would refuse, and it warns about every EnvoyFilter.
    let warning = said.lines().find(|line| line.contains("* ") && !line.contains(ANY_ENVOY_FILTER));
    anyhow::ensure!(warning.is_none(), "{}", warning.unwrap_or_default());
    // Checks that everything was read: an error at the end is found.
    fs::write(&file, manifests.to_owned() + NO_DESTINATION)?;
    let refused = istio_says(validate, &file).err().map(|error| error.to_string());
    anyhow::ensure!(
        refused.is_some_and(|said| said.contains("planted")),
        "an invalid manifest is accepted, too"
    );
    Ok(())
}

/// A route without a destination.
const NO_DESTINATION: &str = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
    metadata: {name: planted, namespace: mlflow}\nspec: {hosts: [planted.example.com], http: [{}]}\n";

const TO_NOWHERE: &str = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
    metadata: {name: planted, namespace: mlflow}\nspec:\n  parentRefs: [{name: mlflow}]\n  \
    rules: [{backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: nowhere}]}]\n";

fn istio_says(validate: &Path, file: &Path) -> Result<String> {
    let answer = Command::new(validate).arg("-f").arg(file).output()?;
    let said =
        [answer.stdout, answer.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    anyhow::ensure!(answer.status.success(), "Istio refuses them:\n{said}");
    Ok(said)
}

/// Envoy Gateway's translation of its manifests: listeners, routes and clusters, without secrets.
fn translate(egctl: &Path, tools: &Path, manifests: &str) -> Result<Value> {
    let mut input = manifests.to_owned();
    input += &stand_ins()?;
    let file = tools.join("envoy-gateway.yaml");
    fs::write(&file, input)?;
    let mut command = Command::new(egctl);
    command.args(["experimental", "translate", "--from", "gateway-api", "--to", "gateway-api,xds"]);
    let answer = output(command.args(["--type", "all", "--output", "json", "--file"]).arg(&file))?;
    let answer: Value = serde_json::from_str(&answer).context("egctl's answer is not JSON")?;
    if let Some(refused) = refusals(&answer, "") {
        bail!("Envoy Gateway does not accept: {refused}");
    }
    let mut kept = json!({});
    for config in find_configs(&answer) {
        let kind = config["@type"].as_str().unwrap_or_default().rsplit('.').next().unwrap_or_default();
        if ["ListenersConfigDump", "RoutesConfigDump", "ClustersConfigDump"].contains(&kind) {
            kept[kind] = config.clone();
        }
    }
    anyhow::ensure!(
        kept.as_object().is_some_and(|kinds| kinds.len() == 3),
        "the translation lacks something: {kept}"
    );
    Ok(kept)
}

/// The first condition of a resource that is not met, with its message.
fn refusals(value: &Value, path: &str) -> Option<String> {
    match value {
        Value::Object(members) => {
            if members.get("status") == Some(&json!("False")) && members.contains_key("reason") {
                let said = value["message"].as_str().unwrap_or_default();
                // The gateway is not running here, so it has no address.
                let expected = ["Programmed", "Available"]
                    .contains(&value["type"].as_str().unwrap_or_default())
                    && !path.contains("olicies");
                return (!expected).then(|| format!("{path}: {}: {said}", value["reason"]));
            }
            members.iter().find_map(|(name, member)| refusals(member, &format!("{path}.{name}")))
        }
        Value::Array(items) => items.iter().find_map(|item| refusals(item, path)),
        _ => None,
    }
}

fn find_configs(value: &Value) -> Vec<&Value> {
    match value {
        Value::Object(members) => match members.get("configs").and_then(Value::as_array) {
            Some(configs) => configs.iter().collect(),
            None => members.values().flat_map(find_configs).collect(),
        },
        Value::Array(items) => items.iter().flat_map(find_configs).collect(),
        _ => Vec::new(),
    }
}

/// Resources that the manifests refer to but do not contain, including a new certificate.
fn stand_ins() -> Result<String> {
    // The files of the certificate live as long as the authority.
    let authority = Authority::new()?;
    let certificate = authority.issue(&["mlflow.example.com"])?;
    let encoded = |path: &Path| anyhow::Ok(STANDARD.encode(fs::read(path)?));
    Ok(format!(
        "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: mlflow}}\n---\napiVersion: v1\nkind: Secret\n\
         metadata: {{name: mlflow-tls, namespace: mlflow}}\ntype: kubernetes.io/tls\n\
         data: {{tls.crt: {}, tls.key: {}}}\n",
        encoded(&certificate.chain)?,
        encoded(&certificate.key)?,
    ))
}

fn istio_validate(workspace: &Workspace, tools: &Path, progress: &Progress) -> Result<PathBuf> {
    build(ISTIO, "oidcgate", tools, progress, |source| {
        fs::create_dir_all(source.join("oidcgate"))?;
        fs::copy(workspace.root().join("xtask/mesh/istio_validate.go"), source.join("oidcgate/main.go"))?;
        Ok(())
    })
}

fn egctl(workspace: &Workspace, tools: &Path, progress: &Progress) -> Result<PathBuf> {
    build(ENVOY_GATEWAY, "cmd/egctl", tools, progress, |source| {
        let package = source.join("internal/cmd/egctl");
        let file = package.join("translate.go");
        let text = fs::read_to_string(&file)?;
        let patched = text
            .replace("&gatewayapi.Translator{", "&gatewayapi.Translator{\n\t\tWasmCache: imagesUnfetched{},");
        anyhow::ensure!(patched != text, "{} has changed, and the patch does not apply", file.display());
        fs::write(&file, patched)?;
        fs::copy(workspace.root().join("xtask/mesh/egctl_wasm_cache.go"), package.join("wasm_cache.go"))?;
        Ok(())
    })
}

/// The folder where Go stores a module. Downloads the module if needed.
fn module_folder(tools: &Path, module: &str, version: &str) -> Result<PathBuf> {
    let module = format!("{module}@{version}");
    let described =
        output(Command::new("go").current_dir(tools).args(["mod", "download", "-json", &module]))?;
    let described: Value = serde_json::from_str(&described)?;
    described["Dir"].as_str().map(PathBuf::from).context("go mod download names no folder")
}

/// Builds a program in a changed copy of a Go module.
fn build(
    (module, version): (&str, &str),
    package: &str,
    tools: &Path,
    progress: &Progress,
    change: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let name = package.rsplit('/').next().unwrap_or(package);
    let program = tools.join(format!("{name}-{version}"));
    if program.is_file() {
        return Ok(program);
    }
    let task = progress.task(format!("{name} of {module}"));
    let folder = module_folder(tools, module, version)?;
    let source = tools.join(format!("{name}-source"));
    if source.exists() {
        fs::remove_dir_all(&source)?;
    }
    // Go's own copy is read-only, and Go refuses to build with overlaid files in it.
    output(Command::new("cp").args(["-r", "--no-preserve=mode"]).arg(folder).arg(&source))?;
    change(&source)?;
    let unfinished = program.with_added_extension("new");
    let mut go = Command::new("go");
    go.current_dir(&source).env("CGO_ENABLED", "0").args(["build", "-trimpath", "-ldflags", "-s -w", "-o"]);
    run_to_end(go.arg(&unfinished).arg(format!("./{package}")), &task)?;
    fs::rename(unfinished, &program)?;
    fs::remove_dir_all(source)?;
    task.finish("built by Go");
    Ok(program)
}
