//! Envoy's readiness: as soon as Envoy is ready, users can sign in.

use oidc_gate_testkit::browser::Client;
use oidc_gate_tests::Gate;

/// How often Envoy is started. A login follows immediately. Each of its requests uses another connection, which the
/// kernel assigns to one of the two workers.
const STARTS: usize = 4;
const LOGINS: usize = 8;

#[test]
fn f704_as_soon_as_envoy_is_ready_everybody_can_sign_in_on_every_worker() {
    let mut gate = Gate::start();
    gate.provider.sign_in_as("mlflow_user");
    for start in 0..STARTS {
        gate.kill_envoy(0);
        // Waits only for /ready of the admin port.
        gate.start_envoy_without_redis(0);
        for login in 0..LOGINS {
            let journey = Client::new().visit(&gate.url("/x")).unwrap();
            let failed = journey.hops.iter().find(|hop| hop.status >= 400);
            assert!(
                failed.is_none() && journey.end().url == gate.url("/x"),
                "start {start}, login {login}: {}\n{}",
                failed.unwrap_or_else(|| journey.end()),
                gate.envoy().trouble("was ready")
            );
        }
    }
}
