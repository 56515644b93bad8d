//! Logging in through Keycloak.

use crate::browser::Browser;
use crate::stack::Stack;

#[test]
fn a_person_logs_in_through_keycloak_and_lands_in_mlflow() {
    let stack = Stack::running();
    let browser = Browser::start(&stack);
    browser.sign_in(&stack, "/", "mlflow_user");
    browser.wait_for_text("Default");
    browser.picture("login.png");
}
