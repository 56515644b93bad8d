//! The shipped `envoy.yaml` with the few changes that a test needs. Tests therefore cover what is shipped.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::process::Trouble;

const LISTENER_TYPE: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const LISTENER_FILE: &str = "listener.json";
const LOOPBACK: &str = "127.0.0.1";

/// An Envoy bootstrap configuration that can be changed. It is written as JSON, which Envoy reads as well as YAML.
#[derive(Clone, Debug)]
pub struct EnvoyConfig {
    bootstrap: Value,
    lds_folder: Option<PathBuf>,
    listener_host: &'static str,
}

impl EnvoyConfig {
    /// Reads an `envoy.yaml`.
    ///
    /// # Errors
    /// The file cannot be read, is not YAML, or has no listener with the gate's filter.
    pub fn load(path: &Path) -> Result<Self, Trouble> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Trouble::new(format!("{}: {error}", path.display())))?;
        Self::parse(&text).map_err(|error| Trouble::new(format!("{}: {error}", path.display())))
    }

    /// The `envoy/envoy.yaml` of this repository.
    ///
    /// # Errors
    /// As [`EnvoyConfig::load`].
    pub fn shipped() -> Result<Self, Trouble> {
        Self::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../envoy/envoy.yaml"))
    }

    /// Reads the text of an `envoy.yaml`.
    ///
    /// # Errors
    /// As [`EnvoyConfig::load`].
    pub fn parse(text: &str) -> Result<Self, Trouble> {
        let bootstrap: Value =
            serde_saphyr::from_str(text).map_err(|error| Trouble::new(format!("is not YAML: {error}")))?;
        let mut config = Self { bootstrap, lds_folder: None, listener_host: LOOPBACK };
        for (what, found) in [
            ("a listener", config.find_listener().is_some()),
            ("a Wasm filter", config.find_wasm().is_some()),
            ("the filter's configuration", config.find_plugin().is_some()),
            ("an admin port", config.bootstrap.pointer(ADMIN_ADDRESS).is_some()),
        ] {
            if !found {
                return Err(Trouble::new(format!("does not have {what} where this kit looks for it")));
            }
        }
        Ok(config)
    }

    /// Sets the port for browsers. Envoy listens only on loopback, because tests are not production.
    #[must_use]
    pub fn listener_port(mut self, port: u16) -> Self {
        let host = self.listener_host;
        if let Some(listener) = self.find_listener() {
            listener["address"] = socket_address(host, port);
        }
        self
    }

    /// Listens on every address, for tests in their own network namespace.
    #[must_use]
    pub fn on_every_address(mut self) -> Self {
        self.listener_host = "0.0.0.0";
        self
    }

    /// Sets the admin port, on loopback.
    #[must_use]
    pub fn admin_port(mut self, port: u16) -> Self {
        self.bootstrap["admin"]["address"] = socket_address(LOOPBACK, port);
        self
    }

    /// Points a cluster to one host and port.
    ///
    /// # Panics
    /// If there is no such cluster, which is a typing error in the test.
    #[must_use]
    pub fn cluster(mut self, name: &str, host: &str, port: u16) -> Self {
        self.find_cluster(name)["load_assignment"]["endpoints"] = json!([
            {"lb_endpoints": [{"endpoint": {"address": socket_address(host, port)}}]}
        ]);
        self
    }

    /// Removes the active health check of a cluster, for peers that do not respond or respond with garbage on purpose.
    ///
    /// # Panics
    /// If there is no such cluster.
    #[must_use]
    pub fn without_health_check(mut self, name: &str) -> Self {
        if let Some(cluster) = self.find_cluster(name).as_object_mut() {
            cluster.remove("health_checks");
        }
        self
    }

    /// Changes a cluster.
    ///
    /// # Panics
    /// If there is no such cluster.
    #[must_use]
    pub fn edit_cluster(mut self, name: &str, edit: impl FnOnce(&mut Value)) -> Self {
        edit(self.find_cluster(name));
        self
    }

    /// Adds a cluster.
    #[must_use]
    pub fn add_cluster(mut self, cluster: Value) -> Self {
        if let Some(clusters) = self.bootstrap["static_resources"]["clusters"].as_array_mut() {
            clusters.push(cluster);
        }
        self
    }

    /// Sets the compiled filter to load.
    #[must_use]
    pub fn wasm(mut self, path: &Path) -> Self {
        if let Some(wasm) = self.find_wasm() {
            wasm["vm_config"]["code"] = json!({"local": {"filename": path}});
        }
        self
    }

    /// Changes the filter's configuration, which may be a structure or text in the file.
    ///
    /// # Panics
    /// If it is text and neither JSON nor YAML.
    #[must_use]
    pub fn plugin(mut self, edit: impl FnOnce(&mut Value)) -> Self {
        let Some(plugin) = self.find_plugin() else { return self };
        match plugin.as_str() {
            Some(text) => {
                let mut parsed: Value = match serde_saphyr::from_str(text) {
                    Ok(parsed) => parsed,
                    Err(error) => panic!("the filter's configuration: {error}"),
                };
                edit(&mut parsed);
                *plugin = Value::String(parsed.to_string());
            }
            None => edit(plugin),
        }
        self
    }

    /// Sets a member of the filter's configuration by its path, such as `session.cache_ttl`.
    #[must_use]
    pub fn set(self, path: &str, value: impl Into<Value>) -> Self {
        self.plugin(|plugin| *path.split('.').fold(plugin, |at, name| &mut at[name]) = value.into())
    }

    /// The shipped policy for an application of which the gate knows only that two paths are public, such as the echo.
    #[must_use]
    pub fn without_mlflow_preset(self) -> Self {
        self.plugin(|plugin| {
            let policy = &mut plugin["policy"];
            policy["preset"] = Value::Null;
            policy["rules"] = json!([
                {"path": {"exact": "/health"}, "methods": ["GET"], "access": "public"},
                {"path": {"exact": "/version"}, "methods": ["GET"], "access": "public"},
            ]);
        })
    }

    /// Gives the filter its configuration as text, which reaches it unchanged. A `Struct` is parsed by Envoy first.
    ///
    /// # Panics
    /// If there is no filter.
    #[must_use]
    pub fn plugin_as_text(mut self, text: &str) -> Self {
        match self.find_wasm() {
            Some(wasm) => {
                wasm["configuration"] =
                    json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": text});
            }
            None => panic!("no filter is configured"),
        }
        self
    }

    /// Changes the whole bootstrap, where no other method fits.
    #[must_use]
    pub fn bootstrap(mut self, edit: impl FnOnce(&mut Value)) -> Self {
        edit(&mut self.bootstrap);
        self
    }

    /// Changes the listener.
    ///
    /// # Panics
    /// If there is none, so that no assertion in `edit` is left out.
    #[must_use]
    pub fn listener(mut self, edit: impl FnOnce(&mut Value)) -> Self {
        edit(self.find_listener().expect("a listener"));
        self
    }

    /// Changes the listener's HTTP connection manager.
    #[must_use]
    pub fn manager(self, edit: impl FnOnce(&mut Value)) -> Self {
        self.listener(|listener| edit(&mut listener["filter_chains"][0]["filters"][0]["typed_config"]))
    }

    /// Moves the listener into a file in `folder` that Envoy watches. A running Envoy can then get another listener
    /// with [`EnvoyConfig::publish_listener`].
    #[must_use]
    pub fn with_lds(mut self, folder: &Path) -> Self {
        self.lds_folder = Some(folder.to_owned());
        self
    }

    /// Writes the bootstrap to `path`, and with [`EnvoyConfig::with_lds`] also the listener's file.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Trouble> {
        let mut bootstrap = self.bootstrap.clone();
        if let Some(folder) = &self.lds_folder {
            self.publish_listener()?;
            if let Some(resources) = bootstrap["static_resources"].as_object_mut() {
                resources.remove("listeners");
            }
            bootstrap["dynamic_resources"] = json!({"lds_config": {
                "resource_api_version": "V3",
                "path_config_source": {"path": folder.join(LISTENER_FILE), "watched_directory": {"path": folder}},
            }});
        }
        std::fs::write(path, bootstrap.to_string())?;
        Ok(())
    }

    /// Replaces the listener's file by this configuration's listener, atomically.
    ///
    /// # Errors
    /// The file cannot be written, or [`EnvoyConfig::with_lds`] was not called.
    pub fn publish_listener(&self) -> Result<(), Trouble> {
        let folder = self
            .lds_folder
            .as_ref()
            .ok_or_else(|| Trouble::new("this configuration has no listener folder"))?;
        let mut listener = self.bootstrap["static_resources"]["listeners"][0].clone();
        listener["@type"] = json!(LISTENER_TYPE);
        let response = json!({"resources": [listener]});
        // Envoy watches for a rename into the folder. It could read a plain write before it is complete.
        let draft = tempfile::NamedTempFile::new_in(folder)?;
        std::fs::write(draft.path(), response.to_string())?;
        draft.persist(folder.join(LISTENER_FILE)).map_err(|error| Trouble::from(error.error))?;
        Ok(())
    }

    fn find_cluster(&mut self, name: &str) -> &mut Value {
        let clusters = self.bootstrap["static_resources"]["clusters"].as_array_mut();
        match clusters.and_then(|clusters| clusters.iter_mut().find(|cluster| cluster["name"] == name)) {
            Some(cluster) => cluster,
            None => panic!("envoy.yaml has no cluster {name}"),
        }
    }

    fn find_listener(&mut self) -> Option<&mut Value> {
        self.bootstrap.pointer_mut("/static_resources/listeners/0")
    }

    fn find_wasm(&mut self) -> Option<&mut Value> {
        self.find_listener()?
            .pointer_mut("/filter_chains/0/filters/0/typed_config/http_filters")?
            .as_array_mut()?
            .iter_mut()
            .find_map(|filter| {
                filter.pointer_mut("/typed_config/config").filter(|config| config["vm_config"].is_object())
            })
    }

    fn find_plugin(&mut self) -> Option<&mut Value> {
        self.find_wasm()?.pointer_mut("/configuration/value")
    }
}

