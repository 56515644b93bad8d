//! The validated configuration. `raw` is the form that an operator writes. [`Config`] is the form after every field has
//! been checked, so the rest of the core does not check again.
//!
//! [`load`] takes these steps: JSON → `tree` (duplicate members) → `environment` (references) → `collecting` (types,
//! unknown fields) → `validate` (meaning). All steps collect their errors in one report and continue after an error, so
//! an operator sees all errors at once.

mod collecting;
mod environment;
mod error;
mod field;
mod model;
mod protobuf_struct;
mod raw;
mod rule_name;
mod scalar;
#[cfg(feature = "schema")]
mod schema;
mod setting;
#[cfg(test)]
mod tests;
mod tree;
mod validate;

use serde::Deserialize;

pub use self::error::{ConfigError, ConfigErrors};
pub use self::model::*;
pub use self::rule_name::{MAX_RULE_REASONS, RuleName};
#[cfg(feature = "schema")]
pub use self::schema::json_schema;
use self::tree::Tree;

/// The longest configuration, in bytes.
pub const MAX_CONFIG_LEN: usize = 1024 * 1024;

/// Loads an operator's configuration: JSON text (Istio, Envoy Gateway, `StringValue`) or a serialised
/// `google.protobuf.Struct` (Envoy). `environment` returns the value of a variable if it is set.
///
/// # Errors
/// All errors at once, each with its path. No message contains a secret.
pub fn load(json: &[u8], environment: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigErrors> {
    if json.len() > MAX_CONFIG_LEN {
        return Err(ConfigErrors::one(format!("is larger than {MAX_CONFIG_LEN} bytes")));
    }
    if json.trim_ascii().is_empty() {
        return Err(ConfigErrors::one("is empty; expected an object".to_owned()));
    }
    let tree = match Tree::from_json(json) {
        Ok(tree) => tree,
        Err(error) => protobuf_struct::decode(json)
            .ok_or_else(|| ConfigErrors::one(format!("is not valid JSON, nor a Struct: {error}")))?,
    };
    let report = error::Report::default();
    let place = report.root();
    let node = environment::expand(tree.into_value(&place), &place, environment);
    let config = raw::Config::deserialize(collecting::Collecting::new(&node, place.clone()))
        .map_err(|_| error::Reported)
        .and_then(|raw| validate::config(raw, &place));
    report.finish(config).map(|(config, warnings)| Config { warnings, ..config })
}
