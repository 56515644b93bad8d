//! What Envoy says of its readiness: from then on people can sign in.

use oidc_gate_testkit::browser::Client;
use oidc_gate_tests::Gate;

/// Starts of Envoy, and logins right after each: each of their requests has a connection of its own, which the kernel
/// gives to one of the two workers.
const STARTS: usize = 4;
const LOGINS: usize = 8;

#[test]
fn f704_as_soon_as_envoy_is_ready_everybody_can_sign_in_on_every_worker() {
    let mut gate = Gate::start();
    gate.provider.sign_in_as("mlflow_user");
    for start in 0..STARTS {
        gate.kill_envoy(0);
        // Waits for /ready of the admin port, and for nothing else.
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