const ADMIN_ADDRESS: &str = "/admin/address/socket_address/port_value";

pub(crate) fn socket_address(host: &str, port: u16) -> Value {
    json!({"socket_address": {"address": host, "port_value": port}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> EnvoyConfig {
        EnvoyConfig::shipped().unwrap()
    }

    #[test]
    fn the_shipped_configuration_never_fails_open() {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../envoy/envoy.yaml"))
            .unwrap();
        let mut config = shipped();
        let wasm = config.find_wasm().unwrap();
        assert_eq!(wasm["failure_policy"], "FAIL_RELOAD");
        // Without this setting the filter cannot read the provider's logout messages.
        assert_eq!(wasm["allow_on_headers_stop_iteration"], true);
        assert!(!text.contains("fail_open: true"));
        assert_eq!(config.bootstrap.pointer("/admin/address/socket_address/address").unwrap(), "127.0.0.1");
    }

    #[test]
    fn edits_change_what_they_name_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("envoy.json");
        shipped()
            .listener_port(4001)
            .admin_port(4002)
            .cluster("redis", "127.0.0.1", 4003)
            .wasm(Path::new("/x/gate.wasm"))
            .plugin(|plugin| plugin["clock_leeway"] = json!("1s"))
            .write(&path)
            .unwrap();
        let written: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let mut edited = EnvoyConfig { bootstrap: written, lds_folder: None, listener_host: LOOPBACK };
        assert_eq!(edited.find_listener().unwrap()["address"], socket_address("127.0.0.1", 4001));
        assert_eq!(edited.bootstrap["admin"]["address"], socket_address("127.0.0.1", 4002));
        let _ = edited.clone().plugin(|plugin| {
            assert_eq!(plugin["clock_leeway"], "1s");
            assert_eq!(plugin["client"]["id"], "mlflow");
        });
        assert_eq!(edited.find_wasm().unwrap()["vm_config"]["code"]["local"]["filename"], "/x/gate.wasm");
        let _ = edited.edit_cluster("mlflow", |cluster| {
            assert_eq!(
                cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"],
                socket_address("mlflow", 5000)
            );
        });
    }

    /// All files and pages from which readers copy, with their names.
    fn shown() -> Vec<(PathBuf, String)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut folders: Vec<PathBuf> =
            ["docs", "envoy", "compose", "monitoring"].iter().map(|folder| root.join(folder)).collect();
        let mut files = vec![root.join("README.md"), root.join("SECURITY.md"), root.join("Dockerfile")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        let texts =
            files.into_iter().filter_map(|file| Some((file.clone(), std::fs::read_to_string(file).ok()?)));
        texts.collect()
    }

    #[test]
    fn f801_nobody_is_internal_in_anything_that_is_shipped() {
        let mut without = 0;
        for (file, text) in shown() {
            let settings = text.lines().filter(|line| !line.trim_start().starts_with('#'));
            let setting =
                settings.into_iter().find(|line| line.trim_start().starts_with("internal_address_config"));
            assert_eq!(setting, None, "{}", file.display());
            without += 1;
        }
        assert!(without > 20, "{without}");
    }

    #[test]
    fn f705_where_an_authority_is_shown_the_host_in_the_certificate_is_shown_beside_it() {
        let mut shown_so = 0;
        for (file, text) in shown() {
            let lines: Vec<&str> = text.lines().collect();
            for (number, line) in lines.iter().enumerate() {
                if line.trim_start().starts_with("trusted_ca:") {
                    let around = &lines[number.saturating_sub(4)..lines.len().min(number + 5)];
                    let named = around
                        .iter()
                        .any(|line| line.trim_start().starts_with("match_typed_subject_alt_names"));
                    assert!(named, "{}:{}", file.display(), number + 1);
                    shown_so += 1;
                }
            }
            // Each paragraph that mentions a validation context must mention the name check too.
            for paragraph in text.split("\n\n").filter(|paragraph| paragraph.contains("validation_context")) {
                assert!(
                    paragraph.contains("match_typed_subject_alt_names"),
                    "{}: {paragraph}",
                    file.display()
                );
            }
        }
        assert!(shown_so >= 2, "{shown_so}");
    }

    #[test]
    fn f1202_everything_that_starts_envoy_limits_the_draining_of_a_replaced_listener() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for file in ["compose/start-envoy.sh", "Dockerfile", "envoy/envoy.yaml", "xtask/src/stack/envoy.rs"] {
            let text = std::fs::read_to_string(root.join(file)).unwrap();
            let words: Vec<&str> = text
                .split(|c: char| c.is_whitespace() || "\",".contains(c))
                .filter(|word| !word.is_empty())
                .collect();
            let follows = |flag: &str, value: &str| {
                let after = words.iter().skip_while(|word| **word != flag).skip(1);
                after.into_iter().find(|word| **word != ".to_owned()") == Some(&value)
            };
            assert!(follows("--drain-time-s", "60"), "{file}");
            assert!(follows("--drain-strategy", "immediate"), "{file}");
        }
    }

    #[test]
    fn with_lds_the_listener_is_in_its_own_file_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("envoy.json");
        shipped().with_lds(folder.path()).write(&path).unwrap();
        let bootstrap: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let listener: Value =
            serde_json::from_slice(&std::fs::read(folder.path().join(LISTENER_FILE)).unwrap()).unwrap();
        assert!(bootstrap["static_resources"].get("listeners").is_none());
        assert_eq!(listener["resources"][0]["name"], "edge");
    }

    #[test]
    fn a_file_without_the_filter_is_refused_with_what_is_missing() {
        let error = EnvoyConfig::parse("admin: {}\nstatic_resources: {listeners: [{name: x}]}").unwrap_err();
        assert!(error.to_string().contains("a Wasm filter"), "{error}");
    }
}
