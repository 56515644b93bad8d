//! How a configured group name meets a group of the claim: whole, byte for byte.

/// Keycloak's claim carries the full path (`/mlflow_admins`); a configured `mlflow_admins` means exactly the top-level
/// group, with or without that one slash, and never `/dept/mlflow_admins`.
pub fn matches(configured: &str, claimed: &str) -> bool {
    without_leading_slash(configured) == without_leading_slash(claimed)
}

fn without_leading_slash(name: &str) -> &str {
    name.strip_prefix('/').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn bt16_groups_match_whole_or_not_at_all() {
        for (configured, claimed) in [
            ("admins", "/admins"),
            ("admins", "admins"),
            ("/admins", "admins"),
            ("/dept/admins", "/dept/admins"),
        ] {
            assert!(matches(configured, claimed), "{configured} {claimed}");
        }
        for claimed in [
            "/x/admins",
            "//admins",
            "/admins/",
            "admins ",
            " admins",
            "Admins",
            "admin",
            "adminss",
            "/admins/sub",
            "\u{430}dmins",
            "a.mins",
            "",
            "/",
        ] {
            assert!(!matches("admins", claimed), "{claimed}");
        }
        assert!(!matches("mlflow.admins", "mlflowxadmins"));
    }
}
