//! Consistency of the repository's files: variables, versions, blocks of the pages.

use std::collections::BTreeSet;

const COMPOSE_FILES: [&str; 3] = [
    include_str!("../../../docker-compose.yml"),
    include_str!("../../../docker-compose.monitoring.yml"),
    include_str!("../../../docker-compose.tls.yml"),
];
const ENV_EXAMPLE: &str = include_str!("../../../.env.example");

/// Variables that Compose itself reads.
const OF_COMPOSE: [&str; 2] = ["COMPOSE_FILE", "COMPOSE_PROFILES"];

/// The names of `${NAME…}` in a Compose file; `$$` is a dollar sign for the container.
fn variables(file: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for (at, _) in file.match_indices("${") {
        if !file[..at].ends_with('$') {
            let rest = &file[at + 2..];
            let end = rest.find(|letter: char| {
                !(letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_')
            });
            found.insert(&rest[..end.unwrap_or(rest.len())]);
        }
    }
    found
}

/// The names of variables that a container gets from `.env` unchanged, or not at all if they are unset.
fn passed_on(file: &str) -> impl Iterator<Item = &str> {
    let names = file.lines().filter_map(|line| line.trim().strip_suffix(':'));
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
}

#[test]
fn every_variable_of_the_compose_files_is_in_env_example_and_no_other() {
    let mut used: BTreeSet<&str> = COMPOSE_FILES.iter().flat_map(|file| variables(file)).collect();
    assert!(used.len() > 30, "{used:?}");
    used.extend(OF_COMPOSE);
    used.extend(COMPOSE_FILES.iter().flat_map(|file| passed_on(file)));
    // Mentioned only in a note that it is not read.
    used.remove("OIDC_SCOPES");
    let explained: BTreeSet<&str> = ENV_EXAMPLE
        .lines()
        .filter_map(|line| line.trim_start_matches('#').split_once('='))
        .map(|(name, _)| name)
        .filter(|name| !name.contains(' '))
        .collect();
    let lacks: Vec<_> = used.difference(&explained).collect();
    let unused: Vec<_> = explained.difference(&used).collect();
    assert!(
        lacks.is_empty() && unused.is_empty(),
        ".env.example lacks {lacks:?}, and nothing reads {unused:?}"
    );
}

#[test]
fn whatever_builds_the_filter_does_it_with_the_toolchain_of_the_repository() {
    let toolchain = include_str!("../../../rust-toolchain.toml");
    let channel =
        toolchain.lines().find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"')).unwrap();
    let image = format!("rust:{channel}-slim");
    for (name, text, times) in [
        ("Dockerfile", include_str!("../../../Dockerfile"), 1),
        ("docker-compose.yml", COMPOSE_FILES[0], 1),
        (".env.example", ENV_EXAMPLE, 1),
        ("docs/compose.md", include_str!("../../../docs/compose.md"), 1),
    ] {
        assert_eq!(text.matches(&image).count(), times, "{name} names {image}");
        assert_eq!(text.matches("rust:").count(), times, "{name} names no other");
    }
    let minimum = format!("rust-version = \"{}\"", channel.rsplit_once('.').unwrap().0);
    assert!(include_str!("../../../Cargo.toml").contains(&minimum), "Cargo.toml says {minimum}");
    // The stand-in reads it from there itself.
    assert!(include_str!("../../../.ci/images.sh").contains("rust-toolchain.toml\")-slim"));
}

#[test]
fn the_tls_that_the_page_prints_is_what_the_override_file_mounts() {
    let page = include_str!("../../../docs/production.md");
    for file in
        [include_str!("../../../envoy/tls-socket.yaml"), include_str!("../../../envoy/tls-secret.yaml")]
    {
        let (_, settings) = file.split_once('\n').unwrap();
        assert!(
            settings.lines().count() > 5 && page.contains(settings),
            "the page does not print:\n{settings}"
        );
    }
}
