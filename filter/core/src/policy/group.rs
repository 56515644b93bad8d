//! Compares a configured group name with a group of the claim: as a whole, byte for byte.

/// Keycloak's claim contains the full path (`/mlflow_admins`). A configured `mlflow_admins` matches exactly the
/// top-level group, with or without the leading slash, and never `/dept/mlflow_admins`.
pub fn matches(configured: &str, claimed: &str) -> bool {
    without_leading_slash(configured) == without_leading_slash(claimed)
}

fn without_leading_slash(name: &str) -> &str {
    name.strip_prefix('/').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

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
