//! Lists of exceptions. Each has a reason. An exception that is no longer needed is a problem too, so the lists can
//! only become shorter.

/// The name of what is tolerated, and the reason.
pub type Exception = (&'static str, &'static str);

/// Returns the problems that are not tolerated, and the exceptions that no problem needs. Each finding is a name, to be
/// compared with the exceptions, and the message for the user.
pub fn applied(found: impl IntoIterator<Item = (String, String)>, exceptions: &[Exception]) -> Vec<String> {
    let mut unused: Vec<_> = exceptions.to_vec();
    let mut problems = Vec::new();
    for (name, problem) in found {
        unused.retain(|(exception, _)| *exception != name);
        if !exceptions.iter().any(|(exception, _)| *exception == name) {
            problems.push(problem);
        }
    }
    problems.extend(unused.into_iter().map(|(name, reason)| {
        format!("{name} ({reason}) is an exception that is no longer needed: remove it from the list")
    }));
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_tolerates_what_it_names_and_is_a_problem_when_there_is_no_such_thing() {
        let found =
            || [("a", "a is bad"), ("b", "b is bad")].map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(applied(found(), &[]), ["a is bad", "b is bad"]);
        assert_eq!(applied(found(), &[("a", "why")]), ["b is bad"]);
        let stale = applied(found(), &[("a", "why"), ("b", "why"), ("c", "why")]);
        assert!(stale.len() == 1 && stale[0].starts_with("c (why)"), "{stale:?}");
    }
}
